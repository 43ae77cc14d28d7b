from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from datasette_image_search.errors import ImageSearchError
from datasette_image_search.files import run_lock
from datasette_image_search.files.run_lock import RunInProgress, only_run
from datasette_image_search.ingest.pipeline import EmbedRequest
from datasette_image_search.ingest.pipeline import embed_images as run_embed
from datasette_image_search.ingest.report import Progress

from .commands import command, embed_images, query

HOLDER = """
import sys
from pathlib import Path
from datasette_image_search.files.run_lock import only_run

with only_run(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def hold() -> Iterator[Callable[[Path], subprocess.Popen]]:
    """hold(database) is another process that has the lock of a database."""
    started = []

    def hold(database: Path) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, database],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield hold
    for process in started:
        process.kill()
        process.communicate()


def test_a_second_run_in_another_process_says_so_and_stops(tmp_path: Path, folder: Path, hold):
    database = tmp_path / "photos.db"
    holder = hold(database)

    result = command("embed-images", database, "images", folder, "--model", "palette")
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: another run is writing to {str(database)!r}; wait until it has finished\n"
    )
    assert not database.exists()

    holder.communicate("")
    assert embed_images(database, "images", folder, "--model", "palette")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_process_that_was_killed_holds_no_lock(tmp_path: Path, folder: Path, hold):
    database = tmp_path / "photos.db"
    holder = hold(database)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert embed_images(database, "images", folder, "--model", "palette")


def test_a_run_that_has_ended_leaves_no_file(tmp_path: Path, folder: Path):
    home = tmp_path / "home"
    home.mkdir()
    embed_images(home / "photos.db", "images", folder, "--model", "palette")
    command("embed-images", home / "photos.db", "images", tmp_path / "nowhere")
    assert not list(home.glob("*.lock"))


def test_a_plan_needs_no_lock(tmp_path: Path, folder: Path, hold):
    hold(tmp_path / "photos.db")
    result = embed_images(tmp_path / "photos.db", "images", folder, "--dry-run")
    assert result.stdout.startswith("Would be: 8 embedded")


def test_two_databases_do_not_wait_for_each_other(tmp_path: Path, folder: Path, hold):
    hold(tmp_path / "other.db")
    assert embed_images(tmp_path / "photos.db", "images", folder, "--model", "palette")


def test_a_database_is_the_same_by_all_of_its_names(
    tmp_path: Path, database: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "link.db"
    link.symlink_to(database)
    monkeypatch.chdir(tmp_path)
    with only_run(database):
        for name in (Path("photos.db"), Path("elsewhere/../photos.db"), link):
            with pytest.raises(RunInProgress), only_run(name):
                pass


def test_the_lock_is_let_go_of_after_an_error(tmp_path: Path):
    with pytest.raises(ZeroDivisionError), only_run(tmp_path / "photos.db"):
        raise ZeroDivisionError
    with only_run(tmp_path / "photos.db"):
        assert list(tmp_path.iterdir())
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_to_is_one_sentence(tmp_path: Path):
    with (
        pytest.raises(ImageSearchError, match=r"cannot write in the folder of '.*photos.db'"),
        only_run(tmp_path / "nowhere" / "photos.db"),
    ):
        pass


def test_of_many_that_want_the_lock_one_at_a_time_has_it(tmp_path: Path):
    """The file is removed by each that has had it, while others are about to open it."""
    inside = most = refused = had = 0
    counting = threading.Lock()

    def work() -> None:
        nonlocal inside, most, refused, had
        for _ in range(200):
            try:
                with only_run(tmp_path / "photos.db"):
                    with counting:
                        inside, had = inside + 1, had + 1
                        most = max(most, inside)
                    with counting:
                        inside -= 1
            except RunInProgress:
                with counting:
                    refused += 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, had + refused) == (1, 800)
    assert had >= 200


def test_of_two_runs_at_once_one_embeds_everything(tmp_path: Path, folder: Path):
    request = EmbedRequest(tmp_path / "photos.db", "images", [folder], "palette", batch_size=1)
    refused = []

    def second_run(progress: Progress) -> None:
        with pytest.raises(RunInProgress) as error:
            run_embed(request)
        refused.append(error.value)

    assert run_embed(request, second_run).embedded == 8
    assert len(refused) == 9
    assert query(request.database, "select count(*) from _images_vectors") == [(8,)]


# --- What may stand in its place -----------------------------------------------------------------


def lock_file_of(database: Path) -> Path:
    return database.with_name(f"{database.name}-image-search.lock")


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.EINVAL])
def test_a_drive_without_locks_is_no_other_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
):
    def refuse(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(run_lock, "_lock", refuse)
    with only_run(tmp_path / "photos.db"):
        pass
    assert "photos.db' does not support locks" in caplog.text


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has none of these")
@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (os.mkfifo, "a named pipe"),
        (Path.mkdir, "a folder"),
        (_socket, "a socket"),
        (lambda path: path.symlink_to("nowhere"), "a link"),
    ],
)
def test_what_is_no_file_is_told_as_that_and_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None], kind: str
):
    # Names of sockets must be short.
    monkeypatch.chdir(tmp_path)
    path = lock_file_of(Path("photos.db"))
    make(path)
    with (
        pytest.raises(ImageSearchError, match=f"lock' is {kind}, in the place"),
        only_run(Path("photos.db")),
    ):
        pass
    assert os.path.lexists(path)


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="needs to be root")
@pytest.mark.parametrize(("mode", "held"), [(0o644, False), (0o644, True), (0o600, False)])
def test_the_lock_file_of_another_user(tmp_path: Path, hold, mode: int, held: bool):
    """Root owns it here, and another user comes."""
    database = tmp_path / "photos.db"
    for folder in (tmp_path, *tmp_path.parents):
        folder.chmod(folder.stat().st_mode | 0o711)
    tmp_path.chmod(0o777)
    path = lock_file_of(database)
    if held:
        hold(database)
    path.touch()
    path.chmod(mode)
    pid = os.fork()
    if not pid:
        try:
            os.seteuid(65534)
            with only_run(database):
                code = 10
        except RunInProgress as error:
            code = 11 if "another run of the user 'root' is writing" in str(error) else 1
        except ImageSearchError as error:
            code = 12 if "belongs to the user 'root'" in str(error) else 2
        finally:
            os._exit(code)
    ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert ended == (11 if held else 10 if mode == 0o644 else 12)


# --- All that writes indexes ---------------------------------------------------------------------


def test_index_images_and_a_run_wait_for_each_other(database: Path, hold):
    before = query(database, "select * from image_search_indexes")
    hold(database)
    result = command("index-images", database, "images", "--type", "HNSW32_SQ8")
    assert result.exit_code == 1
    assert "another run is writing to" in result.stderr
    assert query(database, "select * from image_search_indexes") == before
    assert command("index-images", database, "images", "--evaluate").exit_code == 0
