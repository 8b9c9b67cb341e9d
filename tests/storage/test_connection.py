"""Connections: URIs with their filesystems."""

from __future__ import annotations

import asyncio
import ftplib
import os
import signal
import socket
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import fsspec
import pytest
from fsspec.asyn import sync
from fsspec.implementations.memory import MemoryFileSystem

from fsspill import ConfigError, ExternalStorage, InMemoryObjectStore, StorageUnavailableError
from fsspill.storage.connection import connect
from fsspill.storage.protocols import PROTOCOLS
from tests import emulators
from tests.running import PATIENCE


def test_options_are_not_shared_with_botocore() -> None:
    """It alters the mappings that it gets: of the user, and of the next filesystem."""
    pytest.importorskip("s3fs")
    given: dict[str, Any] = {
        "config_kwargs": {"use_dualstack_endpoint": True, "s3": {"addressing_style": "path"}}
    }
    plain: dict[str, Any] = {"client_kwargs": {"region_name": "eu-west-1"}}
    hosts = []
    for options in (given, plain):
        fs = connect("s3://bucket/x", {"anon": True, **options}).fs
        sync(fs.loop, fs.set_session)
        hosts.append(urlsplit(fs.s3.meta.endpoint_url).hostname)
    assert "dualstack" in hosts[0]
    assert "dualstack" not in hosts[1]
    assert given["config_kwargs"]["s3"] == {"addressing_style": "path"}


def test_options_of_the_user_override_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """storage_options override fsspec's configuration, which overrides the table."""
    pytest.importorskip("s3fs")
    from fsspec.config import conf

    monkeypatch.setitem(conf, "s3", {"config_kwargs": {"connect_timeout": 3, "read_timeout": 4}})
    options = {"config_kwargs": {"read_timeout": 5}, "use_listings_cache": True}
    fs: Any = connect("s3://bucket", options).fs
    tuned = PROTOCOLS["s3"].options["config_kwargs"]
    assert fs.config_kwargs["read_timeout"] == 5
    assert fs.config_kwargs["connect_timeout"] == 3
    assert fs.config_kwargs["max_pool_connections"] == tuned["max_pool_connections"] == 64
    assert fs.dircache.use_listings_cache


def test_unknown_options_of_a_filesystem_are_named() -> None:
    """The names of the options are shown, their values are not."""
    with pytest.raises(ConfigError, match=r"storage_options.*port") as caught:
        connect("sftp://host/dir", {"port": "hunter2", "nonsense": 1})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("error", [AttributeError, KeyError, ValueError])
def test_a_filesystem_that_cannot_be_made_without_options_says_so(error: type[Exception]) -> None:
    """That of Box raises an AttributeError without credentials: no storage was asked."""

    class Boxed(MemoryFileSystem):  # type: ignore[misc]
        cachable = False

        def __init__(self, **options: object) -> None:
            raise error("'NoneType' object has no attribute 'access_token'")

    fsspec.register_implementation("boxed", Boxed, clobber=True)
    with pytest.raises(ConfigError, match="cannot be made without options"):
        connect("boxed://x", {})


