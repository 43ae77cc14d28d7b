"""`sqlite-utils album-images` and `Albums` as people use them."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlite_utils.cli import cli

from datasette_image_search import Images, ImageSearchError
from datasette_image_search.albums import Albums

from .commands import command, query


def said(*arguments: object, status: int = 0, typed: bytes = b"") -> str:
    """What the command prints on both outputs."""
    line = ["album-images", *map(str, arguments)]
    result = CliRunner().invoke(cli, line, catch_exceptions=False, input=typed)
    assert result.exit_code == status, result.output
    return result.output


def members(database: Path, name: str) -> list[str]:
    sql = (
        "select path from images join images_album_members on image_id = images.id "
        "join images_albums on album_id = images_albums.id where name = ? order by path"
    )
    return [path for (path,) in query(database, sql, [name])]


def test_from_rows_from_a_query_and_from_files(database: Path, folder: Path):
    assert said(database, "images") == "There are no albums yet; name one, and images for it\n"
    where = ("--where", "path like :path", "-p", "path", "b%")
    assert said(database, "images", "Dark", *where) == "2 images added to 'Dark', which has 2\n"
    closest = ("--query", "red", "-k", 2, "--where", "path != 'red.jpg'")
    assert "2 images added to 'Reds', which has 2" in said(database, "images", "Reds", *closest)
    assert "red.jpg" not in members(database, "Reds")
    files = f"{folder / 'red.jpg'}\n{folder / 'blue.jpg'}\n".encode()
    more = said(database, "images", "Dark", "-", "green.jpg", typed=files)
    assert more == "2 images added to 'Dark', which has 4\n"
    assert members(database, "Dark") == ["black.jpg", "blue.jpg", "green.jpg", "red.jpg"]
    lines = said(database, "images").splitlines()
    assert [line.split() for line in lines] == [
        ["album", "images"], ["-------", "--------"], ["Dark", "4"], ["Reds", "2"],
    ]  # fmt: skip
    assert str(folder / "green.jpg") in said(database, "images", "Dark").splitlines()


def test_all_matches_of_a_query_however_many(database: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("datasette_image_search.cli.albums.FIRST_ASKED", 1)
    assert "2 images added to 'Two'" in said(database, "images", "Two", "--query", "red + blue")
    assert "8 images added to 'All'" in said(database, "images", "All", "--query", "text:jpg")


def test_what_other_commands_print_comes_with_nul_or_lines(database: Path, folder: Path):
    typed = f"{folder / 'red.jpg'}\0{folder / 'blue.jpg'}\0".encode()
    said(database, "images", "Some", "-", typed=typed)
    said(database, "images", "Some", "-", "--remove", typed=b"blue.jpg\r\n")
    assert members(database, "Some") == ["red.jpg"]


def test_removing_renaming_and_deleting(database: Path):
    said(database, "images", "All", "--where", "1")
    removed = said(database, "images", "All", "--where", "path = 'red.jpg'", "--remove")
    assert removed == "1 image removed from 'All', which has 7\n"
    assert said(database, "images", "All", "--rename", " Most ") == "'All' is now 'Most'\n"
    deleted = said(database, "images", "Most", "--delete")
    assert deleted == "Deleted the album 'Most' of 7 images; the images are still there\n"
    assert query(database, "select count(*) from images") == [(8,)]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--where", "1"), "name the album, after the table"),
        (("A", "--delete", "--remove"), "choose one of --remove and --delete"),
        (("A", "--rename", "B", "--where", "1"), "--rename is of the whole album"),
        (("A", "--remove"), "--remove needs images"),
        (("A", "-k", "3"), "add --query"),
        (("A",), "'images' has no album 'A'"),
        (("A", "--where", "nix = 1"), "no such column: nix"),
        (("A", "nix.jpg"), "'nix.jpg' is no image of 'images'"),
        (("A", "-"), "there are no paths on standard input"),
        (("", "--where", "1"), "the name of an album is empty"),
        (("A", "--query", "text:nix"), "no image matches 'text:nix'"),
    ],
)
def test_mistakes_are_one_sentence_and_change_nothing(
    database: Path, arguments: tuple[str, ...], sentence: str
):
    output = said(database, "images", *arguments, status=1)
    assert sentence in output
    assert output.startswith("Error: ")
    tables = query(database, "select name from sqlite_master where name like 'images_album%'")
    assert tables == []


def test_pictures_in_the_database_have_no_paths(path: Path, folder: Path):
    insert = ("insert-files", path, "blobs", folder / "red.jpg", folder / "blue.jpg")
    columns = ("-c", "name:name", "-c", "content:content", "--pk", "name")
    assert command(*insert, *columns).exit_code == 0
    options = ("--content-column", "content", "--model", "palette")
    assert command("embed-images", path, "blobs", *options).exit_code == 0
    said(path, "blobs", "All", "--where", "1")
    assert said(path, "blobs", "All") == "#blue.jpg\n#red.jpg\n"
    assert "are in the database, not in files" in said(path, "blobs", "All", "red.jpg", status=1)


def test_in_python(database: Path, folder: Path):
    with Images(database) as images:
        albums = Albums(images)
        hits = images.search("red", 2)
        assert albums.add("Red", [hit.id for hit in hits]) == 2
        assert albums.add("Red", where="id = :id", params={"id": hits[0].id}) == 0
        assert albums.add("Red", files=folder / "blue.jpg") == 1
        assert [(album.name, album.images) for album in albums.all()] == [("Red", 3)]
        assert set(albums.members("Red")) > {hit.id for hit in hits}
        assert albums.remove("Red", files=["blue.jpg"]) == 1
        albums.rename("Red", "Reds")
        assert albums.delete("Reds") == 2
        with pytest.raises(ImageSearchError, match="no album 'Reds'"):
            albums.members("Reds")
        with pytest.raises(ImageSearchError, match="name is 3"):
            albums.add(3)  # type: ignore[arg-type]
