"""
Databases that somebody made to do harm to whoever serves them. Each begins as a sound one with the
eight pictures of `folder`, and is then changed by SQL, or has files put beside it.
"""

from __future__ import annotations

import json
import os
import sqlite3
import struct
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np

GIB = 900_000_000
"""SQLite allows values of up to 1,000,000,000 bytes."""

ENDLESS = "with recursive more(x) as (select 1 union all select x + 1 from more) "
"""Rows that never end."""

MANY = "with recursive more(x) as (select 1 union all select x + 1 from more limit 400000) "

Spoil = Callable[[sqlite3.Connection, Path], None]

SPOILED: dict[str, Spoil] = {}
"""What is done to a database, by a name for it."""


def spoil(harm: Spoil) -> Spoil:
    SPOILED[harm.__name__.replace("_", "-")] = harm
    return harm


def make_hostile(sound: Path, folder: Path, name: str) -> Path:
    """A copy of a sound database, as SPOILED[name] changes it."""
    database = folder / f"{name}.db"
    with (
        closing(sqlite3.connect(sound)) as source,
        closing(sqlite3.connect(database, isolation_level=None)) as conn,
    ):
        source.backup(conn)
        conn.create_function("image_search", -1, lambda *_: "[]")
        conn.create_function("image_similarity", -1, lambda *_: 0.5)
        conn.create_function("image_vector", -1, lambda *_: b"")
        SPOILED[name](conn, database)
    return database


def _replaced(conn: sqlite3.Connection, table: str, by: str) -> None:
    """Something else under the name of a table; `by` has {old}, where its rows still are."""
    conn.execute("pragma foreign_keys = off")
    conn.execute("pragma legacy_alter_table = on")
    for (trigger,) in conn.execute(
        "select name from sqlite_master where type = 'trigger'"
    ).fetchall():
        conn.execute(f'drop trigger "{trigger}"')
    conn.execute(f'alter table "{table}" rename to old_rows')
    conn.executescript(by.format(old="old_rows"))


# --- What a picture is ranked by -------------------------------------------------------------------


@spoil
def vectors_of_zeroblob(conn: sqlite3.Connection, database: Path) -> None:
    """A gigabyte a row that takes no place in the file."""
    _replaced(
        conn,
        "_images_vectors",
        f"""
        create table _images_vectors (
            id integer primary key, index_id, image_id, sha256,
            vector as (zeroblob({GIB})), unique (image_id, index_id)
        );
        insert into _images_vectors (id, index_id, image_id, sha256)
            select id, index_id, image_id, sha256 from {{old}};
        """,
    )


@spoil
def vectors_are_an_endless_view(conn: sqlite3.Connection, database: Path) -> None:
    _replaced(
        conn,
        "_images_vectors",
        f"create view _images_vectors as {ENDLESS} "
        "select x as id, 1 as index_id, x as image_id, '' as sha256, zeroblob(1000) as vector from more;",
    )


@spoil
def vectors_of_all_kinds(conn: sqlite3.Connection, database: Path) -> None:
    """One is NULL (where the table allows it), text, short, long, NaN, infinite, zero."""
    (dimensions,) = conn.execute("select dimensions from image_search_indexes").fetchone()
    conn.execute("drop trigger _images_image_search_vector_changed")
    unit = np.zeros(dimensions, "<f4")
    unit[0] = 1
    spoiled = [
        "a text",
        b"",
        unit[:-1].tobytes(),
        np.append(unit, unit).tobytes(),
        np.full(dimensions, np.nan, "<f4").tobytes(),
        np.full(dimensions, np.inf, "<f4").tobytes(),
        np.zeros(dimensions, "<f4").tobytes(),
        7,
    ]
    for id, vector in enumerate(spoiled, 1):
        conn.execute("update _images_vectors set vector = ? where image_id = ?", [vector, id])


@spoil
def vectors_that_are_null(conn: sqlite3.Connection, database: Path) -> None:
    _replaced(
        conn,
        "_images_vectors",
        "create table _images_vectors (id, index_id, image_id, sha256, vector);"
        "insert into _images_vectors select id, index_id, image_id, sha256, null from {old};"
        "insert into _images_vectors values (null, 1, null, null, null), ('x', 1, 'y', 'z', 'text'),"
        " (9.5, 1, 1e300, x'00', x'00'), (-1, 1, -1, '', zeroblob(256));",
    )


