"""
The head of a Ray cluster, asked beside Ray: that tries for minutes, takes a refused token for a head that is away, and ends
this process if the head stays away.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from .model_choice import RunError

ANSWER_SECONDS = 10.0

ASK_SECONDS = 3.0
"""How often a head is asked whether it is there still."""

SILENT_SECONDS = 25.0
"""The longest silence of a head: after 60 seconds, Ray ends this process without a word."""

AUTO = "auto"
AUTH_MODE = "RAY_AUTH_MODE"
CLIENT = "ray://"

AGAIN = "run this again: what is committed stays"

USUAL_PORTS = "Ray's ports are usually 6379, and 10001 with ray://"


class ClusterLost(RunError):
    """A cluster cannot go on in the middle of a run. What is committed stays."""


class TokenRefused(Exception):
    """A head asks for a token, and this machine has none or another."""


@dataclass(frozen=True)
class Head:
    """The server of a head: HOST:PORT, and something that it can be asked."""

    target: str
    question: str

    def ask(self, seconds: float) -> None:
        """Returns if it answers within some seconds. Raises TokenRefused, and OSError if it is away or no Ray."""
        import grpc
        from ray._private.grpc_utils import init_grpc_channel
        from ray.exceptions import AuthenticationError

        try:
            # A channel of some age would wait before it connects anew.
            with init_grpc_channel(self.target) as channel:
                channel.unary_unary(self.question)(b"", timeout=seconds)
        except AuthenticationError as error:
            raise TokenRefused from error
        except grpc.RpcError as error:
            code = error.code()
            if code == grpc.StatusCode.UNAUTHENTICATED:
                raise TokenRefused from error
            if code == grpc.StatusCode.UNIMPLEMENTED:
                raise OSError(f"another program listens there; {USUAL_PORTS}") from error
            if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                raise OSError(f"nothing of Ray answers there; {USUAL_PORTS}") from error

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
        self._heard = self._asked = time.monotonic()
        self._is_there = True

    def is_there(self, *, anew: bool = False) -> bool:
        """
        As it was within ASK_SECONDS, or is now. While it is not, Ray is asked nothing that needs it. Raises ClusterLost when it
        has been silent for SILENT_SECONDS.
        """
        now = time.monotonic()
        if anew or not self._is_there or now - self._asked > ASK_SECONDS:
            self._is_there = self._head.answers(ANSWER_SECONDS)
            self._asked = time.monotonic()
            if self._is_there:
                self._heard = self._asked
            elif self._asked - self._heard > SILENT_SECONDS:
                raise ClusterLost(
                    f"the head of the cluster, {self._head.target}, does not answer any more; see to it, and {AGAIN}"
                )
        return self._is_there


def head_at(address: str) -> Head:
    """The head at HOST:PORT or ray://HOST:PORT. Raises ValueError if it is neither."""
    is_client = address.startswith(CLIENT)
    parts = urlsplit(address if is_client else f"//{address}")
    if not (parts.hostname and parts.port):
        raise ValueError(f"it needs a host and a port; {USUAL_PORTS}")
    service = "RayletDriver/ClusterInfo" if is_client else "NodeInfoGcsService/CheckAlive"
    return Head(parts.netloc, f"/ray.rpc.{service}")


def resolved(address: str) -> str:
    """The address that "auto" stands for. Raises ConnectionError if there is none."""
    from ray._private.services import canonicalize_bootstrap_address

    if address != AUTO:
        return address
    named = os.environ.get("RAY_ADDRESS", AUTO)
    return str(canonicalize_bootstrap_address(AUTO)) if named == AUTO else named


def head_of_this(address: str) -> Head:
    """The head that Ray in this process is connected to, by some address."""
    import ray

    return head_at(address if address.startswith(CLIENT) else ray.get_runtime_context().gcs_address)


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
    answer it. A person's own RAY_AUTH_MODE stays. Raises OSError or ValueError if no Ray answers, RunError if it refuses the token.
    """
    head = head_at(address)
    own = os.environ.get(AUTH_MODE)
    modes = ("disabled", "token") if own is None else (own,)
    for mode in modes:
        _set_mode(mode)
        with suppress(TokenRefused):
            head.ask(ANSWER_SECONDS)
            return
    also = "" if own is None else f", and RAY_AUTH_MODE, which is {own!r}, to 'token'"
    raise RunError(
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
