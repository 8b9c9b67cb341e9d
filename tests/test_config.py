"""Set-up of storage from a configuration."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fsspill
from fsspill import ConfigError, ExternalStorage, InMemoryObjectStore, NullStorage, Settings
from fsspill.config import make_external_storage, make_settings


@pytest.fixture(autouse=True)
def _reset() -> Iterator[None]:
    yield
    fsspill.reset_external_storage()


def made(config: Any) -> ExternalStorage:
    storage = make_external_storage(config)
    assert isinstance(storage, ExternalStorage)
    return storage


@pytest.mark.parametrize("config", [None, {}])
def test_no_config_is_null_storage(config: Any) -> None:
    """A falsy configuration gives a storage on which every call raises NotImplementedError."""
    storage = fsspill.setup_external_storage(config, node_id="n", session_name="s")
    assert type(storage) is NullStorage
    for call in (
        lambda: fsspill.spill_objects([b"x"], [b""]),
        lambda: fsspill.restore_spilled_objects([b"x"], [b"u"]),
        lambda: fsspill.delete_spilled_objects([b"u"]),
        storage.destroy_external_storage,
    ):
        with pytest.raises(NotImplementedError, match="External storage is not initialized"):
            call()


def test_the_functions_use_the_storage_that_was_set_up(tmp_path: Path) -> None:
    """Spill, restore and delete go to the storage of setup; reset ends that."""
    store = InMemoryObjectStore()
    store.put(b"x", b"data")
    config = {"type": "fsspec", "params": {"uri": f"file://{tmp_path}"}}
    storage = fsspill.setup_external_storage(config, "n", "s", object_store=store)
    assert isinstance(storage, ExternalStorage)
    urls = fsspill.spill_objects([b"x"], [b"owner"])
    store.delete(b"x")
    assert fsspill.restore_spilled_objects([b"x"], urls) == 4
    assert bytes(store.get(b"x")) == b"data"
    assert storage.list_spilled_files() != []
    fsspill.delete_spilled_objects(urls)
    assert storage.list_spilled_files() == []
    fsspill.reset_external_storage()
    with pytest.raises(NotImplementedError):
        fsspill.spill_objects([b"x"])


def test_a_failed_setup_keeps_the_previous_storage(tmp_path: Path) -> None:
    """A configuration that cannot work changes nothing."""
    config = {"type": "filesystem", "params": {"directory_path": str(tmp_path)}}
    fsspill.setup_external_storage(config)
    with pytest.raises(ConfigError):
        fsspill.setup_external_storage({"type": "nonsense", "params": {}})
    assert fsspill.spill_objects([], []) == []


def test_setup_makes_no_request() -> None:
    """A missing bucket is not an error yet: IO workers must not use the network here."""
    made({"type": "fsspec", "params": {"uri": "s3://does-not-exist-anywhere/x"}})


def test_all_parameters_of_settings_are_taken() -> None:
    """Those that mean something under Ray only too; the raylet's own is dropped."""
    params = {"uri": "file:///a", "lost_after": 5, "file_size": 1, "directory_path": ["/a"]}
    assert make_settings({"type": "fsspec", "params": params}) == Settings(
        "file:///a", lost_after=5, file_size=1
    )
    assert made({"type": "fsspec", "params": params}).settings.lost_after == 5


def test_an_unknown_parameter_is_refused_with_the_nearest_name() -> None:
    """The error names the type, the known parameters and the most similar one."""
    with pytest.raises(ConfigError) as caught:
        make_settings(fsspec_config(uri="memory://a", lost_afer=1))
    message = str(caught.value)
    assert "storage of type 'fsspec': unknown parameter 'lost_afer'. Expected some of" in message
    assert message.endswith("Did you mean 'lost_after'?")


def fsspec_config(**params: Any) -> Any:
    return {"type": "fsspec", "params": params}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("text", "found a str"),
        ({"type": "fsspec"}, "expected a mapping such as"),
        ({"type": "fsspec", "params": ["uri"]}, "expected a mapping such as"),
        (
            {"type": "fsspec", "params": {"uri": "s3://b"}, "buffer": 1},
            "unknown parameter 'buffer'",
        ),
        ({"type": "fsspec", "param": {"uri": "s3://b"}}, "Did you mean 'params'"),
        (fsspec_config(), r"expected params\['uri'\]"),
        (fsspec_config(uri=None), r"expected params\['uri'\]"),
        (fsspec_config(uri=[]), "expected a URI or a list of URIs"),
        (fsspec_config(uri=3), "expected a URI or a list of URIs"),
        (fsspec_config(uri=[3]), "expected a URI with a protocol"),
        (fsspec_config(uri="/plain/path"), "expected a URI with a protocol"),
        (fsspec_config(uri=["memory://a", "memory://a"]), "expected each URI once"),
        (fsspec_config(uri="memory://a", nonsense=1), "unknown parameter 'nonsense'"),
        (fsspec_config(uri="memory://a", prefix=3), "prefix=3: expected a string"),
        (fsspec_config(uri="memory://a", prefix="a/../b"), r"prefix='\.\.'"),
        (fsspec_config(uri="memory://a", lost_after="1"), "lost_after='1': expected a number"),
        (fsspec_config(uri="memory://a", allow_secrets=1), "expected True or False"),
        (fsspec_config(uri="memory://a", shared="yes"), "expected True or False"),
        (fsspec_config(uri="memory://a", shared=True), "expected a file:// URI"),
        (fsspec_config(uri="memory://a", storage_options=[1]), "expected a mapping"),
        (fsspec_config(uri="file:///a", storage_options={"x": 1}), "local directories take no"),
        (fsspec_config(uri="memory://a", file_size="1"), "file_size='1': expected an integer"),
        (fsspec_config(uri="memory://a", range_size=True), "expected an integer"),
        (fsspec_config(uri="memory://a", file_size=0), "expected 1 or more"),
        (fsspec_config(uri="memory://a", max_bytes_in_flight=1), "at least 16777216 bytes"),
        (fsspec_config(uri="memory://a", file_size=2**40), "max_bytes_in_flight=134217728"),
        (fsspec_config(uri=["file:///a", "memory://a"]), "only file:// URIs or none"),
    ],
)
def test_bad_configurations_are_named(config: Any, message: str) -> None:
    """One ConfigError, a ValueError, has what was found and what was expected."""
    with pytest.raises(ConfigError, match=message):
        make_external_storage(config)


def test_messages_do_not_repeat_secrets() -> None:
    """A configuration of the wrong shape is described, not shown."""
    config = {"type": "fsspec", "params": None, "secret": "hunter2"}
    with pytest.raises(ConfigError) as caught:
        make_external_storage(config)
    assert "hunter2" not in str(caught.value)