@spoil
def vector_ids_at_the_end_of_integers(conn: sqlite3.Connection, database: Path) -> None:
    conn.execute("drop trigger _images_image_search_vector_changed")
    conn.execute("update _images_vectors set id = 9223372036854775807 where image_id = 8")
    conn.execute("update _images_vectors set id = -9223372036854775808 where image_id = 7")


@spoil
def huge_dimensions(conn: sqlite3.Connection, database: Path) -> None:
    """The PCA of the map is of dimensions squared."""
    conn.execute("update image_search_indexes set dimensions = 100000")
    conn.execute("drop trigger _images_image_search_vector_changed")
    conn.execute("update _images_vectors set vector = zeroblob(400000)")


@spoil
def dimensions_that_are_no_number(conn: sqlite3.Connection, database: Path) -> None:
    conn.execute("update image_search_indexes set dimensions = 'many'")


@spoil
def negative_dimensions(conn: sqlite3.Connection, database: Path) -> None:
    conn.execute("update image_search_indexes set dimensions = -5")


# --- The row of the index --------------------------------------------------------------------------


@spoil
def many_indexes(conn: sqlite3.Connection, database: Path) -> None:
    columns = "model, weights, fingerprint, dimensions, generation, sidecar, sidecar_vector_id"
    conn.execute(
        f"{MANY} insert into image_search_indexes (image_table, {columns}) select 'images' || x, {columns} "
        "from more, (select * from image_search_indexes limit 1)"
    )


@spoil
def many_indexes_of_one_table(conn: sqlite3.Connection, database: Path) -> None:
    columns = (
        "image_table, weights, fingerprint, dimensions, generation, sidecar, sidecar_vector_id"
    )
    conn.execute(
        f"{MANY} insert into image_search_indexes (model, {columns}) select 'palette' || x, {columns} "
        "from more, (select * from image_search_indexes limit 1)"
    )


@spoil
def index_ids_that_lead_elsewhere(conn: sqlite3.Connection, database: Path) -> None:
    _replaced(
        conn,
        "image_search_indexes",
        "create table image_search_indexes as select * from {old};"
        "update image_search_indexes set id = '../../../etc/passwd';",
    )


@spoil
def indexes_are_an_endless_view(conn: sqlite3.Connection, database: Path) -> None:
    _replaced(
        conn,
        "image_search_indexes",
        f"create view image_search_indexes as {ENDLESS} select x as id, o.image_table, o.model, o.weights, "
        "o.fingerprint, o.dimensions, o.generation, o.sidecar, o.sidecar_vector_id, o.path_column, "
        "o.content_column, o.identity, o.index_type from more, {old} as o;",
    )


@spoil
def indexes_that_lack_a_column(conn: sqlite3.Connection, database: Path) -> None:
    _replaced(
        conn,
        "image_search_indexes",
        "create table image_search_indexes as select id, image_table, model from {old};",
    )


@spoil
def index_that_is_half_unfinished(conn: sqlite3.Connection, database: Path) -> None:
    """False for SQLite, and true for Python."""
    conn.execute("update image_search_indexes set unfinished = '0x'")


@spoil
def index_of_a_system_table(conn: sqlite3.Connection, database: Path) -> None:
    conn.execute("update image_search_indexes set image_table = 'sqlite_master'")


@spoil
def index_of_nothing_but_nulls(conn: sqlite3.Connection, database: Path) -> None:
    _replaced(
        conn,
        "image_search_indexes",
        "create table image_search_indexes as select * from {old};"
        "insert into image_search_indexes (image_table) values ('images'), (null), (x'ff'), (7);"
        "update image_search_indexes set model = null, fingerprint = x'00', generation = 'x',"
        " sidecar = x'ff', sidecar_vector_id = 1e300;",
    )


def _with_model(conn: sqlite3.Connection, model: str) -> None:
    conn.execute("update image_search_indexes set model = ?", [model])


@spoil
def model_of_the_hub(conn: sqlite3.Connection, database: Path) -> None:
    _with_model(conn, "hf-hub:evil/model")


@spoil
def model_of_timm_with_a_path(conn: sqlite3.Connection, database: Path) -> None:
    _with_model(conn, "timm/../../../tmp/evil")


@spoil
def model_of_timm_with_a_dot(conn: sqlite3.Connection, database: Path) -> None:
    _with_model(conn, "timm/resnet18.x")


