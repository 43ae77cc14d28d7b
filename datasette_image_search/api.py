"""
The Python API: see docs/python-api.md. Commands, SQL functions and pages search through it too.

The methods import the rooms that need torch and faiss: an SQL function that only wants a vector comes here as well.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlite_utils import Database

from .checked import as_key, several
from .progress import OnProgress, ignore, phases
from .search.queries import Query, asked_index, queries_of, vector_of
from .search.query import QueryVector
from .store import Filter, Index, Key, find_index, reads
from .store.filters import IdSet, Where, row_filter
from .store.indexes import WeightsOf, recorded_weights
from .store.opened import Paths, UsesDatabase, as_path, as_paths, as_places, path_or_none, used
from .store.ordering import checked_order
from .store.reads import check_in_files
from .store.tables import Location
from .store.vectors import image_vectors

if TYPE_CHECKING:
    from .embedders.catalogue import ListedModel
    from .ingest.report import Summary
    from .ingest.vector_export import ExportSummary
    from .ingest.vector_import import ImportSummary
    from .maps.plotting import Plotted
    from .places.locating import Located
    from .reading.reading import TextRead
    from .search.dispensable import LeftOut
    from .search.duplicates import DuplicateGroups
    from .search.evaluation import Evaluated
    from .search.hits import Found, Hit
    from .search.indexing import IndexSummary
    from .search.tags import Tagged
    from .search.tower_export import Exported


@used
class Images(UsesDatabase):
    """
    The images of one table. `database` is a path, or a connection that is open, which stays open; `table` None is the only image
    table of the database. Use it in one thread, and close it, or use it in a `with`. A database that is named by a path need
    not exist before `embed` or `import_vectors`.

    All methods raise ImageSearchError, with a sentence that says what to do; an error of SQLite or of a file is its `__cause__`.
    `model` is for a table with several indexes; None is the oldest of them. `where` is SQL, with the values of its :names in
    `params`. A text is a list of that one text.

    `weights_of` says which file has the weights of an index; by default the database does. A server passes its own, as it may
    have the database from anybody, and `raw_errors`: it gets sqlite3.Error and OSError as they are, for sentences of its own.

        with Images("photos.db") as images:
            images.search("dark blue", k=3)
    """

    def __init__(
        self,
        database: Paths | sqlite3.Connection | Database,
        table: str | None = "images",
        *,
        weights_of: WeightsOf | None = None,
        raw_errors: bool = False,
    ) -> None:
        self.table = table
        super().__init__(database, raw_errors=raw_errors)
        self._weights_of = weights_of or recorded_weights

    def close(self) -> None:
        """
        Close the connection that was opened here. The next method opens another one.

            images.close()
        """
        self._database.close()

    def embed(
        self,
        paths: Paths | Sequence[Paths] = (),
        *,
        exclude: str | Sequence[str] = (),
        follow_symlinks: bool = False,
        pairs: bool = True,
        dry_run: bool = False,
        on_plan: Callable[[Summary], None] = ignore,
        on_progress: OnProgress = ignore,
        **options: Any,
    ) -> Summary:
        """
        Embed files and folders, or without any the images that the table has already, and bring the
        index up to date. `options` are the fields of EmbedRequest. `dry_run` only tells what would be
        done; `on_plan` is told that before a run begins. A Ctrl-C leaves a Summary that is `interrupted`.

            images.embed(["~/Pictures"], model="palette", on_progress=print)
        """
        from . import runs
        from .ingest import pipeline
        from .ingest.survey import EmbedRequest
        from .ingest.walk import ScanOptions

        options["weights"] = path_or_none(options.get("weights"))
        options["text_columns"] = several("text_columns", options.get("text_columns", ()), str)
        options["scan"] = ScanOptions(several("exclude", exclude, str), follow_symlinks, pairs)
        request = EmbedRequest(self.path, self._name(), as_places("paths", paths), **options)
        if dry_run:
            return pipeline.plan_images(request)
        self._database.let_others_write()
        return runs.embed(request, on_progress, on_plan, self._weights_of)

    def import_vectors(
        self, source: Paths, *, on_progress: OnProgress = ignore, **options: Any
    ) -> ImportSummary:
        """
        Import vectors of another program, all of them or none. `options` are the fields of ImportRequest.

            images.import_vectors("vectors.npy", paths="paths.txt", model="ViT-B-32/openai")
        """
        from . import runs
        from .ingest.import_request import ImportRequest

        for name in ("paths", "weights"):
            options[name] = path_or_none(options.get(name))
        options["roots"] = as_paths("roots", options.get("roots", ()))
        request = ImportRequest(self.path, self._name(), as_path(source), **options)
        self._database.let_others_write()
        return runs.import_into(request, on_progress, self._weights_of)

    def export_vectors(
        self,
        file: Paths,
        paths: Paths,
        *,
        model: str | None = None,
        on_progress: OnProgress = ignore,
    ) -> ExportSummary:
        """
        Write all vectors into a .npy `file`, and their paths into a text file: `import_vectors` reads both.

            images.export_vectors("vectors.npy", "paths.txt").vectors
        """
        from .ingest.vector_export import export_vectors

        files = as_path(file), as_path(paths)
        return export_vectors(self.conn, self.index_of(model), *files, on_progress)

    def index(
        self,
        type: str | None = None,
        *,
        model: str | None = None,
        on_progress: OnProgress = ignore,
        **options: Any,
    ) -> IndexSummary:
        """
        Write the files anew that searches are ranked from, as another `type` of index: "auto", "flat", "ivf" or a
        factory string of FAISS; or feed an `engine`, such as "lance", at a `uri`, which without `stored_vectors` alone has
        them. `target` is the recall to reach, above 0 and at most 1, for `queries`, shape (n, dimensions), or a .npy file of
        them. `reference_queries` are what rankings are corrected by from now on, in place of those that come with this package.

            images.index("ivf", target=0.99)
        """
        from . import runs

        db, index = self._to_write(model)
        return runs.index(db, index, type, phases(on_progress), self._weights_of, **options)

    def export_text_tower(self, *, model: str | None = None, quantize: bool = False) -> Exported:
        """
        Write what reads words into a `file` beside the database, which is used from now on and needs no torch. Its
        vectors have a mean `cosine` to those of the model; `quantize` makes the file a quarter as large.

            images.export_text_tower(quantize=True).cosine
        """
        from . import runs

        return runs.export_words(*self._to_write(model), self._weights_of, quantize=quantize)

    def evaluate(
        self,
        type: str | None = None,
        *,
        model: str | None = None,
        on_progress: OnProgress = ignore,
        **options: Any,
    ) -> list[Evaluated]:
        """
        The recall and the milliseconds of the index, or of the one that `index` would write. Nothing is changed.

            images.evaluate("ivf")
        """
        from .search.evaluation import evaluate_index

        index, report = self.index_of(model), phases(on_progress)
        return evaluate_index(self.conn, index, report, self._weights_of, type=type, **options)

    def search(self, query: Query, k: int = 20, **options: Any) -> list[Hit]:
        """
        The min(k, matching) images that are closest to a query, best first, each with its `id` and its
        `score`, the cosine similarity, -1 to 1. The options are those of `find`.

            images.search("dark blue", where="camera_make = :make", params={"make": "Canon"})
        """
        return self.search_many([query], k, **options)[0]

    def search_many(
        self, queries: Query | Sequence[Query], k: int = 20, **options: Any
    ) -> list[list[Hit]]:
        """
        `search` for each of some queries, all of them ranked at once.

            images.search_many(["orange", "#42 - people", Path("sketch.png")], k=5)
        """
        return [list(found.hits) for found in self.find(queries, k, **options)]

    def find(
        self,
        queries: Query | Sequence[Query],
        k: int = 20,
        *,
        where: Where | None = None,
        params: Mapping[str, Any] | None = None,
        model: str | None = None,
        sort: str | None = None,
        sort_desc: str | None = None,
        on_progress: OnProgress | None = None,
        **options: Any,
    ) -> list[Found]:
        """
        For each query the `hits`, how many of them are `matches`, the `steps` to them, and `warnings`. By a column, `sort`
        or `sort_desc`, the matches come in its order, or else the k best. `options` are the fields of SearchOptions.

            (found,) = images.find(["dark blue"], 3)
        """
        from .search import asked, sorting
        from .search.freshness import live_index

        chosen, some = asked.SearchOptions(**options), queries_of(queries)
        index = asked_index(some, self.table) or self.index_of(model)
        order = checked_order(self.conn, index, sort, sort_desc)
        if on_progress is not None:
            live_index(self.conn, index, phases(on_progress))
        rows = where if isinstance(where, Filter | IdSet) else row_filter(where, params)
        ask = partial(self._ask, index, alone=len(some) == 1)
        return sorting.find_images(self.conn, index, some, k, rows, chosen, ask, order)

    def relevance(self, id: Key, query: Query, *, model: str | None = None) -> float | None:
        """
        How much better one image is than chance for a query, 0 to 1; None for an image without a vector.

            images.relevance(42, "a red car")
        """
        from .search.asked import relevance_of_image

        return relevance_of_image(self.conn, self.ask(query, model=model), as_key(id))

    def vector(self, query: Query, *, model: str | None = None) -> np.ndarray:
        """
        The vector of a query, shape (dimensions,), float32, unit norm.

            images.vector("#42 + at night")
        """
        return self.ask(query, model=model).vector

    def ask(self, query: Query, *, model: str | None = None) -> QueryVector:
        """
        A query as a vector of an index, with warnings. `find` takes it as a query.

            images.ask("dark blue").warnings
        """
        return self._ask(self.index_of(model), query)

    def similarity(self, id: Key, query: Query, *, model: str | None = None) -> float | None:
        """
        The score of one image, -1 to 1; None for an image without a vector.

            images.similarity(42, "a red car")
        """
        asked = self.ask(query, model=model)
        vectors = image_vectors(self.conn, asked.index, as_key(id))
        return max((float(vector @ asked.vector) for vector in vectors), default=None)

    def open(
        self,
        query: Query | None = None,
        *,
        model: str | None = None,
        on_progress: OnProgress = ignore,
    ) -> None:
        """
        Do now what the next search would wait for: read the index, and load the model for the words of
        a query. Call it before a snapshot or a time limit begins.

            images.open("warm up")
        """
        from .search.freshness import live_index

        index = self.index_of(model)
        if query is not None:
            self._ask(index, query)
        live_index(self.conn, index, phases(on_progress))

    def index_of(self, model: str | None = None) -> Index:
        """
        The index by a model: its id, `model`, `dimensions` and the like.

            images.index_of().dimensions
        """
        return find_index(self.conn, self.table, model)

    def status(self) -> dict[str, Any]:
        """
        For JSON: what is indexed and how it is searched; `problem` is None if all is well.

            images.status()["vectors"]
        """
        from .search.status import status

        return status(self.conn, self.table)

    def locations(self, ids: Sequence[Key], *, model: str | None = None) -> dict[Key, Location]:
        """
        Id -> the `root` and the `path` below it of the original, for those of the ids that exist.

            images.locations([42])[42].path
        """
        return reads.locations(self.conn, self.index_of(model), [as_key(id) for id in ids])

    def files(self, ids: Sequence[Key], *, model: str | None = None) -> dict[Key, Path | str]:
        """
        Id -> the file of the original, or its URL, for those of the ids that exist.

            images.files([hit.id for hit in images.search("dark blue", 3)])
        """
        check_in_files(self.index_of(model))
        places = self.locations(ids, model=model)
        return {id: self.file_of(place) for id, place in places.items()}

    def file_of(self, place: Location) -> Path | str:
        """
        The file of an original, or its URL. Paths of a person's own table are relative to the folder of the database.

            images.file_of(images.locations([42])[42])
        """
        return place.whole(self.path.resolve().parent)

    @staticmethod
    def models(text: str = "", *, with_timm: bool = True) -> list[ListedModel]:
        """
        The models that images can be embedded with; `text` is in their names or descriptions. The
        hundreds of picture-only models of timm are among them `with_timm`.

            Images.models("siglip")
        """
        from .embedders.catalogue import listed_models

        return listed_models(text, with_timm=with_timm)

    def duplicates(
        self,
        threshold: float = 0.95,
        *,
        where: str | None = None,
        params: Mapping[str, Any] | None = None,
        model: str | None = None,
        write: bool = False,
        on_progress: OnProgress = ignore,
    ) -> DuplicateGroups:
        """
        Groups of images with a score of at least `threshold`, above 0 and at most 1, to the best of the
        group, which comes first. `write` makes a table of them too, with the name in `written`.

            images.duplicates(0.97).groups
        """
        from . import runs

        db, index = self._to_write(model) if write else (None, self.index_of(model))
        filter, report = row_filter(where, params), phases(on_progress)
        return runs.find_duplicates(self.conn, index, threshold, filter, report, write_to=db)

    def dispensable(
        self, found: DuplicateGroups, left_out: LeftOut | None = None
    ) -> Iterator[Path]:
        """
        The files of groups that may be deleted: all but the first of each, if they and the first are still
        as they were embedded. `left_out` counts the others by their problems.

            list(images.dispensable(images.duplicates(1)))
        """
        from .search.dispensable import dispensable

        groups = ([each.image for each in group] for group in found.groups)
        files = ([(self.file_of(one.location), one) for one in images] for images in groups)
        yield from dispensable(files, left_out)

    def tag(
        self, labels: str | Sequence[str] = (), *, on_progress: OnProgress = ignore, **options: Any
    ) -> list[Tagged]:
        """
        Tag the images that are new with those of the labels that fit them best; without labels, with all labels that there
        were before. Of each label set, how many images got tags. The options are those of `tagging`.

            images.tag(["cat", "dog", "something else"], threshold=0.5)
        """
        from .search.tags import last_of_each

        return last_of_each(self.tagging(labels, **options), on_progress)

    def tagging(
        self,
        labels: str | Sequence[str] = (),
        *,
        where: str | None = None,
        params: Mapping[str, Any] | None = None,
        model: str | None = None,
        **options: Any,
    ) -> Generator[Tagged, None, None]:
        """
        `tag`, a batch of images at a time, each committed before it is yielded. An image gets at most
        `top` tags, of labels with a probability of at least `threshold`. `templates` have {} for the
        label. `replace` drops the tags of all other labels.

            for tagged in images.tagging(["cat", "dog"], templates=["a photo of a {}"]):
                print(tagged.done, tagged.total)
        """
        from . import runs

        db, index = self._to_write(model)
        filter = row_filter(where, params)
        yield from runs.tag(db, index, labels, self._weights_of, filter=filter, **options)

    def locate(self, *, on_progress: OnProgress = ignore, **options: Any) -> Located:
        """
        Write country, state and city of the images whose latitude and longitude are new, or were located with
        another `max_distance`: kilometres to the nearest town, 100 for new images.

            images.locate(where="taken_at > '2021'").located
        """
        from . import runs

        return runs.locate(*self._to_write(None), on_progress, **options)

    def read(self, *, on_progress: OnProgress = ignore, **options: Any) -> TextRead:
        """
        Read the text in the pictures that were not read yet, with `workers` processes, `limit` pictures at most.
        `retry_failed` tries those again that could not be read, `max_pixels` leaves out larger ones, `originals` are URLs of storage to ask.

            images.read(where="folder like '%Screenshots%'").with_text
        """
        from . import runs

        folder = self.path.resolve().parent
        return runs.read(*self._to_write(None), folder, on_progress, **options)

    def plot(
        self,
        picture: Paths | None = None,
        *,
        page: Paths | None = None,
        where: str | None = None,
        params: Mapping[str, Any] | None = None,
        model: str | None = None,
        on_progress: OnProgress = ignore,
        **options: Any,
    ) -> Plotted:
        """
        Draw a map into a picture, an HTML page, or both. `options` are the fields of PlotRequest.

            images.plot("map.png", column="folder")
        """
        from .maps.plotting import PlotRequest, plot

        files, filter = (path_or_none(picture), path_or_none(page)), row_filter(where, params)
        request = PlotRequest(*files, filter=filter, **options)
        return plot(self.conn, self.index_of(model), request, phases(on_progress))

    def _ask(self, index: Index, query: Query, *, alone: bool = True) -> QueryVector:
        return vector_of(self.conn, index, query, self._weights_of, alone=alone)

    def _to_write(self, model: str | None) -> tuple[Database, Index]:
        """The database to write to and an index of it; nothing is written if there is no such index."""
        self.index_of(model)
        return self._database.to_write(), self.index_of(model)

    def _name(self) -> str:
        return self.index_of().image_table if self.table is None else self.table
