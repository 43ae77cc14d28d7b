"""Tests see this plugin and no other that the environment may have; one that wants another names it."""

import os

os.environ.setdefault("DATASETTE_LOAD_PLUGINS", "datasette-image-search")
