"""External storage as an object of Python; what it does with bytes is in tests/contract."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from fsspill import (
    ConfigError,
    ExternalStorage,
    FsspillError,
    InMemoryObjectStore,
    InvalidArgumentError,
    ObjectNotFoundError,
    Settings,
)

URL = "memory://x/session/ray_spilled_objects_n/f"


def spill_one(storage: ExternalStorage) -> list[bytes]:
    """Spill one object and return its URL."""
    assert isinstance(storage.object_store, InMemoryObjectStore)
    storage.object_store.put(b"x", b"data")
    return storage.spill_objects([b"x"])


def test_a_block_ends_with_the_files_deleted(tmp_path: Path) -> None:
    """Also where it ends with an error."""
    with ExternalStorage(tmp_path) as storage:
        spill_one(storage)
        assert storage.list_spilled_files()
    assert not storage.list_spilled_files()
    storage = ExternalStorage(tmp_path)
    spill_one(storage)
    with pytest.raises(ObjectNotFoundError), storage:
        storage.spill_objects([b"not there"])
    assert not storage.list_spilled_files()


def test_its_repr_has_the_settings_without_secrets() -> None:
    """What differs from the defaults, so that a log says which storage it was."""
    options = {"secret": "hunter2", "endpoint_url": "http://127.0.0.1:1"}
    shown = repr(ExternalStorage("s3://b/x", storage_options=options, file_size=1))
    assert shown.startswith("ExternalStorage(uri=('s3://b/x',)")
    assert "file_size=1" in shown
    assert "http://127.0.0.1:1" in shown
    assert "hunter2" not in shown
    assert "max_bytes" not in shown


def test_a_path_is_a_local_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Absolute, relative, and one of several."""
    monkeypatch.chdir(tmp_path)
    assert ExternalStorage(tmp_path).uris == [f"file://{tmp_path}"]
    assert ExternalStorage(Path("a/../b")).uris == [f"file://{tmp_path}/b"]
    assert ExternalStorage([tmp_path / "a", "file:///b"]).uris == [
        f"file://{tmp_path}/a",
        "file:///b",
    ]
    assert Settings.of(tmp_path) == Settings(f"file://{tmp_path}")


def test_a_path_that_was_a_uri_is_refused() -> None:
    """`pathlib` makes s3:/bucket of it, which is no local directory."""
    with pytest.raises(ConfigError, match="Did you mean 's3://bucket/x'"):
        ExternalStorage(PurePosixPath("s3://bucket/x"))


def test_a_copy_by_pickle_reads_what_was_spilled(tmp_path: Path) -> None:
    """It has the same arguments, and connections of its own."""
    with ExternalStorage(tmp_path, file_size=1) as storage:
        urls = spill_one(storage)
        copy = pickle.loads(pickle.dumps(storage))
        assert copy.settings == storage.settings
        assert copy.restore_spilled_objects([b"back"], urls) > 0
        assert bytes(copy.object_store.get(b"back")) == b"data"


MALFORMED: list[Any] = [
    b"",
    "x",
    URL,
    f"{URL}?offset=a&size=1",
    f"{URL}?offset=0&size=-1",
    f"{URL}?offset=0&offset=0&size=1",
    b"\xff\xfe?offset=0&size=1",
    None,
    5,
    [URL],
]


@pytest.mark.parametrize("url", MALFORMED, ids=repr)
def test_a_malformed_url_is_an_error_of_fsspill(url: Any) -> None:
    """It is a ValueError too, and names what was given; nothing was done."""
    storage = ExternalStorage("memory://x")
    calls: list[Callable[[], object]] = [
        lambda: storage.restore_spilled_objects([b"x"], [url]),
        lambda: storage.delete_spilled_objects([url]),
    ]
    for call in calls:
        with pytest.raises(InvalidArgumentError, match="not the URL of a spilled object") as caught:
            call()
        assert isinstance(caught.value, ValueError)


def test_lists_of_other_lengths_are_errors_of_fsspill() -> None:
    """One URL for each object, one owner for each object."""
    storage = ExternalStorage("memory://x")
    with pytest.raises(FsspillError, match="one URL for each object"):
        storage.restore_spilled_objects([b"x"], [])
    with pytest.raises(FsspillError, match="owner"):
        storage.spill_objects([b"x"], [])


def test_spilling_draws_none_of_the_programs_random_numbers() -> None:
    """A seeded program gets the same ones with fsspill and without."""
    random.seed(1)
    before = random.getstate()
    with ExternalStorage(["memory://a", "memory://b"]) as storage:
        spill_one(storage)
    assert random.getstate() == before
