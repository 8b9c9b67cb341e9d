"""`S3Server` serves S3 for as long as its process lives."""

from __future__ import annotations

import importlib.util
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from fsspill import MissingPackageError
from fsspill.testing.s3_server import Request, S3Server
from tests.running import poll

pytest.importorskip("moto")


@pytest.fixture
def server() -> Iterator[S3Server]:
    with S3Server() as server:
        yield server


def call(server: S3Server, method: str, path: str, body: bytes | None = None) -> bytes:
    headers = {"Content-Type": "application/octet-stream"}
    request = urllib.request.Request(server.endpoint_url + path, body, headers, method=method)
    with urllib.request.urlopen(request) as response:
        data: bytes = response.read()
    return data


def listens(endpoint_url: str) -> bool:
    """Return True if the address accepts connections."""
    address = urlsplit(endpoint_url)
    with socket.socket() as client:
        return client.connect_ex((address.hostname, address.port)) == 0


def test_buckets_exist_until_reset(server: S3Server) -> None:
    """A bucket can be listed from `create_bucket` to `reset`."""
    server.create_bucket("bucket")
    assert b"<Name>bucket</Name>" in call(server, "GET", "/bucket")
    server.reset()
    with pytest.raises(urllib.error.HTTPError, match="404"):
        call(server, "GET", "/bucket")


def test_requests_are_listed_in_order(server: S3Server) -> None:
    """Each request has its method, path and status, refused ones included."""
    server.create_bucket("bucket")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        call(server, "GET", "/bucket/missing")
    expected = [Request("PUT", "/bucket", 200), Request("GET", "/bucket/missing", 404)]
    assert server.requests() == expected


def test_leaving_the_context_stops_the_server() -> None:
    """Nothing listens on the port afterwards."""
    with S3Server() as server:
        assert listens(server.endpoint_url)
    assert not listens(server.endpoint_url)


def test_the_server_ends_with_a_killed_parent() -> None:
    """No server outlives the process that started it, even one killed by SIGKILL."""
    program = (
        "from fsspill.testing.s3_server import S3Server\n"
        "server = S3Server()\n"
        "print(server.endpoint_url, flush=True)\n"
        "input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        endpoint_url = parent.stdout.readline().strip()
        assert listens(endpoint_url)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        poll(lambda: not listens(endpoint_url), "the server to end")


def test_a_moto_without_its_server_is_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after `pip install moto`."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "flask" else find(name)
    )
    with pytest.raises(MissingPackageError, match=r"module flask.*fsspill\[all\]"):
        S3Server()


def test_a_missing_moto_raises_missing_package_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the extra to install."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r"fsspill\[all\]"):
        S3Server()


def test_a_server_that_does_not_start_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the command that shows the cause."""
    monkeypatch.setattr("fsspill.testing.s3_server._PROGRAM", "fsspill.testing.missing")
    with pytest.raises(RuntimeError, match=r"python -m fsspill\.testing\.missing"):
        S3Server()


def test_the_demo_and_its_server_do_not_need_pytest() -> None:
    """``fsspill demo --s3`` runs with no more than the extra ``all`` installed."""
    pytest.importorskip("ray")
    program = (
        "import sys; sys.modules['pytest'] = None\n"
        "import fsspill.demo\n"
        "with fsspill.demo.S3Server() as server:\n"
        "    server.create_bucket('bucket')\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=300)
