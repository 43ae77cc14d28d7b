"""
The head of a Ray cluster, asked beside Ray: that tries for minutes, takes a refused token for a head that is away, and does not
say that the head stays away. And the error of a call to Ray that does not reach the cluster.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from urllib.parse import urlsplit

from ..errors import ImageSearchError

ANSWER_SECONDS = 10.0

ASK_SECONDS = 3.0
"""How often a head is asked whether it is there still."""

SILENT_SECONDS = 25.0
"""The longest silence of a head, from the first question without an answer."""

LONGEST_SAID = 200
"""Characters of what Ray says."""

AUTO = "auto"
AUTH_MODE = "RAY_AUTH_MODE"
CLIENT = "ray://"

AGAIN = "run this again: what is committed stays"

USUAL_PORTS = "Ray's ports are usually 6379, and 10001 with ray://"


LOOK_SECONDS = 0.5
"""How often a Ctrl-C is noticed, and a head asked, while nothing comes back."""

T = TypeVar("T")


class ClusterError(ImageSearchError):
    """A cluster that is not there, or has no room."""


class ClusterLost(ClusterError):
    """A cluster cannot go on in the middle of a run. What is committed stays."""


class TokenRefused(Exception):
    """A head asks for a token, and this machine has none or another."""


@contextmanager
def in_reach() -> Iterator[None]:
    """What a call to Ray raises, other than the error of a task, if Ray or the server of ray:// is away is ClusterLost."""
    import grpc
    import ray

    if not ray.is_initialized():
        # A lost cluster of ray://. Ray would start another one to ask it.
        raise _out_of_reach("the connection is lost")
    try:
        yield
    except (OSError, grpc.RpcError, ray.exceptions.RayError) as error:
        raise _out_of_reach(in_short(error)) from error


def in_short(error: BaseException) -> str:
    """What Ray says, which may be the log of a server, and why, if it knows."""
    told = getattr(error, "details", None)
    said = " ".join(str(told() if callable(told) else error).split())
    shown = said[:LONGEST_SAID] or type(error).__name__
    return shown if error.__cause__ is None else f"{shown}: {in_short(error.__cause__)}"


def _out_of_reach(said: str) -> ClusterLost:
    return ClusterLost(f"this machine cannot reach the cluster any more ({said}); {AGAIN}")


@dataclass(frozen=True)
class Head:
    """
    The server of a head, HOST:PORT, or that of ray://, `is_client`. That one answers by itself, but asks the cluster for a
    `session`, by which it knows this process.
    """

    target: str
    is_client: bool
    session: tuple[tuple[str, str], ...] = ()

    def ask(self, seconds: float) -> None:
        """Returns if it answers within some seconds. Raises TokenRefused, and OSError if it is away or no Ray."""
        import grpc
        from ray._private.grpc_utils import init_grpc_channel
        from ray._private.ray_constants import GLOBAL_GRPC_OPTIONS
        from ray.exceptions import AuthenticationError

        method, question = self._question()
        try:
            # A channel of some age would wait before it connects anew.
            with init_grpc_channel(self.target, GLOBAL_GRPC_OPTIONS) as channel:
                ask = channel.unary_unary(f"/ray.rpc.{method}")
                ask(question, timeout=seconds, metadata=self.session)
        except AuthenticationError as error:
            raise TokenRefused from error
        except grpc.RpcError as error:
            code = error.code()
            if code == grpc.StatusCode.UNAUTHENTICATED:
                raise TokenRefused from error
            if code == grpc.StatusCode.UNIMPLEMENTED:
                raise OSError(f"another program listens there; {USUAL_PORTS}") from None
            raise OSError(f"nothing of Ray answers there; {USUAL_PORTS}") from None

    def _question(self) -> tuple[str, bytes]:
        if not self.is_client:
            return "NodeInfoGcsService/CheckAlive", b""
        from ray.core.generated import ray_client_pb2

        messages: Any = ray_client_pb2
        types = messages.ClusterInfoType
        question = messages.ClusterInfoRequest(
            type=types.CLUSTER_RESOURCES if self.session else types.PING
        )
        return "RayletDriver/ClusterInfo", question.SerializeToString()

    def answers(self, seconds: float) -> bool:
        try:
            self.ask(seconds)
        except (OSError, TokenRefused):
            return False
        return True


