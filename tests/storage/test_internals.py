"""The attributes of the filesystem packages that fsspill relies on."""

from __future__ import annotations

import ast
import importlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

import fsspill
from fsspill import ConfigError, ExternalStorage, InMemoryObjectStore
from fsspill.storage import connection as connections
from fsspill.storage import internals
from fsspill.storage.connection import connect
from fsspill.storage.internals import INTERNALS, Internal, known_config, missing
from fsspill.storage.obstore import UnsupportedByObstoreError, open_bucket
from fsspill.storage.protocols import PROTOCOLS
from fsspill.testing.s3_server import S3Server
from tests.timeouts import IMPATIENT

pytest.importorskip("s3fs")
pytest.importorskip("obstore")

PACKAGE = Path(fsspill.__file__).parent
SOURCES = [path for path in PACKAGE.rglob("*.py") if not {"ray", "hook"} & set(path.parts)]

INTERFACE = {
    "_cat_file", "_cat_ranges", "_find", "_info", "_ls", "_makedirs", "_pipe_file", "_rm_file",
    "_rmdir", "_strip_protocol",
}  # fmt: skip
"""fsspec's own, which every asynchronous filesystem implements."""

rows_of_modules = [row for row in INTERNALS if not row.path.startswith("fs.")]
rows_of_obstore = [row for row in INTERNALS if row.use == "obstore"]


def chains(path: Path, roots: set[str]) -> Iterator[list[str]]:
    """Yield the attributes of some names that a module uses."""
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        found: ast.AST = node
        while isinstance(found, ast.Attribute):
            names.insert(0, found.attr)
            found = found.value
        if names and ast.unparse(found) in roots:
            yield names


def test_the_table_has_every_private_attribute_of_a_filesystem_that_is_used() -> None:
    """A new use fails here until the table has it."""
    known = {name for row in INTERNALS for name in row.path.split(".")} | INTERFACE
    used = {
        name
        for path in SOURCES
        for names in chains(path, {"fs", "self", "connection"})
        if {"fs", "_fs", "sync_fs", "connection"} & set(names) or path.name == "obstore.py"
        for name in names
        if name.startswith("_") and name != "_fs"
    }
    used -= {"_request_of_file", "_target", "_to_target"}  # of the wrappers for tests
    assert used <= known, used - known


def test_the_table_has_everything_that_obstore_needs_of_a_filesystem() -> None:
    """Public attributes too: no release of s3fs, gcsfs or adlfs promises them."""
    known = {name for row in INTERNALS for name in row.path.split(".")}
    path = PACKAGE / "storage" / "obstore.py"
    used = {
        name
        for names in chains(path, {"fs", "client", "config", "service"})
        for name in names
        if not hasattr(str, name) and not hasattr(dict, name)
    }
    assert used <= known, used - known


@pytest.mark.parametrize("row", rows_of_modules, ids=lambda row: row.path)
def test_these_versions_have_them(row: Internal) -> None:
    """They are where the table says."""
    pytest.importorskip(row.path.split(".")[0])
    assert row.path not in missing(row.package, row.use)