@spoil
def model_that_is_a_file(conn: sqlite3.Connection, database: Path) -> None:
    _with_model(conn, "/etc/passwd/../../etc/shadow")


@spoil
def model_with_markup(conn: sqlite3.Connection, database: Path) -> None:
    _with_model(conn, "</script><script>alert(1)</script>\n\x1b[31mred\ud7ff" + "x" * 100_000)


@spoil
def weights_from_a_device(conn: sqlite3.Connection, database: Path) -> None:
    conn.execute(
        "update image_search_indexes set model = 'ViT-B-32/laion2b', weights = '/dev/zero'"
    )


@spoil
def weights_from_a_pipe(conn: sqlite3.Connection, database: Path) -> None:
    pipe = database.with_suffix(".weights")
    os.mkfifo(pipe)
    conn.execute(
        "update image_search_indexes set model = 'timm/resnet18', weights = ?", [str(pipe)]
    )


# --- Versions --------------------------------------------------------------------------------------


@spoil
def migrations_are_an_endless_view(conn: sqlite3.Connection, database: Path) -> None:
    _replaced(
        conn,
        "image_search_migrations",
        f"create view image_search_migrations as {ENDLESS} select hex(zeroblob(x)) as name from more;",
    )


@spoil
def migrations_that_are_computed(conn: sqlite3.Connection, database: Path) -> None:
    _replaced(
        conn,
        "image_search_migrations",
        "create table image_search_migrations (applied_at, name as (hex(zeroblob(400000000))));"
        "insert into image_search_migrations (applied_at) select applied_at from {old};",
    )


@spoil
def migrations_of_the_future(conn: sqlite3.Connection, database: Path) -> None:
    conn.execute(
        f"insert into image_search_migrations (name) {MANY} select '<script>alert(1)</script>' || x from more"
    )


@spoil
def migrations_that_are_all_the_same(conn: sqlite3.Connection, database: Path) -> None:
    _replaced(
        conn,
        "image_search_migrations",
        "create table image_search_migrations (name, applied_at);"
        f"insert into image_search_migrations {MANY} select 'm002_tokens', '' from more;",
    )


@spoil
def migration_with_a_long_name(conn: sqlite3.Connection, database: Path) -> None:
    conn.execute("insert into image_search_migrations values (hex(zeroblob(50000000)), '')")


# --- Sidecars --------------------------------------------------------------------------------------


def _sidecar(conn: sqlite3.Connection, database: Path) -> Path:
    (id,) = conn.execute("select id from image_search_indexes").fetchone()
    return database.with_name(f"{database.name}-image-search-{id}.faiss")


@spoil
def sidecar_is_a_pipe(conn: sqlite3.Connection, database: Path) -> None:
    os.mkfifo(_sidecar(conn, database))


@spoil
def sidecar_is_a_device(conn: sqlite3.Connection, database: Path) -> None:
    _sidecar(conn, database).symlink_to("/dev/zero")


@spoil
def sidecar_is_a_folder(conn: sqlite3.Connection, database: Path) -> None:
    _sidecar(conn, database).mkdir()


@spoil
def sidecar_with_a_huge_header(conn: sqlite3.Connection, database: Path) -> None:
    file = _sidecar(conn, database)
    with file.open("wb") as out:
        out.truncate(3 * GIB)
        out.seek(0, os.SEEK_END)
        out.write((3 * GIB).to_bytes(8, "little") + b"IMGSRCH3")


