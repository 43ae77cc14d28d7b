"""
An engine for datasette-image-search: index-images --engine milvus --uri http://host:19530, or a file for Milvus Lite.

A server has no versions, so the state is away while it is changed: until it is there again, searches do without it.
"""

from collections.abc import Callable

import numpy as np
from pymilvus import CollectionSchema, DataType, MilvusClient

from datasette_image_search.engines.protocol import EngineError, EngineRequest, VectorEngine
from datasette_image_search.hookspecs import hookimpl

VECTORS = "image_search_vectors"
STATE = "image_search_state"
LONGEST_STATE = 8_192
BATCH = 1_000


class MilvusEngine(VectorEngine):
    """
    Two collections: the vectors by their ids, and the state with its token, if all is committed. Errors of pymilvus need no
    care: whoever calls an engine gets each as an EngineError.
    """

    def __init__(self, request: EngineRequest) -> None:
        self._request = request
        self._client = MilvusClient(request.uri)

    def _has(self, collection: str) -> bool:
        return self._client.has_collection(collection)

    def _make(self) -> None:
        if not self._has(VECTORS):
            schema = self._client.create_schema(auto_id=False)
            schema.add_field("id", DataType.INT64, is_primary=True)
            schema.add_field("vector", DataType.FLOAT_VECTOR, dim=self._request.dimensions)
            self._create(VECTORS, schema)

    def _create(self, name: str, schema: CollectionSchema) -> None:
        indexes = self._client.prepare_index_params()
        indexes.add_index("vector", index_type="FLAT", metric_type="IP")
        options = {"schema": schema, "index_params": indexes, "consistency_level": "Strong"}
        self._client.create_collection(name, **options)

    def state(self) -> str | None:
        if not self._has(STATE):
            return None
        rows = self._client.query(STATE, "id == 0", output_fields=["token", "state"])
        if not rows or self._request.token not in (None, rows[0]["token"]):
            return None
        return rows[0]["state"]

    def _begin(self) -> None:
        """Nobody believes what is there until the next commit."""
        if self._has(STATE):
            self._client.drop_collection(STATE)
        self._make()

    def clear(self) -> None:
        for collection in (STATE, VECTORS):
            if self._has(collection):
                self._client.drop_collection(collection)

    def add(self, ids: np.ndarray, vectors: np.ndarray) -> None:
        self._begin()
        for start in range(0, len(ids), BATCH):
            pairs = zip(
                ids[start : start + BATCH].tolist(), vectors[start : start + BATCH], strict=True
            )
            self._client.insert(VECTORS, [{"id": id, "vector": row} for id, row in pairs])

    def remove(self, ids: np.ndarray) -> None:
        self._begin()
        for part in self._parts(ids):
            self._client.delete(VECTORS, ids=part)

    def optimize(self, type: str) -> None:
        if type not in self.types:
            raise EngineError(f"milvus makes no index of type {type!r}; use auto")

    def commit(self, token: str, state: str) -> None:
        self._begin()
        schema = self._client.create_schema(auto_id=False)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("token", DataType.VARCHAR, max_length=64)
        schema.add_field("state", DataType.VARCHAR, max_length=LONGEST_STATE)
        # A collection without any vector is none for Milvus.
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=2)
        self._create(STATE, schema)
        row = {"id": 0, "token": token, "state": state, "vector": [1.0, 0.0]}
        self._client.insert(STATE, [row])

    def count(self) -> int:
        if not self._has(VECTORS):
            return 0
        return self._client.query(VECTORS, "", output_fields=["count(*)"])[0]["count(*)"]

    def bytes_per_vector(self) -> float:
        return 4.0 * self._request.dimensions + 8

    def nearest(
        self,
        vectors: np.ndarray,
        n: int,
        ids: np.ndarray | None = None,
        *,
        effort: int | None = None,  # noqa: ARG002 (FLAT is exact)
    ) -> tuple[np.ndarray, np.ndarray]:
        n = min(n, self.count() if ids is None else len(ids))
        scores = np.full((len(vectors), n), -np.inf, dtype=np.float32)
        found = np.full((len(vectors), n), -1, dtype=np.int64)
        if not n:
            return scores, found
        among = {} if ids is None else {"filter": f"id in {ids.tolist()}"}
        rows = self._client.search(VECTORS, [*vectors], limit=n, anns_field="vector", **among)
        for at, hits in enumerate(rows):
            scores[at, : len(hits)] = [hit["distance"] for hit in hits]
            found[at, : len(hits)] = [hit["id"] for hit in hits]
        return scores, found

    def scores(self, ids: np.ndarray, vector: np.ndarray) -> np.ndarray:
        vectors = self.vectors(ids)
        return np.where(vectors.any(axis=1), vectors @ vector, -np.inf).astype(np.float32)

    def vectors(self, ids: np.ndarray) -> np.ndarray:
        found = np.zeros((len(ids), self._request.dimensions), dtype=np.float32)
        for part in self._parts(ids):
            for row in self._client.get(VECTORS, ids=part, output_fields=["id", "vector"]):
                found[np.searchsorted(ids, row["id"])] = row["vector"]
        return found

    @staticmethod
    def _parts(ids: np.ndarray) -> list[list[int]]:
        return [ids[start : start + BATCH].tolist() for start in range(0, len(ids), BATCH)]


@hookimpl
def register_vector_engines(register: Callable[..., None]) -> None:
    register("milvus", MilvusEngine)
