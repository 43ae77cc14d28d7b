"""URLs of roots: one form of each, no secrets in them, and what is below another."""

from __future__ import annotations

from pathlib import Path

import pytest

from datasette_image_search.files.remote import list_remote
from datasette_image_search.files.remote_urls import (
    RemoteError,
    below,
    clean_url,
    is_url,
    joined,
    split_name,
    storage_of,
)


@pytest.mark.parametrize("text", ["s3://bucket", "memory://a", "zip::a.zip", "SFTP://me@host/a"])
def test_a_url_is_no_path(text: str):
    assert is_url(text)


@pytest.mark.parametrize("text", ["photos", "/a::b", "C:\\photos", "2020: Lisbon", "a:b", ""])
def test_a_path_is_no_url(text: str):
    assert not is_url(text)


def test_a_file_that_is_called_like_a_chain_is_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    Path("ab::c").touch()
    assert not is_url("ab::c")


def test_a_root_has_one_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    here = tmp_path.as_posix()
    assert clean_url("S3://Bucket/photos//") == "s3://Bucket/photos"
    assert clean_url("memory://") == "memory://"
    assert clean_url("zip::a.zip") == f"zip::{here}/a.zip"
    assert clean_url("zip://::file://a.zip") == f"zip::{here}/a.zip"
    assert clean_url("zip://in/::s3://bucket/a.zip") == "zip://in::s3://bucket/a.zip"


@pytest.mark.parametrize(
    ("url", "secret"),
    [
        ("s3://key:secret@bucket/photos", "secret"),
        ("sftp://me:secret@host/photos", "secret"),
        ("https://secret@host/photos", "secret"),
        ("https://host/photos?signature=secret", "secret"),
        ("zip::https://host/a.zip?token=secret", "secret"),
        ("zip::s3://key:secret@bucket/a.zip", "secret"),
        ("https://host/photos?secret", "secret"),
        ("https://host/photos#secret", "secret"),
        ("s3://key:a/secret@bucket/photos", "secret"),
    ],
)
def test_a_secret_is_neither_kept_nor_printed(url: str, secret: str):
    with pytest.raises(RemoteError, match="in the environment") as error:
        clean_url(url)
    assert secret not in str(error.value)


@pytest.mark.parametrize(
    ("url", "same"),
    [
        ("memory:///b/a", "memory://b/a"),
        ("gcs://b/A", "gs://b/A"),
        ("s3a://b", "s3://b"),
        ("az://c/p", "abfs://c/p"),
        ("ssh://Me@Host:22/p", "sftp://Me@host/p"),
        ("https://Host:443/P", "https://host/P"),
        ("http://host:8080/p", "http://host:8080/p"),
    ],
)
def test_two_spellings_are_one_root(url: str, same: str):
    assert clean_url(url) == same


@pytest.mark.parametrize("url", ["https://h/a/../b", "s3://b//p", "memory://b/./p"])
def test_a_path_that_leads_elsewhere_is_refused(url: str):
    with pytest.raises(RemoteError, match="give it without"):
        clean_url(url)


@pytest.mark.parametrize(
    "url",
    [
        *("reference::https://host/a.json", "reference://a", "github://org:repo/x", "git://a"),
        *("simplecache::s3://b", "filecache::/etc", "local::/etc", "dir::/etc", "file::/etc"),
        *("zip::simplecache::s3://b/a.zip", "s3://b::zip", "data:://x", "hf://a"),
    ],
)
def test_only_storage_that_is_read_is_opened(url: str):
    with pytest.raises(RemoteError, match="is no URL of a folder"):
        clean_url(url)
    with pytest.raises(RemoteError, match="is no URL of a folder"):
        list(list_remote(url))


def test_a_storage_is_a_bucket_a_host_or_an_archive():
    assert storage_of("s3://b/a") == storage_of("s3://b/c/d")
    assert storage_of("zip://in::s3://b/a.zip") == storage_of("zip::s3://b/a.zip")
    several = ("s3://b", "gs://b", "s3://bb", "http://h/a", "http://h@b/a", "zip::s3://b")
    assert len({storage_of(url) for url in several}) == len(several)


def test_a_folder_of_this_machine_is_named_by_its_path():
    with pytest.raises(RemoteError, match="give its path"):
        clean_url("file:///home/me/photos")


@pytest.mark.parametrize(
    ("root", "url"),
    [
        ("s3://bucket", "s3://bucket/2020/a.jpg"),
        ("s3://bucket/", "s3://bucket/2020/a.jpg"),
        ("memory://", "memory://2020/a.jpg"),
        ("zip::/a.zip", "zip://2020/a.jpg::/a.zip"),
        ("zip://in::s3://b/a.zip", "zip://in/2020/a.jpg::s3://b/a.zip"),
    ],
)
def test_a_file_below_a_root(root: str, url: str):
    assert joined(root, "2020/a.jpg") == url
    assert below(url, root) == "2020/a.jpg"
    assert split_name(url) == (joined(root, "2020"), "a.jpg")
    assert below(root, root) == ""
    assert joined(root, "") == root.rstrip("/") or root == "memory://"


@pytest.mark.parametrize(
    "url", ["s3://bucketful/a.jpg", "gs://bucket/a.jpg", "zip://a.jpg::s3://bucket", "s3://buck"]
)
def test_a_file_elsewhere(url: str):
    assert below(url, "s3://bucket") is None
