"""A slow link that many requests share is slow, and nothing more: no request counts as silent."""

from __future__ import annotations

import getpass
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from fsspill import ExternalStorage, InMemoryObjectStore
from fsspill.testing.s3_server import S3Server
from tests import emulators
from tests.benchmarks.link_server import LinkServer
from tests.faults.slow_link import SlowLink
from tests.instances import forgotten
from tests.timeouts import DEFAULT, FORGIVING, SLOW

MIB = 2**20
PROCESSES = 8

Via = Callable[[int], int]
"""Puts a slow link in front of the port of a server, and returns the port of the link."""


class Target:
    """A storage behind a link: its URI, and what a process needs to reach it."""

    def __init__(
        self, uri: str, environment: Mapping[str, str], options: Mapping[str, object] | None = None
    ) -> None:
        self.uri = uri
        self.environment = environment
        self.options = options


@contextmanager
def s3(directory: Path, via: Via) -> Iterator[Target]:
    pytest.importorskip("s3fs")
    with LinkServer(0, None) as server:
        server.create_bucket("bucket")
        port = via(int(server.endpoint_url.rpartition(":")[2]))
        endpoint = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
        yield Target("s3://bucket/x", {**server.environment, **endpoint})


@contextmanager
def gcs(directory: Path, via: Via) -> Iterator[Target]:
    pytest.importorskip("gcsfs")
    with emulators.gcs(directory, via) as environment:
        environment["FSSPEC_GS_TOKEN"] = "anon"
        yield Target("gs://bucket/x", environment)


@contextmanager
def azure(directory: Path, via: Via) -> Iterator[Target]:
    pytest.importorskip("adlfs")
    with emulators.azure(directory, via) as environment:
        yield Target("abfs://bucket/x", environment)


@contextmanager
def sftp(directory: Path, via: Via) -> Iterator[Target]:
    pytest.importorskip("paramiko")
    with emulators.sftp(directory, via) as options:
        options = {"username": getpass.getuser(), **options}
        yield Target(f"sftp://127.0.0.1{directory}/x", {}, options)


def make_bucket(target: Target) -> None:
    """Make the bucket in a process of its own: filesystems keep what they found when made."""
    make = f"import fsspec; fsspec.core.url_to_fs({target.uri!r})[0].mkdir('bucket')"
    subprocess.run(
        [sys.executable, "-c", make], env=os.environ | dict(target.environment), check=True
    )


TARGETS: dict[str, tuple[Callable[[Path, Via], AbstractContextManager[Target]], str]] = {
    "s3-fsspec": (s3, "fsspec"),
    "s3-obstore": (s3, "obstore"),
    "gcs-fsspec": (gcs, "fsspec"),
    "gcs-obstore": (gcs, "obstore"),
    "azure-fsspec": (azure, "fsspec"),
    "azure-obstore": (azure, "obstore"),
    "sftp": (sftp, "auto"),
}

LINKS = {
    "1MBps": (1e6, 8 * MIB, DEFAULT),
    "5MBps": (5e6, 16 * MIB, FORGIVING),
    "20MBps": (20e6, 32 * MIB, FORGIVING),
}
"""Bytes per second, bytes of each process, and a stall timeout of which half is not enough for the
bytes of all processes."""


@pytest.mark.nightly
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("name", TARGETS)
def test_processes_that_share_a_slow_link_spill_and_restore(
    name: str, link: str, tmp_path: Path
) -> None:
    """Eight processes get every byte back, however long the link takes for them."""
    rate, nbytes, stall_timeout = LINKS[link]
    make, engine = TARGETS[name]
    with ExitStack() as stack:
        links: list[SlowLink] = []

        def via(port: int) -> int:
            links.append(stack.enter_context(SlowLink(port, rate)))
            return links[0].port

        target = stack.enter_context(make(tmp_path, via))
        if make in (gcs, azure):
            make_bucket(target)
        arguments = {"uri": target.uri, "nbytes": nbytes, "engine": engine}
        arguments |= {"stall_timeout": stall_timeout, "storage_options": target.options}
        command = [sys.executable, "-m", "tests.faults.slow_link_client", json.dumps(arguments)]
        environment = os.environ | dict(target.environment) | {"TMPDIR": str(tmp_path)}
        clients = [subprocess.Popen(command, env=environment) for _ in range(PROCESSES)]
        assert [client.wait() for client in clients] == [0] * PROCESSES
        assert links[0].down.nbytes > PROCESSES * nbytes


@pytest.mark.parametrize("engine", ["fsspec", "obstore"])
def test_ranges_that_share_a_slow_link_arrive(
    engine: str, s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No range arrives within half of the stall timeout, but bytes do, and then small ranges."""
    store = InMemoryObjectStore()
    data = os.urandom(10 * MIB)
    store.put(b"ref", data)
    arguments: dict[str, Any] = {
        "node_id": "n",
        "session_name": "s",
        "object_store": store,
        "engine": engine,
    }
    urls = ExternalStorage("s3://bucket/x", **arguments).spill_objects([b"ref"])
    store.delete(b"ref")
    with SlowLink(int(s3_server.endpoint_url.rpartition(":")[2]), 2e6) as link:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{link.port}")
        with forgotten("s3"):
            storage = ExternalStorage("s3://bucket/x", stall_timeout=SLOW, **arguments)
            storage.restore_spilled_objects([b"ref"], urls)
    assert store.get(b"ref") == data
    assert link.down.nbytes > len(data)
