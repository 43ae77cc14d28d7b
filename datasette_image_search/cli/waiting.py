"""Processes of sqlite-utils commands: nobody waits for threads that spin, nor for an end that takes seconds."""

from __future__ import annotations

import atexit
import gc
import os
from typing import Any

import click


class Command(click.Command):
    """A command that may import FAISS or torch."""

    def invoke(self, ctx: click.Context) -> Any:
        wait_asleep()
        end_soon()
        return super().invoke(ctx)


def wait_asleep() -> None:
    """
    Let OpenMP threads sleep instead of spin while they wait, unless the environment says otherwise: on a
    busy machine a spinning thread takes time from the one that it waits for. FAISS and torch each read
    this when they are imported.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def end_soon() -> None:
    """
    Let the interpreter end without a search for objects that it might free: torch has so many that this takes a second of a
    processor, also after a Ctrl-C.
    """
    atexit.register(gc.freeze)


def is_command_of_sqlite_utils() -> bool:
    """Whether this process runs a command of sqlite-utils, such as `query` or one of ours."""
    context = click.get_current_context(silent=True)
    if context is None:
        return False
    group = context.find_root().command
    return isinstance(group, click.Group) and "index-images" in group.commands
