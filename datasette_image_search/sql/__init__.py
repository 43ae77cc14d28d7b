"""
The SQL functions, the same in Datasette and in sqlite-utils: see functions.py.

Nothing here imports torch, faiss or numpy at module level, because sqlite-utils loads it on every run.
"""

from .functions import has_functions, register_functions

__all__ = ["has_functions", "register_functions"]
