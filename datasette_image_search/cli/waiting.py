"""How threads wait for one another in the process of a sqlite-utils command, which is ours alone."""

from __future__ import annotations

import os
from typing import Any

import click


class Command(click.Command):
    """One that FAISS or torch may be imported for."""

    def invoke(self, ctx: click.Context) -> Any:
        wait_asleep()
        return super().invoke(ctx)


def wait_asleep() -> None:
    """
    Threads of OpenMP wait asleep instead of spinning, unless a person said otherwise: where others keep
    the processors busy, a thread that spins takes the time from the one that it waits for. FAISS and
    torch read this when they are imported, each for an OpenMP of its own.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def is_command_of_sqlite_utils() -> bool:
    """Whether this runs within a command of sqlite-utils: of its own, such as `query`, or of ours."""
    context = click.get_current_context(silent=True)
    if context is None:
        return False
    group = context.find_root().command
    return isinstance(group, click.Group) and "index-images" in group.commands
