"""That no process imports the compiler is in test_offline.py, of one that embeds."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from datasette_image_search.embedders import uncompiled


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Stands for a module that takes no time, with the question about devices."""
    real = ModuleType("a_compiler")
    real.is_compile_supported = lambda device: device == "cpu"
    real.anything_else = 7
    monkeypatch.setattr(uncompiled, "COMPILER", real.__name__)
    monkeypatch.setattr(uncompiled, "import_module", {real.__name__: real}.__getitem__)
    later = uncompiled._Later(real.__name__)
    monkeypatch.setitem(sys.modules, real.__name__, later)
    return later


def test_whoever_asks_the_compiler_gets_its_answer(later: ModuleType) -> None:
    assert later.is_compile_supported("cpu")
    assert not later.is_compile_supported("other")
    # Whoever imports it from now on gets it, too.
    assert later.__name__ not in sys.modules


def test_what_others_want_of_it_while_it_is_away_is_there(later: ModuleType) -> None:
    from a_compiler import anything_else

    assert anything_else == 7
    assert later.__name__ not in sys.modules


def test_functions_stay_as_they_are_however_they_are_marked() -> None:
    @uncompiled._unmarked
    def one() -> int:
        return 1

    @uncompiled._unmarked(recursive=False)
    def two() -> int:
        return 2

    assert (one(), two()) == (1, 2)


def test_torch_itself_is_as_it_was() -> None:
    import torch

    assert torch.compiler.disable is not uncompiled._unmarked
    assert not isinstance(sys.modules.get("torch._dynamo.utils"), uncompiled._Later)