class Watch:
    """Whether a head is there, as far as it was asked."""

    def __init__(self, head: Head) -> None:
        self._head = head
        self._asked = time.monotonic()
        self._silent_since: float | None = None

    def is_there(self, *, anew: bool = False) -> bool:
        """
        As it was within ASK_SECONDS, or is now. While it is not, Ray is asked nothing that needs it. Raises ClusterLost when it
        has not answered two questions or more, for SILENT_SECONDS.
        """
        began = time.monotonic()
        if anew or self._silent_since is not None or began - self._asked > ASK_SECONDS:
            is_there = self._head.answers(ANSWER_SECONDS)
            self._asked = time.monotonic()
            if is_there:
                self._silent_since = None
            elif self._silent_since is None:
                # This process may not have asked for long, while it was busy.
                self._silent_since = began
            elif self._asked - self._silent_since > SILENT_SECONDS:
                raise ClusterLost(
                    f"the head of the cluster, {self._head.target}, does not answer any more; see to it, and {AGAIN}"
                )
        return self._silent_since is None


def watched(call: Callable[[], T], watch: Watch) -> T:
    """
    What a call to Ray returns or raises. It is made in a thread of its own, because it may wait for a head that is away, and stays
    there. Raises ClusterLost, as the watch does.
    """
    made: Future[T] = Future()

    def make() -> None:
        try:
            made.set_result(call())
        except BaseException as error:
            made.set_exception(error)

    threading.Thread(target=make, daemon=True).start()
    while not wait([made], LOOK_SECONDS).done:
        watch.is_there()
    return made.result()


def head_at(address: str) -> Head:
    """The head at HOST:PORT or ray://HOST:PORT. Raises ValueError if it is neither."""
    is_client = address.startswith(CLIENT)
    parts = urlsplit(address if is_client else f"//{address}")
    if not (parts.hostname and parts.port):
        raise ValueError(f"it needs a host and a port; {USUAL_PORTS}")
    return Head(parts.netloc, is_client)


def resolved(address: str) -> str:
    """The address that "auto" stands for. Raises ConnectionError if there is none."""
    from ray._private.services import canonicalize_bootstrap_address

    if address != AUTO:
        return address
    named = os.environ.get("RAY_ADDRESS") or AUTO
    return str(canonicalize_bootstrap_address(AUTO)) if named == AUTO else named


def head_of_this() -> Head:
    """The head that Ray in this process is connected to."""
    import ray
    from ray.util.client import ray as client

    if not client.is_connected():
        return head_at(ray.get_runtime_context().gcs_address)
    worker: Any = client.get_context().client_worker
    return replace(head_at(f"{CLIENT}{worker._conn_str}"), session=tuple(worker.metadata))


@contextmanager
def authentication_kept() -> Iterator[None]:
    """Whether Ray sends a token is the same afterwards: Ray itself changes it for all that this process connects to later."""
    before = os.environ.get(AUTH_MODE)
    try:
        yield
    finally:
        _set_mode(before)


def authenticate(address: str) -> None:
    """
    From now on Ray sends a token if the head at an address asks for one, and only then: actors without a token could not
    answer it. A person's own RAY_AUTH_MODE stays. Raises OSError or ValueError if no Ray answers, ClusterError if it refuses the token.
    """
    head = head_at(address)
    own = os.environ.get(AUTH_MODE) or None
    modes = ("disabled", "token") if own is None else (own,)
    for mode in modes:
        _set_mode(mode)
        with suppress(TokenRefused):
            head.ask(ANSWER_SECONDS)
            return
    also = "" if own is None else f", and RAY_AUTH_MODE, which is {own!r}, to 'token'"
    raise ClusterError(
        f"the cluster at {address!r} asks for a token, and this machine has another or none; copy ~/.ray/auth_token from its "
        f"head, or set RAY_AUTH_TOKEN{also}"
    )


def _set_mode(mode: str | None) -> None:
    import ray

    raylet: Any = ray._raylet
    if mode is None:
        os.environ.pop(AUTH_MODE, None)
    else:
        os.environ[AUTH_MODE] = mode
    raylet.Config.initialize("")
    raylet.AuthenticationTokenLoader.instance().reset_cache()