@spoil
def sidecar_with_lists_on_the_disk(conn: sqlite3.Connection, database: Path) -> None:
    """FAISS opens whatever file such an index names, to read and write; a search then touches it."""
    import faiss

    victim = database.with_suffix(".victim")
    victim.write_bytes(b"mine")
    token, vectors, dimensions, fingerprint, last = conn.execute(
        "select sidecar, (select count(*) from _images_vectors), dimensions, fingerprint,"
        " sidecar_vector_id from image_search_indexes"
    ).fetchone()
    ivf = faiss.index_factory(dimensions, "IVF1,Flat", faiss.METRIC_INNER_PRODUCT)
    points = np.eye(max(vectors, 40), dimensions, dtype=np.float32)
    ivf.train(points)
    lists = faiss.OnDiskInvertedLists(1, ivf.code_size, str(database.with_suffix(".lists")))
    ivf.replace_invlists(lists)
    ivf.add(points[:vectors])
    content = faiss.serialize_index(ivf).tobytes()
    for ending, tuning in (
        ("faiss", None),
        (
            "approximate.faiss",
            {
                "factory": "IVF1,Flat",
                "parameters": "nprobe=1",
                "recall": 1.0,
                "recall_at": 20,
                "queries": 1,
                "candidates": 128,
            },
        ),
    ):
        content += bytes(-len(content) % 64)
        arrays = 2 if tuning is None else 1
        ids = np.arange(1, vectors + 1, dtype="<i8").tobytes() * arrays
        header = {
            "token": token,
            "image_table": "images",
            "index_id": 1,
            "fingerprint": fingerprint,
            "dimensions": dimensions,
            "vector_id": last,
            "vectors": vectors,
            "ids_at": len(content),
            "arrays": arrays,
            "checksum": __import__("zlib").crc32(content + ids),
            "tuning": tuning,
        }
        text = json.dumps(header).encode()
        _sidecar(conn, database).with_suffix(f".{ending}").write_bytes(
            content + ids + text + struct.pack("<Q", len(text)) + b"IMGSRCH3"
        )
    # The lists name the victim now, which is too short for them.
    database.with_suffix(".lists").unlink()
    database.with_suffix(".lists").symlink_to(victim)


# --- Thumbnails and originals ----------------------------------------------------------------------


@spoil
def thumbnails_of_a_gigabyte(conn: sqlite3.Connection, database: Path) -> None:
    _replaced(
        conn,
        "_images_thumbnails",
        f"""
        create table _images_thumbnails (
            image_id integer primary key, sha256 text, webp as (zeroblob({GIB}))
        );
        insert into _images_thumbnails (image_id, sha256) select image_id, sha256 from {{old}};
        """,
    )


@spoil
def thumbnails_are_an_endless_view(conn: sqlite3.Connection, database: Path) -> None:
    _replaced(
        conn,
        "_images_thumbnails",
        f"create view _images_thumbnails as {ENDLESS} "
        "select -x as image_id, 'x' as sha256, zeroblob(x) as webp from more;",
    )


