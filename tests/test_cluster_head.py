from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from datasette_image_search.cluster import head as module
from datasette_image_search.cluster.head import (
    ClusterError,
    ClusterLost,
    Head,
    Watch,
    authenticate,
    authentication_kept,
    head_at,
    in_reach,
    in_short,
    resolved,
    watched,
)
from datasette_image_search.cluster.nodes import connected
from datasette_image_search.ingest.pipeline import EmbedRequest, embed_images
from datasette_image_search.ingest.report import Progress

from .commands import query
from .conftest import draw_picture
from .ray_processes import CLUSTER, kill_all
from .serving import HANGS


@pytest.mark.parametrize(
    ("address", "target"),
    [
        ("gpu-1:6379", "gpu-1:6379"),
        ("[::1]:6379", "[::1]:6379"),
        ("ray://gpu-1:10001", "gpu-1:10001"),
    ],
)
def test_an_address_is_a_host_and_a_port(address: str, target: str):
    assert head_at(address).target == target


@pytest.mark.parametrize("address", ["gpu-1", "ray://gpu-1", "gpu-1:70000"])
def test_an_address_without_a_port_is_refused_at_once(address: str):
    """Ray tries for 30 seconds."""
    pytest.importorskip("ray")
    with pytest.raises(ClusterError, match=f"there is no Ray at '{address}' "), connected(address):
        pass


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_a_port_of_another_program_is_refused(said: bytes, monkeypatch: pytest.MonkeyPatch):
    """One that says nothing kept Ray waiting for minutes."""
    pytest.importorskip("ray")
    monkeypatch.setattr(module, "ANSWER_SECONDS", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        refused = threading.Event()

        def answer() -> None:
            with server.accept()[0] as client:
                client.sendall(said)
                refused.wait(HANGS)

        talking = threading.Thread(target=answer)
        talking.start()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with (
            pytest.raises(ClusterError, match=f"there is no Ray at '{address}'"),
            connected(address),
        ):
            pass
        refused.set()
        talking.join()


@contextmanager
def server_of(answer: Callable[[bytes, Any], bytes]) -> Iterator[int]:
    """The port of a server on loopback, which answers all questions so."""
    grpc = pytest.importorskip("grpc")
    pytest.importorskip("ray")

    class Handler(grpc.GenericRpcHandler):
        def service(self, _details: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(answer)

    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers((Handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait()


@pytest.mark.parametrize("client", ["", "ray://"])
def test_a_head_is_asked_without_a_proxy(client: str, monkeypatch: pytest.MonkeyPatch):
    """As Ray does it. No proxy listens there."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    for name in ("grpc_proxy", "no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    with server_of(lambda *_: b"") as port, authentication_kept():
        authenticate(f"{client}127.0.0.1:{port}")


def test_with_a_client_the_cluster_is_asked_and_not_its_server_only(
    monkeypatch: pytest.MonkeyPatch,
):
    """The server lives on for a minute."""
    grpc = pytest.importorskip("grpc")
    asked: list[dict] = []

    def answer(_question: bytes, call: Any) -> bytes:
        asked.append(dict(call.invocation_metadata()))
        if "client_id" in asked[-1]:
            call.abort(grpc.StatusCode.UNKNOWN, "no GCS")
        return b""

    with server_of(answer) as port, authentication_kept():
        authenticate(f"ray://127.0.0.1:{port}")
        head = head_at(f"ray://127.0.0.1:{port}")
        assert head.answers(HANGS)
        assert not replace(head, session=(("client_id", "me"),)).answers(HANGS)
    assert asked[-1]["client_id"] == "me"


@pytest.mark.parametrize("named", ["", None, "auto"])
def test_auto_is_the_cluster_here_unless_another_is_named(
    named: str | None, monkeypatch: pytest.MonkeyPatch
):
    services = pytest.importorskip("ray._private.services")
    monkeypatch.setattr(services, "canonicalize_bootstrap_address", lambda _: "127.0.0.1:6379")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if named is not None:
        monkeypatch.setenv("RAY_ADDRESS", named)
    assert resolved("auto") == "127.0.0.1:6379"
    monkeypatch.setenv("RAY_ADDRESS", "gpu-1:6379")
    assert resolved("auto") == "gpu-1:6379"


def test_what_does_not_reach_the_cluster_is_one_error(monkeypatch: pytest.MonkeyPatch):
    ray, grpc = pytest.importorskip("ray"), pytest.importorskip("grpc")

    class Inactive(grpc.RpcError):
        def details(self) -> str:
            return "Socket closed"

    sentence = r"cannot reach the cluster any more \({}\); run this again: what is committed stays"
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    for error, said in [
        (Inactive(), "Socket closed"),
        (ConnectionError("Client is shutting down."), "Client is shutting down."),
        (ray.exceptions.RpcError("GCS\nis away"), "GCS is away"),
    ]:
        with pytest.raises(ClusterLost, match=sentence.format(said)), in_reach():
            raise error
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(ClusterLost, match=sentence.format("the connection is lost")), in_reach():
        pytest.fail("Ray would start a cluster here")


def test_the_reason_that_ray_keeps_to_itself_is_said():
    error = ConnectionError("Failed to connect to Ray cluster at 10.0.0.2:6379")
    error.__cause__ = RuntimeError("No node\ninfo found")
    assert in_short(error) == f"{error}: No node info found"


class Clock:
    """The seconds of a test, which pass when it says so."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


def test_a_silence_begins_with_the_first_question_that_has_no_answer(
    monkeypatch: pytest.MonkeyPatch,
):
    """A process that writes for long asks nothing."""
    clock, answered = Clock(), True
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(Head, "answers", lambda *_: answered)
    watch = Watch(head_at("gpu-1:6379"))
    assert watch.is_there()

    clock.now, answered = 100.0, False
    assert not watch.is_there()
    clock.now, answered = 101.0, True
    assert watch.is_there()
    clock.now, answered = 200.0, False
    assert not watch.is_there()
    clock.now = 225.0
    assert not watch.is_there()
    clock.now = 225.1
    with pytest.raises(ClusterLost, match=r"the head of the cluster, gpu-1:6379, does not answer"):
        watch.is_there()


def test_a_head_that_comes_back_in_time_is_waited_for(monkeypatch: pytest.MonkeyPatch):
    answers = iter([False, False, True, False, False])
    monkeypatch.setattr(Head, "answers", lambda *_: next(answers))
    watch = Watch(head_at("gpu-1:6379"))

    assert watch.is_there()
    assert not watch.is_there(anew=True)
    assert not watch.is_there()
    assert watch.is_there()
    assert watch.is_there()
    monkeypatch.setattr(module, "SILENT_SECONDS", -1.0)
    # One question may be lost.
    assert not watch.is_there(anew=True)
    with pytest.raises(ClusterLost, match=r"the head of the cluster, gpu-1:6379, does not answer"):
        watch.is_there(anew=True)


def test_a_call_that_waits_for_a_head_that_stays_away_is_given_up(monkeypatch: pytest.MonkeyPatch):
    """ray.nodes() waits without an end."""
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(module, "ASK_SECONDS", -1.0)
    monkeypatch.setattr(module, "SILENT_SECONDS", 0.0)
    monkeypatch.setattr(Head, "answers", lambda *_: False)
    over = threading.Event()
    with pytest.raises(ClusterLost, match=r"the head of the cluster, gpu-1:6379, does not answer"):
        watched(lambda: over.wait(HANGS), Watch(head_at("gpu-1:6379")))
    over.set()


def test_a_watched_call_returns_and_raises_as_it_would(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Head, "answers", lambda *_: True)
    watch = Watch(head_at("gpu-1:6379"))
    assert watched(lambda: [1, 2], watch) == [1, 2]
    with pytest.raises(TimeoutError, match="its own"):
        watched(mock.Mock(side_effect=TimeoutError("its own")), watch)


# --- A cluster of `ray start` --------------------------------------------------------------------


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


RECONNECT = "RAY_gcs_rpc_server_reconnect_timeout_s"


class Started:
    """A cluster that asks for a token, with all its files in a folder."""

    def __init__(self, folder: Path, token: Path) -> None:
        self.folder = folder
        self.port, self.client_port = free_ports(2)
        options = {
            "port": self.port,
            "ray-client-server-port": self.client_port,
            "num-cpus": 1,
            "object-store-memory": 80_000_000,
            "include-dashboard": "false",
            "include-log-monitor": "false",
            "temp-dir": folder,
            "min-worker-port": 0,
            "max-worker-port": 0,
        }
        words = [*(f"--{name}={value}" for name, value in options.items()), "--no-monitor"]
        environment = {
            **os.environ,
            CLUSTER: str(folder),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            "RAY_enable_metrics_collection": "0",
            "RAY_memory_monitor_refresh_ms": "0",
        }
        ray = Path(sys.executable).with_name("ray")
        command = [ray, "start", "--head", *words]
        # Ray gives up after 30 seconds, which a busy machine takes.
        for _ in range(5):
            ended = subprocess.run(
                command, check=False, env=environment, timeout=HANGS, capture_output=True
            )
            if ended.returncode == 0:
                break
            kill_all(folder)
        ended.check_returncode()
        # The server of ray:// comes later.
        for port in (self.port, self.client_port):
            while socket.socket().connect_ex(("127.0.0.1", port)):
                time.sleep(0.1)


@pytest.fixture
def token(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text("a1" * 32)
    return file


@pytest.fixture
def started(token: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Started]:
    # On loopback. Ray asks its environment when it is imported.
    constants = pytest.importorskip("ray._private.ray_constants")
    monkeypatch.setattr(constants, "ENABLE_RAY_CLUSTER", False)
    # Ray's sockets need a short path.
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    try:
        yield Started(folder, token)
    finally:
        kill_all(folder)
        shutil.rmtree(folder, ignore_errors=True)


def test_a_cluster_that_asks_for_a_token_gets_it_and_its_end_is_said(
    started: Started, token: Path, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Without a token, Ray said after a minute that there is no cluster; without a head, it ended the process."""
    # An actor works on for some time.
    monkeypatch.setattr(module, "ASK_SECONDS", 0.05)
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    address = f"127.0.0.1:{started.port}"
    photos = tmp_path / "photos"
    for number in range(400):
        draw_picture(photos / f"{number:03}.png", (number % 250, 90, 90), (60, 45))
    request = EmbedRequest(path, "images", (photos,), model="palette", batch_size=2, ray=address)

    monkeypatch.setenv("RAY_AUTH_TOKEN", "b2" * 32)
    with pytest.raises(
        ClusterError, match=rf"the cluster at '{address}' asks for a token, and this"
    ):
        embed_images(request)
    assert not path.exists()

    monkeypatch.delenv("RAY_AUTH_TOKEN")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    with authentication_kept():
        authenticate(f"ray://127.0.0.1:{started.client_port}")

    def kill_the_head(progress: Progress) -> None:
        if progress.done == 10:
            # Else Ray ends this process, if it is busy for a minute.
            assert os.environ[RECONNECT] == "86400"
            kill_all(started.folder)
            monkeypatch.setattr(module, "SILENT_SECONDS", 2.0)
            monkeypatch.setattr(module, "ANSWER_SECONDS", 2.0)

    with pytest.raises(ClusterLost, match=r"does not answer any more; .*: what is committed stays"):
        embed_images(request, kill_the_head)
    assert not {"RAY_AUTH_MODE", RECONNECT} & os.environ.keys()
    [(done,)] = query(path, "select count(*) from _images_vectors")
    assert 10 <= done < 400
