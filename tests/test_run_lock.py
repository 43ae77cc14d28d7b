from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from datasette_image_search.errors import ImageSearchError
from datasette_image_search.ingest.pipeline import EmbedRequest, Progress
from datasette_image_search.ingest.pipeline import embed_images as run_embed
from datasette_image_search.ingest.run_lock import RunInProgress, only_run

from .commands import command, embed_images, query

HOLDER = """
import sys
from pathlib import Path
from datasette_image_search.ingest.run_lock import only_run

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
        f"Error: another run is writing to {str(database)!r}; wait until it has ended\n"
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
