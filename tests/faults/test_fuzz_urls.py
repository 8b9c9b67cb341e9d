"""Any URL: only the spilled file that it names is read or deleted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsspill import FsspillError
from tests.faults.storages import CONTENT, make_storage, object_store_of
from tests.fuzzing import examples_of, fuzz, near_to
from tests.spilling import spill


class Place:
    """A spilled file, surrounded by copies of it that fsspill must not touch.

    The copies are valid frames: a read of one would succeed, and so be noticed.
    """

    def __init__(self, kind: str, directory: Path) -> None:
        self.storage = make_storage(kind, directory)
        self.store = object_store_of(self.storage)
        [self.url] = spill(self.storage, CONTENT)
        self.base_url, _, self.query = self.url.partition("?")
        [uri] = self.storage.uris
        self.root = uri if kind == "memory" else uri.partition("://")[2]
        self.relative = self.base_url[len(self.root) :]
        self._fs, self._path = fsspec.core.url_to_fs(self.base_url)
        self._bytes: bytes = self._fs.cat_file(self._path)
        self.outside = list(self._urls_outside())
        for url in self.outside:
            self._copy(url)
        self._everything = self._find()

    def _urls_outside(self) -> Iterator[str]:
        parent, _, name = self.root.rpartition("/")
        file = self.relative.rpartition("/")[2]
        yield f"{parent}/canary"
        yield f"{parent}/{name}2{self.relative}"
        yield f"{parent}/other{self.relative}"
        yield f"{parent}{self.relative}"
        yield f"{self.root}/canary"
        yield f"{self.root}/a/b/{file}"
        yield f"{self.root}/a/d/e/{file}"

    def _copy(self, url: str) -> None:
        path = self._fs._strip_protocol(url)
        self._fs.makedirs(self._fs._parent(path), exist_ok=True)
        self._fs.pipe_file(path, self._bytes)

    def _find(self) -> dict[str, bytes]:
        top = self._fs._strip_protocol(self.root.rpartition("/")[0])
        return {path: self._fs.cat_file(path) for path in self._fs.find(top)}

    def is_unchanged(self, *, without_the_file: bool = False) -> bool:
        """Return True if every file is there, unchanged."""
        expected = dict(self._everything)
        if without_the_file:
            del expected[self._path]
        return self._find() == expected

    def restore_file(self) -> None:
        self._fs.pipe_file(self._path, self._bytes)


STEPS = ". .. %2e%2e %2E. ..%2f ..\\ \u2025 ~ * ** [a-z] uri canary other s"


def mutated_urls(place: Place) -> st.SearchStrategy[str]:
    """Return a strategy for URLs similar to that of a spilled file."""
    parent, _, name = place.root.rpartition("/")
    file = place.relative.rpartition("/")[2]
    steps = st.sampled_from([*STEPS.split(), "", "..\0", " ..", name, file])
    up = st.lists(steps, max_size=6).map(lambda found: "/".join(["", *found]))
    target = st.sampled_from([url[len(parent) :] for url in [*place.outside, place.base_url]])
    roots = st.sampled_from(["", "/", name, parent, place.root, place.root.upper()])
    other_roots = st.sampled_from(
        ["{}/", "{}2", "file://{}", "local://{}", "memory://{}", "s3://{}", "simplecache::{}"]
    ).map(lambda form: form.format(place.root))
    built = st.builds("{}{}{}".format, roots | other_roots, up, target)
    bases = st.sampled_from([place.base_url, *place.outside]) | built | near_to(place.base_url)
    queries = st.sampled_from(
        [
            "{}",
            "{}&x=1",
            "{}&offset=0",
            "{}&size=1",
            "{}#",
            "{}?{}",
            "/../canary?{}",
            "&{}",
            "{0}&{0}",
        ]
    ).map(lambda form: form.format(place.query, place.query))
    other_queries = st.sampled_from(
        ["", "offset=0", "size=36", "size=36&offset=0", "offset=0&size=0", "offset=-1&size=36"]
    )
    return st.builds("{}?{}".format, bases, queries | other_queries | near_to(place.query))


@fuzz
@pytest.mark.parametrize("kind", ["memory", "shared", "node-local"])
def test_restore_reads_only_the_spilled_file(examples: int, kind: str, tmp_path: Path) -> None:
    """Any URL restores the spilled object, or raises a ValueError or FsspillError."""
    place = Place(kind, tmp_path)

    @examples_of(examples)
    @given(url=mutated_urls(place))
    def check(url: str) -> None:
        try:
            place.storage.restore_spilled_objects([b"back"], [url])
        except (ValueError, FsspillError):
            assert b"back" not in place.store
        else:
            assert url.startswith(f"{place.base_url}?")
            assert bytes(place.store.get(b"back")) == CONTENT
            place.store.delete(b"back")

    check()
    assert place.is_unchanged()


@fuzz
@pytest.mark.parametrize("kind", ["memory", "shared", "node-local"])
def test_delete_removes_only_the_named_file(examples: int, kind: str, tmp_path: Path) -> None:
    """Any URL deletes the file that it names and no other, or raises a ValueError."""
    place = Place(kind, tmp_path)

    @examples_of(examples)
    @given(url=mutated_urls(place))
    def check(url: str) -> None:
        try:
            place.storage.delete_spilled_objects([url])
        except ValueError:
            assert place.is_unchanged()
        else:
            assert place.is_unchanged(without_the_file=url.startswith(f"{place.base_url}?"))
            place.restore_file()

    check()


@fuzz
def test_bytes_that_are_no_url_are_refused(examples: int) -> None:
    """Both restore and delete raise a ValueError."""
    storage = make_storage("memory", Path())

    @examples_of(examples)
    @given(url=st.binary(max_size=40))
    def check(url: bytes) -> None:
        for call in (
            lambda: storage.restore_spilled_objects([b"x"], [url]),
            lambda: storage.delete_spilled_objects([url]),
        ):
            with pytest.raises(ValueError, match=r"URL|decode|refused"):
                call()

    check()
