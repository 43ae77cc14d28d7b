"""A drive to which two spellings of a name are one, as exFAT, APFS, NTFS and SMB are, played by the os module."""

from __future__ import annotations

import os
import pathlib
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def ignore_case_below(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files below a folder answer to all spellings of their names. Lists of folders have but one."""
    # Python 3.10 keeps the functions of os that paths use.
    of_paths = getattr(pathlib, "_normal_accessor", None)
    for name in ("stat", "lstat", "scandir", "open"):
        monkeypatch.setattr(os, name, _ignoring(getattr(os, name), f"{folder}/"))
        if of_paths is not None and name in ("stat", "scandir"):
            monkeypatch.setattr(of_paths, name, getattr(os, name))
    opened = _ignoring(open, f"{folder}/")
    monkeypatch.setattr("io.open", opened)


def _ignoring(real: Callable[..., Any], below: str) -> Callable[..., Any]:
    def call(path: Any = ".", *args: Any, **options: Any) -> Any:
        try:
            return real(path, *args, **options)
        except FileNotFoundError:
            spelled = _spelled(str(path), below)
            if spelled is None:
                raise
            return real(spelled, *args, **options)

    return call


def _spelled(path: str, below: str) -> str | None:
    """As the folders on the way to it list it."""
    if not path.startswith(below):
        return None
    at = below.rstrip("/")
    for part in path[len(below) :].split("/"):
        names = [each.name for each in Path(at).iterdir() if _alike(each.name) == _alike(part)]
        if not names:
            return None
        at = f"{at}/{names[0]}"
    return at


def _alike(name: str) -> str:
    return unicodedata.normalize("NFC", name).lower()