@spoil
def thumbnails_with_scripts(conn: sqlite3.Connection, database: Path) -> None:
    conn.execute(
        "update _images_thumbnails set webp = ? where image_id % 2",
        [b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"],
    )
    conn.execute(
        "update _images_thumbnails set webp = '<html><script>alert(1)</script>' where not image_id % 2"
    )


@spoil
def roots_are_an_endless_view(conn: sqlite3.Connection, database: Path) -> None:
    _replaced(
        conn,
        "image_search_roots",
        f"create view image_search_roots as {ENDLESS} "
        "select -x as id, '/' as path, null as label from more;",
    )


@spoil
def roots_of_everything(conn: sqlite3.Connection, database: Path) -> None:
    conn.execute("update image_search_roots set path = '/'")
    conn.execute("update images set path = 'etc/passwd' where id = 1")
    conn.execute("update images set path = '../../../../etc/passwd' where id = 2")
    conn.execute("update images set path = 'dev/zero' where id = 3")
    conn.execute("update images set path = 'proc/self/environ' where id = 4")
    conn.execute("update images set path = ? where id = 5", ["x" * 2_000_000])


# --- The image table -------------------------------------------------------------------------------


@spoil
def image_table_is_an_endless_view(conn: sqlite3.Connection, database: Path) -> None:
    _replaced(
        conn,
        "images",
        f"create view images as {ENDLESS} select x as id, o.* from more, (select root_id, path, folder, "
        "filename, sha256, taken_at, width, height from {old}) as o;",
    )


@spoil
def image_table_with_gigabytes(conn: sqlite3.Connection, database: Path) -> None:
    conn.execute(f"alter table images add column huge as (hex(zeroblob({GIB // 4})))")
    conn.execute(f"alter table images add column binary as (zeroblob({GIB // 2}))")


@spoil
def path_that_is_computed(conn: sqlite3.Connection, database: Path) -> None:
    conn.execute("alter table images rename column path to old_path")
    conn.execute(f"alter table images add column path as (hex(zeroblob({GIB // 4})))")


@spoil
def columns_that_search(conn: sqlite3.Connection, database: Path) -> None:
    """A column of the image table, a view and a trigger that call our functions."""
    conn.execute("create view wide as select id, path, image_search('x' || id, 100000) from images")
    conn.execute(
        "create view deep as select a.id, image_similarity(a.id, 'word ' || b.id || c.id) as s "
        "from images a, images b, images c order by s"
    )
    conn.execute(
        "create trigger extra after insert on images begin select image_vector('x' || new.id); end"
    )


@spoil
def keys_of_all_kinds(conn: sqlite3.Connection, database: Path) -> None:
    _replaced(
        conn,
        "images",
        "create table images (id text primary key, root_id, path, folder, filename, format, width, height, "
        "size, mtime, sha256, taken_at, camera_make, camera_model, lens, latitude, longitude);"
        "insert into images select cast(id as text), root_id, path, folder, filename, format, width,"
        " height, size, mtime, sha256, taken_at, camera_make, camera_model, lens, latitude, longitude"
        " from {old};"
        "insert into images (id, path) values (null, null), (x'ff00', x'ff'), ('', ''), (' 1 ', ' '),"
        " ('../..', '..'), ('</script>', '</script>'), (char(0), char(0)), ('a' || char(10) || 'b', 'c');"
        "update images set width = 'wide', height = -1, size = 1e300, mtime = x'00', taken_at = 9e999;",
    )


@spoil
def names_with_markup(conn: sqlite3.Connection, database: Path) -> None:
    markup = "\"'><img src=x onerror=alert(1)></script><script>alert(2)</script>\n\x1b[2J"
    conn.execute("update images set path = ?1 || id, filename = ?1, folder = ?1", [markup])
    conn.execute("update images set camera_make = ?1, camera_model = ?1, lens = ?1", [markup])
    companions = json.dumps([markup, "\ud800.mov", "/etc/passwd", "a\0.mov", *["1.mov"] * 1000])
    conn.execute("update images set companions = ?", [companions])
    quoted = markup.replace('"', '""')
    conn.execute(f'alter table images add column "{quoted}" text')
    conn.execute(f'update images set "{quoted}" = ?', [markup])
    conn.execute(f'create table "{quoted}" (id integer primary key, path text)')
    conn.execute(
        "insert into image_search_indexes (image_table, model, fingerprint, dimensions)"
        " select ?, model, fingerprint, dimensions from image_search_indexes",
        [markup],
    )


@spoil
def functions_that_are_not_there(conn: sqlite3.Connection, database: Path) -> None:
    conn.create_function("elsewhere", 1, lambda value: value, deterministic=True)
    conn.create_collation("nowhere", lambda a, b: (a > b) - (a < b))
    conn.execute("alter table images add column far as (elsewhere(path))")
    conn.execute("create index by_far on images(path collate nowhere)")


# --- Tags, duplicates and labels -------------------------------------------------------------------


@spoil
def tags_are_an_endless_view(conn: sqlite3.Connection, database: Path) -> None:
    conn.executescript(
        f"create view images_tags as {ENDLESS} select x as image_id, 'tag ' || x as tag, 0.5 as score, "
        "0.5 as probability, 1 as label_set_id, null as vector_id from more;"
        f"create view images_duplicates as {ENDLESS} select x as id, x as group_id, x as image_id, 1.0 as "
        "score, 0 as exact, 0 as keep, '' as sha256 from more;"
        f"create view image_search_label_sets as {ENDLESS} select x as id, 1 as index_id, '[]' as labels, "
        "'[]' as templates, 1 as top, 0.5 as threshold, 0 as last_vector_id from more;"
    )


@spoil
def label_sets_without_end(conn: sqlite3.Connection, database: Path) -> None:
    conn.executescript(
        "create table image_search_label_sets (id integer primary key, index_id, labels, templates, top,"
        " threshold, last_vector_id);"
        "create table images_tags (image_id, tag, score, probability, label_set_id, vector_id);"
        "insert into images_tags values (1, zeroblob(1000), 'x', null, 1, 'y'), (null, null, 1, 1, 1, 1);"
    )
    for labels in ("[" * 100_000, json.dumps([7, None, {}]), "not json", None, b"\xff"):
        conn.execute(
            "insert into image_search_label_sets (index_id, labels, templates) values (1, ?1, ?1)",
            [labels],
        )


@spoil
def a_file_with_damaged_pages(conn: sqlite3.Connection, database: Path) -> None:
    conn.execute("pragma writable_schema = on")
    conn.execute(
        "update sqlite_master set rootpage = (select rootpage from sqlite_master where name = 'images')"
        " where name in ('_images_vectors', '_images_thumbnails')"
    )
