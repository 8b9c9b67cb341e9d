"""Setting up storage from a configuration."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fsspill
from fsspill import ConfigError, ExternalStorage, InMemoryObjectStore, NullStorage
from fsspill.config import make_external_storage

MIB = 2**20


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


def test_the_functions_act_on_what_was_set_up(tmp_path: Path) -> None:
    """spill, restore and delete of the module use the storage of setup; reset forgets it."""
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


def test_a_failed_setup_keeps_what_was_there(tmp_path: Path) -> None:
    """A configuration that cannot work changes nothing."""
    config = {"type": "filesystem", "params": {"directory_path": str(tmp_path)}}
    fsspill.setup_external_storage(config)
    with pytest.raises(ConfigError):
        fsspill.setup_external_storage({"type": "nonsense", "params": {}})
    assert fsspill.spill_objects([], []) == []


def test_setup_makes_no_request() -> None:
    """A bucket that does not exist is no error yet: IO workers must not ask the network."""
    made({"type": "fsspec", "params": {"uri": "s3://does-not-exist-anywhere/x"}})


@pytest.mark.parametrize("listed", [False, True])
def test_type_filesystem(tmp_path: Path, listed: bool) -> None:
    """Ray's own configuration for directories works, with one path or several."""
    paths = [str(tmp_path / "a"), str(tmp_path / "b")]
    directories: Any = paths if listed else paths[0]
    params = {"directory_path": directories, "buffer_size": MIB}
    storage = made({"type": "filesystem", "params": params})
    assert storage.node_local
    assert storage.uris == [f"file://{path}" for path in (paths if listed else paths[:1])]


def test_type_filesystem_takes_relative_paths(tmp_path: Path, monkeypatch: Any) -> None:
    """As with Ray's class, a relative path is relative to the working directory."""
    monkeypatch.chdir(tmp_path)
    storage = made({"type": "filesystem", "params": {"directory_path": "spill"}})
    assert storage.uris == [f"file://{os.path.realpath(tmp_path)}/spill"]


def test_type_smart_open() -> None:
    """Ray's configuration for smart_open works; what has a counterpart in s3fs is mapped."""
    transport = {
        "buffer_size": MIB,
        "defer_seek": True,
        "min_part_size": 8 * MIB,
        "resource_kwargs": {"endpoint_url": "http://127.0.0.1:1"},
    }
    params = {
        "uri": ["s3://a/x/", "s3://b"],
        "prefix": "spilled",
        "buffer_size": 100,
        "override_transport_params": transport,
    }
    storage = made({"type": "smart_open", "params": params})
    assert storage.uris == ["s3://a/x/spilled", "s3://b/spilled"]
    assert storage.settings.storage_options == {
        "default_block_size": 8 * MIB,
        "client_kwargs": {"endpoint_url": "http://127.0.0.1:1"},
    }


@pytest.mark.parametrize(
    ("name", "value", "counterpart"),
    [
        ("session", object(), "profile"),
        ("client", object(), "AWS_"),
        ("timeout", 3, "read_timeout"),
        ("client_kwargs", {"S3.Client.put_object": {}}, "s3_additional_kwargs"),
        ("surprise", 1, "storage_options"),
    ],
)
def test_what_smart_open_has_alone_is_refused_by_name(
    name: str, value: object, counterpart: str
) -> None:
    """The message names the parameter and what takes its place."""
    params = {"uri": "s3://a", "override_transport_params": {name: value}}
    with pytest.raises(ConfigError, match=f"{name}.*{counterpart}"):
        made({"type": "smart_open", "params": params})


@pytest.mark.parametrize("kind", ["mock_distributed_fs", "unstable_fs", "nonsense", None, 3])
def test_other_types_say_what_to_use(kind: Any) -> None:
    """An unknown type is a ValueError that names the known ones and an alternative."""
    with pytest.raises(ValueError, match=r"'fsspec', 'filesystem', 'smart_open'.*Use"):
        made({"type": kind, "params": {}})


def test_mock_distributed_fs_points_to_a_real_server() -> None:
    """The mock is gone: a real S3 API takes its place."""
    with pytest.raises(ConfigError, match="moto"):
        made({"type": "mock_distributed_fs", "params": {"directory_path": "/tmp"}})


def fsspec_config(**params: Any) -> Any:
    return {"type": "fsspec", "params": params}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("text", "found a str"),
        ({"type": "fsspec"}, "expected a mapping such as"),
        ({"type": "fsspec", "params": ["uri"]}, "expected a mapping such as"),
        ({"type": "fsspec", "params": {"uri": "s3://b"}, "buffer": 1}, "found also 'buffer'"),
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
        ({"type": "filesystem", "params": {"directory_path": ""}}, "expected a path"),
        ({"type": "filesystem", "params": {"directory_path": [1]}}, "expected a path"),
        (
            {"type": "filesystem", "params": {"directory_path": "/a", "buffer_size": "1"}},
            "buffer_size='1': expected an integer",
        ),
        (
            {"type": "smart_open", "params": {"uri": "s3://a", "override_transport_params": 1}},
            "expected a mapping",
        ),
    ],
)
def test_bad_configurations_are_named(config: Any, message: str) -> None:
    """What is wrong and what was expected is in one ConfigError, a ValueError."""
    with pytest.raises(ConfigError, match=message):
        make_external_storage(config)


def test_messages_do_not_repeat_secrets() -> None:
    """A configuration of the wrong shape is described, not shown."""
    config = {"type": "fsspec", "params": None, "secret": "hunter2"}
    with pytest.raises(ConfigError) as caught:
        make_external_storage(config)
    assert "hunter2" not in str(caught.value)
