"""Indexes of datasets of Lance, encoded by the nodes of a cluster of Ray."""

from __future__ import annotations

from functools import partial
from typing import Any

from ..cluster.head import ClusterLost, Watch, head_of_this, in_short, watched
from .protocol import EngineError

LIST = 4_096
"""Vectors of a list, as Lance has it."""

SAMPLE = 256
"""Vectors that each list, and each of the CODES of IVF_PQ, is trained with."""

CODES = 256

BITS = 5
"""Of a code of IVF_RQ for each component, as Lance has it."""


def build(dataset: Any, n: int, index_type: str, **options: Any) -> Any:
    """
    The dataset with an index of its n vectors: trained here, encoded on all free processors of the cluster that this process is
    connected to. Its nodes must reach the place of the dataset. Raises EngineError.
    """
    try:
        import lance_ray
    except ModuleNotFoundError as error:
        raise EngineError(
            "an index is built on a cluster by lance-ray, which is not installed: pip install lance-ray"
        ) from error
    import ray

    lists = max(1, n // LIST)
    trained = lists
    if index_type == "IVF_RQ":
        options["num_bits"] = BITS
    else:
        trained = max(lists, CODES)
    watch = Watch(head_of_this())
    try:
        free = int(watched(ray.available_resources, watch).get("CPU", 0))
        if free < 1:
            raise EngineError(
                "the cluster has no free processor to build the index on; wait until its other work ends, or leave --ray out"
            )
        create = partial(
            lance_ray.create_index,
            dataset,
            "vector",
            index_type,
            num_workers=free,
            num_partitions=lists,
            sample_rate=max(2, min(SAMPLE, n // trained)),
            **options,
        )
        return watched(create, watch)
    except ClusterLost as error:
        raise EngineError(str(error)) from error
    except (ray.exceptions.RayError, ConnectionError, RuntimeError) as error:
        # lance-ray has Ray's error as the cause of its own; others of the same kind are those of Lance.
        cause = error.__cause__ if isinstance(error, RuntimeError) else error
        if not isinstance(cause, ray.exceptions.RayError | ConnectionError):
            raise
        raise EngineError(
            f"the cluster did not build the index ({in_short(cause)}); see to the cluster and run this again, or leave --ray out"
        ) from error
