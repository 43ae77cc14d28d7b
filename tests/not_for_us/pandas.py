"""
In place of the package in the tests and in what they start: pymilvus brings it into the environment of tests, and sqlite-utils and
pyarrow, which do without it, import it wherever it is, for a third of a second of each process. Others get it.
"""

import importlib
import sys
from pathlib import Path


def is_done_without() -> bool:
    frame = sys._getframe()
    while frame is not None:
        if frame.f_globals.get("__name__") in ("sqlite_utils.db", "pyarrow.dataset"):
            return True
        frame = frame.f_back
    return False


if is_done_without():
    raise ImportError("tests do without pandas")
sys.path[:] = [path for path in sys.path if path != str(Path(__file__).parent)]
del sys.modules[__name__]
importlib.import_module(__name__)
