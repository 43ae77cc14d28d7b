"""Where tests keep the vectors that searches rank: promises hold over each."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from sqlite_utils import Database

from datasette_image_search.engines import places
from datasette_image_search.search.indexing import index_images, refresh_sidecars

KEPT: Mapping[str, Mapping[str, object]] = {
    "sidecar": {},
    "lance": {"engine": "lance"},
    "lance alone": {"engine": "lance", "stored_vectors": False},
}


def keep_in(kept: str, db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """In files of FAISS, as runs do, or in an engine, as a person asks for. This process is no server then."""
    if kept == "sidecar":
        refresh_sidecars(db, "images")
    else:
        monkeypatch.setattr(places, "_served", [])
        index_images(db, "images", **KEPT[kept])
