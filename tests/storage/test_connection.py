"""From a URI to a tuned filesystem."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import Any

import pytest

from fsspill import ConfigError, MissingPackageError
from fsspill.storage.connection import connect
from fsspill.storage.protocols import PROTOCOLS
from fsspill.storage.uri import check_uri


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("", "expected a URI with a protocol"),
        ("bucket/prefix", "expected a URI with a protocol"),
        ("nonsense://x", "fsspec knows no protocol 'nonsense'"),
        ("simplecache::s3://b", "expected a URI with a protocol"),
        ("s3://b::memory://c", "expected a single filesystem"),
        ("s3://", "expected a bucket or directory"),
        ("file:///", "expected a bucket or directory"),
        ("file://relative/path", "expected an absolute path"),
        ("s3://bucket/a?versionId=1", "without any of"),
        ("s3://bucket/a*", "without any of"),
        ("s3://bucket/a[1]", "without any of"),
        ("s3://bucket/../other", "without '..'"),
    ],
)
def test_bad_uris_are_named(uri: str, message: str) -> None:
    """All that can be known without a request is checked, and said."""
    with pytest.raises(ConfigError, match=message):
        check_uri(uri)


def test_a_password_in_a_uri_is_refused_and_not_repeated() -> None:
    """Ray shows the configuration in logs and process lists; the environment is the place."""
    with pytest.raises(ConfigError, match="FSSPEC_SFTP_PASSWORD") as caught:
        check_uri("sftp://me:hunter2@host/dir")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("protocol", "module", "extra"),
    [("s3", "s3fs", "s3"), ("gs", "gcsfs", "gcs"), ("abfs", "adlfs", "azure")],
)
def test_a_missing_package_names_the_extra(
    protocol: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message is the command that installs it; it is an ImportError and a ValueError."""
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, protocol, raising=False)
    with pytest.raises(MissingPackageError, match=rf'pip install "fsspill\[{extra}\]"') as caught:
        check_uri(f"{protocol}://bucket")
    assert isinstance(caught.value, ImportError)
    assert isinstance(caught.value, ValueError)


def test_what_the_user_sets_wins_over_the_tuning(monkeypatch: pytest.MonkeyPatch) -> None:
    """storage_options win over fsspec's configuration, and that wins over the table."""
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


def test_options_that_a_filesystem_does_not_take_are_named() -> None:
    """The names of the options are shown, their values are not."""
    with pytest.raises(ConfigError, match=r"storage_options.*port") as caught:
        connect("sftp://host/dir", {"port": "hunter2", "nonsense": 1})
    assert "hunter2" not in str(caught.value)


def test_filesystems_without_an_asynchronous_interface_are_not_used_concurrently() -> None:
    """They need not be thread-safe (two threads on one sftp connection deadlock)."""
    endpoint = connect("memory://x", {})
    assert not endpoint.concurrent
    assert endpoint.fs.async_impl


def test_a_thread_that_nobody_waits_for_still_has_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a filesystem for one thread the next operation begins when the last one has ended."""
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
