from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from datasette_image_search.cli import progress
from datasette_image_search.cli.progress import progress_display
from datasette_image_search.ingest.report import Progress
from datasette_image_search.progress import Phase

from .commands import command, query, start
from .conftest import SHARED, draw_picture

STEPS = [Progress(done, 2000, done // 100, "cpu, float32") for done in (0, 500, 2000)]


@pytest.fixture
def every_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines come with each progress, and not only every ten seconds."""
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0)


def read_terminal(terminal: int) -> str:
    """All that is written to a pseudo-terminal until nobody has it open any more."""
    written = b""
    while True:
        try:
            chunk = os.read(terminal, 65536)
        except OSError:  # How Linux says that the other end is closed.
            break
        if not chunk:
            break
        written += chunk
    return written.decode()


# --- Lines ---------------------------------------------------------------------------------------


def test_where_there_is_no_terminal_progress_is_plain_lines(
    every_line: None, capsys: pytest.CaptureFixture[str]
):
    with progress_display(silent=False) as show:
        for step in STEPS:
            show(step)
    output = capsys.readouterr()
    assert output.out == ""
    assert [
        re.sub(r"[\d,.]+(?=/s|  *seconds? )", "N", line) for line in output.err.split("\n")
    ] == [
        # Nobody knows yet how long it will take.
        "0 of 2,000 images, N/s, cpu, float32",
        "500 of 2,000 images, N/s, 5 failed, N seconds left",
        "2,000 of 2,000 images, N/s, 20 failed, N seconds left",
        "",
    ]


def test_pairs_are_counted_where_images_are_compared(
    every_line: None, capsys: pytest.CaptureFixture[str]
):
    with progress_display(silent=False) as show:
        show(Phase("Comparing", 1_000_000, 4_000_000))
    assert re.fullmatch(
        r"1,000,000 of 4,000,000 pairs, [\d,]+ million/s, \d seconds? left\n",
        capsys.readouterr().err,
    )


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "0 seconds"),
        (1, "1 second"),
        (89, "89 seconds"),
        (100, "2 minutes"),
        (90_000, "1,500 minutes"),
    ],
)
def test_what_is_left_is_told_in_seconds_or_minutes(seconds: float, words: str):
    assert progress._in_words(seconds) == words


def test_lines_are_some_seconds_apart(capsys: pytest.CaptureFixture[str]):
    with progress_display(silent=False) as show:
        for step in STEPS:
            show(step)
    assert capsys.readouterr().err == ""


def test_silence_is_no_progress_at_all(every_line: None, capsys: pytest.CaptureFixture[str]):
    with progress_display(silent=True) as show:
        for step in STEPS:
            show(step)
    assert capsys.readouterr() == ("", "")


def test_a_stream_without_a_file_will_do(every_line: None, monkeypatch: pytest.MonkeyPatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with progress_display(silent=False) as show:
        show(STEPS[1])
    assert "500 of 2,000 images" in stream.getvalue()


NOISY_RUN = """
import os, sys
from datasette_image_search.cli.progress import progress_display
from datasette_image_search.ingest.report import Progress

os.write(2, b"before, ")
try:
    with progress_display(silent=sys.argv[1] == "True") as show:
        os.write(2, b"loading, ")
        show(Progress(0, 1, 0, "cpu"))
        os.write(2, b"noise, ")
        if sys.argv[2] == "True":
            raise ZeroDivisionError
except ZeroDivisionError:
    os.write(2, b"error, ")
os.write(2, b"after")
"""


@pytest.mark.parametrize("fails", [True, False], ids=["error", "no error"])
@pytest.mark.parametrize("silent", [True, False], ids=["silent", "lines"])
def test_what_c_libraries_write_is_lost_only_during_the_run(silent: bool, fails: bool):
    run = [sys.executable, "-c", NOISY_RUN, str(silent), str(fails)]
    written = subprocess.run(run, capture_output=True, text=True, check=True).stderr
    assert written == f"before, loading, {'error, ' if fails else ''}after"


def test_a_run_tells_its_progress(every_line: None, tmp_path: Path, folder: Path):
    (folder / "bad.jpg").write_bytes(b"bad")
    run = ("embed-images", tmp_path / "p.db", "images", folder, "--model", "palette")
    result = command(*run, "--batch-size", 4)
    lines = [line for line in result.stderr.splitlines() if " images, " in line]
    assert [line.partition(" images, ")[0] for line in lines] == [
        "0 of 9",
        "4 of 9",
        "8 of 9",
        "9 of 9",
    ]
    assert lines[0].endswith("/s, cpu, float32")
    assert "/s, 1 failed" in lines[-1]


@pytest.mark.parametrize("option", ["-s", "--silent"])
def test_a_silent_run_tells_its_end_only(
    every_line: None, tmp_path: Path, folder: Path, option: str
):
    result = command(
        "embed-images", tmp_path / "p.db", "images", folder, "--model", "palette", option
    )
    assert result.stderr == ""
    assert result.stdout.startswith("8 embedded, ")
    assert len(result.stdout.splitlines()) == 1


# --- A bar ---------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
def test_on_a_terminal_progress_is_a_bar(tmp_path: Path, folder: Path):
    import pty

    for number in range(40):
        draw_picture(folder / f"{number}.jpg", "teal", (900, 700))
    (folder / "bad.jpg").write_bytes(b"bad")
    ours, theirs = pty.openpty()
    process = start(
        "embed-images",
        tmp_path / "photos.db",
        "images",
        folder,
        "--model",
        "palette",
        "--batch-size",
        3,
        stderr=theirs,
    )
    os.close(theirs)
    terminal = read_terminal(ours)
    os.close(ours)
    summary, _ = process.communicate()

    assert process.returncode == 0, terminal
    assert "Embedding" in terminal
    assert "49/49" in terminal
    assert re.search(r"[1-9][\d.]*/s, 1 failed", terminal)
    assert terminal.count("\r") > 3
    assert {
        len(re.sub(r"\x1b\[\S*?[A-Za-z]", "", each)) <= 80 for each in terminal.split("\r")
    } == {True}
    assert "Failed: bad.jpg: " in terminal.splitlines()[-1]
    assert summary.startswith("48 embedded, 0 unchanged, 1 failed in ")


# --- The report at the end -----------------------------------------------------------------------


def test_failures_of_one_reason_are_one_line_the_most_frequent_first(tmp_path: Path, folder: Path):
    (folder / "one.jpg").write_bytes(b"")
    for number in range(30):
        (folder / f"bad{number:02}.jpg").write_bytes(b"no picture")
    result = command("embed-images", tmp_path / "p.db", "images", folder, "--model", "palette")
    assert result.stderr.splitlines() == [
        "Failed: bad00.jpg and 29 more: the file is not a picture of a known format, or is damaged",
        "Failed: one.jpg: the file is empty",
    ]
    assert result.stdout.startswith("8 embedded, 0 unchanged, 31 failed in ")


@pytest.mark.skipif(not SHARED.exists(), reason="no damaged files on this machine")
def test_libraries_that_grumble_about_damaged_files_are_not_heard(tmp_path: Path):
    process = start(
        "embed-images", tmp_path / "p.db", "images", SHARED / "hostile", "--model", "palette"
    )
    _, stderr = process.communicate()
    assert process.returncode == 0, stderr
    lines = stderr.splitlines()
    assert len(lines) > 3
    # The last line counts what is no picture.
    assert [line for line in lines[:-1] if not line.startswith(("Failed: ", "... and more"))] == []
    assert lines[-1].endswith("left out")


# --- A terminal that is gone ---------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pty")
def test_a_run_goes_on_when_its_terminal_is_closed(tmp_path: Path):
    """As with nohup, which has it ignore that the terminal hangs up."""
    import pty

    for number in range(60):
        draw_picture(
            tmp_path / "photos" / f"{number}.jpg", f"hsl({number * 6}, 90%, 45%)", (600, 400)
        )
    ours, theirs = pty.openpty()
    process = start(
        *("embed-images", tmp_path / "photos.db", "images", tmp_path / "photos"),
        *("--model", "palette", "--batch-size", 1),
        **dict.fromkeys(("stdin", "stdout", "stderr"), theirs),
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    os.close(theirs)
    assert os.read(ours, 100)
    os.close(ours)
    assert process.wait() == 0
    assert query(tmp_path / "photos.db", "select count(*) from _images_vectors") == [(60,)]


@pytest.mark.skipif(os.name == "nt", reason="Windows breaks pipes in its own way")
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_run_that_nobody_listens_to_succeeds(tmp_path: Path, stream: str):
    draw_picture(tmp_path / "photos" / "red.jpg", "red")
    (tmp_path / "photos" / "bad.jpg").write_bytes(b"no picture")
    read, write = os.pipe()
    os.close(read)
    run = ("embed-images", tmp_path / "photos.db", "images", tmp_path / "photos")
    process = start(*run, "--model", "palette", **{stream: write})
    os.close(write)
    process.communicate()
    assert process.returncode == 0
    assert query(tmp_path / "photos.db", "select count(*) from _images_vectors") == [(1,)]