@pytest.mark.parametrize(
    "row", [row for row in INTERNALS if row.use == "client"], ids=lambda row: row.path
)
def test_a_client_that_lacks_one_is_refused(row: Internal, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names it, the version, and the command that mends it."""
    remove(row, monkeypatch)
    with pytest.raises(ConfigError, match=f"{row.path}, which s3fs .* lacks.*pip install"):
        connect("s3://bucket/x", {})


def test_another_filesystem_under_the_name_of_s3_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As obstore's own registers itself: what its class lacks is no AttributeError."""
    from obstore.fsspec import FsspecStore

    registry = importlib.import_module("fsspec.registry")._registry
    monkeypatch.setitem(registry, "s3", FsspecStore)
    with pytest.raises(ConfigError, match=r"found obstore\.fsspec\.FsspecStore.*Expected S3File"):
        connect("s3://bucket/x", {})


@pytest.fixture
def round_trip(s3_bucket: str, caplog: pytest.LogCaptureFixture) -> Any:
    """Return a function that restores an object of an engine and returns what was logged."""

    def run(engine: str) -> list[str]:
        store = InMemoryObjectStore()
        store.put(b"ref", bytes(9 * 2**20))
        storage = ExternalStorage(f"s3://{s3_bucket}/x", object_store=store, engine=engine)
        urls = storage.spill_objects([b"ref"])
        store.delete(b"ref")
        with caplog.at_level(logging.WARNING):
            storage.restore_spilled_objects([b"ref"], urls)
        assert store.get(b"ref").nbytes == 9 * 2**20
        return [record.getMessage() for record in caplog.records]

    return run


@pytest.mark.parametrize("row", rows_of_obstore, ids=lambda row: row.path)
def test_obstore_is_unsupported_without_one(
    row: Internal, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason names what is missing, and the versions."""
    protocol, kind, options = KINDS[row.package]
    pytest.importorskip({"gcs": "gcsfs", "azure": "adlfs"}.get(kind, "s3fs"))
    connection = connect(f"{protocol}://bucket/x", options)
    fs: Any = connection.fs
    if row.path.startswith("fs."):
        fs = Lacking(fs, row.path.removeprefix("fs."))
    else:
        remove(row, monkeypatch)
    name = row.path.rpartition(".")[2]
    with pytest.raises(UnsupportedByObstoreError, match=rf"obstore [0-9.]+.*{name}"):
        connection.run(open_and_ask, fs, kind)


async def open_and_ask(fs: Any, kind: str) -> None:
    await open_bucket(fs, kind, "bucket")


KEYS = {"key": "a", "secret": "b", "token": "c"}
KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "s3fs": ("s3", "s3", KEYS),
    "aiobotocore": ("s3", "s3", {}),
    "obstore": ("s3", "s3", {}),
    "gcsfs": ("gs", "gcs", {"token": "anon"}),
    "adlfs": ("abfs", "azure", {"account_name": "account", "account_key": "a2V5"}),
}


class Lacking:
    """An object without one attribute, perhaps of an attribute of its own."""

    def __init__(self, target: Any, path: str) -> None:
        self._target, self._path = target, path

    def __getattr__(self, name: str) -> Any:
        first, _, rest = self._path.partition(".")
        found = getattr(self._target, name)
        if name != first:
            return found
        if not rest:
            raise AttributeError(f"no attribute {name!r}")
        return Lacking(found, rest)


@pytest.mark.parametrize("path", ["obstore.get_range_async", "obstore.store.S3Store"])
def test_the_default_engine_says_once_that_it_cannot_work(
    round_trip: Any, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Objects are restored through the filesystem, and one line says why, and with what."""
    remove(Internal("obstore", path, "obstore", ""), monkeypatch)
    [line] = round_trip("auto")
    assert "reading through S3FileSystem, not obstore: obstore " in line
    assert f"lacks {path}" in line


@pytest.mark.parametrize("path", ["obstore.get_range_async", "fs.req_kw", "fs.set_session"])
def test_an_engine_that_was_asked_for_and_cannot_work_is_an_error(
    s3_bucket: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check raises, with the reason; so does the head of a cluster, which makes it."""
    if path.startswith("fs."):
        from fsspill.storage import range_reader

        async def open_lacking(fs: Any, kind: str, bucket: str, **options: Any) -> Any:
            return await open_bucket(Lacking(fs, path.removeprefix("fs.")), kind, bucket)

        monkeypatch.setattr(range_reader, "open_bucket", open_lacking)
    else:
        remove(Internal("obstore", path, "obstore", ""), monkeypatch)
    storage = ExternalStorage(f"s3://{s3_bucket}/x", engine="obstore")
    with pytest.raises(ConfigError, match=rf"engine='obstore'.*{path.rpartition('.')[2]}"):
        storage.check()
    assert fsspec.filesystem("s3").find(s3_bucket) == []
    ExternalStorage(f"s3://{s3_bucket}/x").check()


def test_an_unsupported_setting_of_the_engine_that_was_asked_for_is_an_error(
    s3_bucket: str,
) -> None:
    """It is, too, if the packages are as expected."""
    options = {"s3_additional_kwargs": {"ExpectedBucketOwner": "123456789012"}}
    uri = f"s3://{s3_bucket}/x"
    storage = ExternalStorage(uri, storage_options=options, engine="obstore")
    with pytest.raises(ConfigError, match=r"engine='obstore'.*ExpectedBucketOwner"):
        storage.check()
    ExternalStorage(uri, storage_options=options).check()


def test_an_engine_that_was_asked_for_reads_in_the_check(
    s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An endpoint that only the filesystem reaches is found before anything is spilled."""
    from obstore.store import S3Store

    from fsspill.storage import range_reader

    async def open_nowhere(fs: Any, kind: str, bucket: str, **options: Any) -> Any:
        nowhere = "http://127.0.0.1:9"
        return S3Store(
            bucket,
            endpoint=nowhere,
            aws_endpoint_url_s3=nowhere,
            client_options={"allow_http": True},
            retry_config={"max_retries": 0},
        )

    monkeypatch.setattr(range_reader, "open_bucket", open_nowhere)
    storage = ExternalStorage(f"s3://{s3_bucket}/x", engine="obstore", stall_timeout=IMPATIENT)
    with pytest.raises(OSError, match="cannot read through obstore"):
        storage.check()


def test_a_forked_process_without_a_way_to_discard_the_event_loop_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It would wait forever."""
    monkeypatch.setattr(connections, "_IMPORTED_IN", os.getpid() + 1)
    monkeypatch.delattr("fsspec.asyn.reset_lock")
    with pytest.raises(ConfigError, match=r"forked.*lacks fsspec\.asyn\.reset_lock"):
        connect("memory://x", {})


@pytest.mark.parametrize("unknown", ["request_checksum_calculation", "max_pool_connections"])
def test_options_that_botocore_does_not_know_are_left_out(
    unknown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of fsspill alone: a user's own that is unknown is an error of the user's options."""
    from botocore.config import Config

    defaults = {name: v for name, v in Config.OPTION_DEFAULTS.items() if name != unknown}
    monkeypatch.setattr(Config, "OPTION_DEFAULTS", defaults)
    assert unknown not in known_config(PROTOCOLS["s3"].options)["config_kwargs"]
    with pytest.raises(ConfigError, match=f"found '{unknown}' in storage_options config_kwargs"):
        connect("s3://bucket/x", {"config_kwargs": {unknown: "when_required"}})
    monkeypatch.delattr(Config, "OPTION_DEFAULTS")
    assert known_config(PROTOCOLS["s3"].options) == PROTOCOLS["s3"].options


def remove(row: Internal, patch: pytest.MonkeyPatch) -> None:
    """Make an attribute that a path names be missing."""
    path, _, name = row.path.rpartition(".")
    try:
        owner: Any = importlib.import_module(path)
    except ImportError:
        module, _, cls = path.rpartition(".")
        owner = getattr(importlib.import_module(module), cls)
    patch.delattr(owner, name)


def test_versions_are_described() -> None:
    """A package that is not installed, or without metadata, is named too."""
    text = internals.describe_versions("fsspec", "no-such-package")
    assert text == f"fsspec {fsspec.__version__}, no-such-package of an unknown version"


def test_an_obstore_that_is_too_old_says_so(
    round_trip: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before 0.11 it does not know the time-out of a read, without which silence is not noticed."""
    import obstore.store

    def refuse(*arguments: object, **options: object) -> None:
        raise ValueError("Invalid key: read_timeout.")

    monkeypatch.setattr(obstore.store, "S3Store", refuse)
    [line] = round_trip("auto")
    assert "are not as expected: Invalid key: read_timeout" in line
