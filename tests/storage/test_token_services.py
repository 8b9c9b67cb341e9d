"""Servers that give credentials, and the proxy of the environment: one way for both engines."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from fsspill.testing.s3_server import S3Server
from tests.forward_proxy import ForwardProxy
from tests.instances import forgotten
from tests.storage.test_proxies import no_proxies, round_trip

pytest.importorskip("s3fs")
pytest.importorskip("obstore")

__all__ = ["no_proxies"]

_CREDENTIALS = {
    "AccessKeyId": "ASIAFAKE",
    "SecretAccessKey": "secret",
    "Token": "token",
    "Expiration": "2099-01-01T00:00:00Z",
    "Code": "Success",
}


class MetadataServer(AbstractContextManager["MetadataServer"]):
    """The metadata service of an instance, and the credential service of a container.

    Attributes
    ----------
    paths : list of str
        The targets of all requests: a whole URL for one that came from a proxy's client.
    """

    def __init__(self) -> None:
        self.paths: list[str] = []
        handler = type("_Handler", (_Handler,), {"metadata": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    metadata: MetadataServer

    def do_GET(self) -> None:
        self.metadata.paths.append(self.path)
        roles = self.path.endswith("security-credentials/")
        answer = b"role" if roles else json.dumps(_CREDENTIALS).encode()
        self._send(b"token" if self.command == "PUT" else answer)

    do_PUT = do_GET  # noqa: N815 (what http.server calls)

    def _send(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("x-aws-ec2-metadata-token-ttl-seconds", "21600")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Log nothing."""


@pytest.fixture
def proxy(
    s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[ForwardProxy]:
    """Yield the proxy that all go through whom nothing tells otherwise; there are no other keys."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_EC2_METADATA_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://storage.test")
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    with ForwardProxy(urlsplit(s3_server.endpoint_url).port or 0) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        with forgotten("s3"):
            yield proxy


def hosts(proxy: ForwardProxy) -> set[str | None]:
    """Return the hosts that the proxy was asked for."""
    return {urlsplit(request.target).hostname for request in proxy.requests}


@pytest.mark.parametrize("engine", ["fsspec", "obstore"])
def test_credentials_of_a_container_are_asked_for_directly(
    proxy: ForwardProxy, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    """No proxy could answer for the address of this container; the storage is behind it."""
    with MetadataServer() as metadata:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{metadata.url}/credentials")
        round_trip("s3://bucket/x", engine)
        assert set(metadata.paths) == {"/credentials"}
        assert hosts(proxy) == {"storage.test"}
        assert proxy.engines() == ({"fsspec"} if engine == "fsspec" else {"fsspec", "obstore"})


@pytest.mark.parametrize("engine", ["fsspec", "obstore"])
def test_metadata_of_an_instance_is_asked_for_directly_where_no_proxy_says_so(
    proxy: ForwardProxy, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    """Botocore asks a proxy for it otherwise; obstore never asks by itself."""
    with MetadataServer() as metadata:
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        round_trip("s3://bucket/x", engine)
        assert "/latest/meta-data/iam/security-credentials/role" in metadata.paths
        assert all(path.startswith("/latest/") for path in metadata.paths)
        assert hosts(proxy) == {"storage.test"}


@pytest.mark.parametrize("engine", ["fsspec", "obstore"])
def test_the_token_service_is_behind_the_proxy_like_the_storage(
    proxy: ForwardProxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, engine: str
) -> None:
    """STS answers for a web identity, as of a service account of Kubernetes."""
    token = tmp_path / "token"
    token.write_text("web-identity")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/spill")
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://sts.test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    round_trip("s3://bucket/x", engine)
    assert hosts(proxy) == {"storage.test", "sts.test"}
    by_engine = {request.engine for request in proxy.requests if "sts.test" in request.target}
    assert by_engine == {"fsspec"}