@pytest.mark.parametrize("options", [{}, {"use_listings_cache": False}])
def test_only_options_that_were_given_are_blamed(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    """Those of fsspill's own are not the user's to correct."""
    adlfs = pytest.importorskip("adlfs")

    def refuse(self: object, *arguments: object, **given: object) -> None:
        raise ValueError("no account")

    monkeypatch.setattr(adlfs.AzureBlobFileSystem, "__init__", refuse)
    with pytest.raises(ConfigError, match="no account") as caught:
        connect("abfs://container/p", options)
    assert "read_timeout" not in str(caught.value)
    assert ("(use_listings_cache)" in str(caught.value)) == bool(options)


@pytest.mark.parametrize("cause", [ConnectionRefusedError, TimeoutError, socket.gaierror])
def test_a_filesystem_that_connects_when_it_is_made(cause: type[OSError]) -> None:
    """A server that does not answer is an outage, whatever the filesystem makes of it.

    smbprotocol raises a ValueError, which would blame the options.
    """

    class Connecting(MemoryFileSystem):  # type: ignore[misc]
        cachable = False

        def __init__(self, **options: object) -> None:
            try:
                raise cause("the server is down")
            except OSError as error:
                raise ValueError("Failed to connect to 'host:445'") from error

    fsspec.register_implementation("connecting", Connecting, clobber=True)
    with pytest.raises(StorageUnavailableError, match=r"is down\. Expected the storage"):
        connect("connecting://x", {})


def test_synchronous_filesystems_get_one_operation_at_a_time() -> None:
    """They need not be thread-safe (two threads on one sftp connection deadlock)."""
    endpoint = connect("memory://x", {})
    assert not endpoint.concurrent
    assert endpoint.fs.async_impl


def test_an_abandoned_operation_ends_before_the_next_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A synchronous filesystem never runs two operations at the same time."""
    from fsspec.implementations.memory import MemoryFileSystem

    under_way, at_once, release = [0], [0], threading.Event()

    def info(self: object, path: str) -> dict[str, object]:
        under_way[0] += 1
        at_once[0] = max(at_once[0], under_way[0])
        release.wait(60)
        under_way[0] -= 1
        return {"name": path}

    monkeypatch.setattr(MemoryFileSystem, "info", info)
    endpoint = connect("memory://x", {})

    async def abandon_one_and_begin_another() -> None:
        abandoned = asyncio.ensure_future(endpoint.fs._info("first"))
        while not under_way[0]:
            await asyncio.sleep(0.001)
        abandoned.cancel()
        second = asyncio.ensure_future(connect("memory://y", {}).fs._info("second"))
        await asyncio.wait({second}, timeout=0.05)
        release.set()
        await second

    asyncio.run(abandon_one_and_begin_another())
    assert at_once == [1]


@pytest.mark.parametrize(
    "lost", [EOFError(), BrokenPipeError(), ftplib.error_temp("421 Timeout"), OSError("no answer")]
)
def test_a_connection_that_was_lost_is_made_again(lost: Exception) -> None:
    """By the next operation, where the filesystem connects only once; not for any other error."""
    made: list[Dropping] = []

    class Dropping(MemoryFileSystem):  # type: ignore[misc]
        cachable = False

        def __init__(self, **options: object) -> None:
            super().__init__(**options)
            made.append(self)

        def info(self, path: str, **options: object) -> dict[str, object]:
            if self is made[0]:
                raise lost
            return {"name": path}

    fsspec.register_implementation("dropping", Dropping, clobber=True)
    connection = connect("dropping://x", {})
    with pytest.raises(type(lost)):
        connection.run(connection.fs._info, "path")
    if type(lost) is OSError:
        with pytest.raises(OSError, match="no answer"):
            connection.run(connection.fs._info, "path")
        assert len(made) == 1
    else:
        assert connection.run(connection.fs._info, "path") == {"name": "path"}
        assert connection.sync_fs is made[1]


def test_an_idle_connection_that_a_server_has_closed(tmp_path: Path) -> None:
    """FTP servers end idle connections; its filesystem never connects again by itself."""
    with emulators.ftp(tmp_path) as options:
        store = InMemoryObjectStore()
        storage = ExternalStorage("ftp:///spill", object_store=store, storage_options=options)
        store.put(b"ref", b"some data")
        [url] = storage.spill_objects([b"ref"])
        [location] = storage.files.locations
        client = storage.files._clients.client(location)
        client.connection.sync_fs.ftp.sock.shutdown(socket.SHUT_RDWR)
        store.delete(b"ref")
        assert storage.restore_spilled_objects([b"ref"], [url]) == len(b"some data")
        storage.destroy_external_storage()


def test_a_file_that_another_process_has_written_is_not_missing(tmp_path: Path) -> None:
    """FTP's filesystem finds files in listings, and keeps those: such an object would be lost."""
    with emulators.ftp(tmp_path) as options:
        stores = InMemoryObjectStore(), InMemoryObjectStore()
        first, second = (
            ExternalStorage(
                "ftp:///spill", object_store=store, session_name="s", storage_options=options
            )
            for store in stores
        )
        stores[0].put(b"ref", b"some data")
        [url] = first.spill_objects([b"ref"])
        assert second.restore_spilled_objects([b"ref"], [url]) == len(b"some data")
        stores[0].put(b"other", b"some more")
        [url] = first.spill_objects([b"other"])
        assert second.restore_spilled_objects([b"other"], [url]) == len(b"some more")
        first.destroy_external_storage()


def test_an_option_that_fsspec_takes_from_every_filesystem(tmp_path: Path) -> None:
    """skip_instance_cache is fsspec's, and given by fsspill too."""
    options = {"skip_instance_cache": True}
    assert connect("memory://x", options).sync_fs is not connect("memory://x", options).sync_fs


@pytest.mark.parametrize("token", ["/nope/key.json", "key.json", "~/key"])
def test_a_mistyped_path_of_credentials_is_not_sent_away(token: str) -> None:
    """A path to nowhere is taken for a token by gcsfs, which asks Google about it."""
    pytest.importorskip("gcsfs")
    with pytest.raises(ConfigError, match="does not exist on this node"):
        connect("gs://bucket/p", {"token": token})


def test_ctrl_c_waits_for_what_a_call_has_to_undo() -> None:
    """Such as a file that it has written: the call is cancelled, and its end waited for."""
    events = []

    async def work() -> None:
        events.append("begun")
        try:
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(PATIENCE)
            events.append("not cancelled")
        finally:
            await asyncio.sleep(0.1)
            events.append("undone")

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            connect("memory://x", {}).run(work)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert events == ["begun", "undone"]
