"""HTTP proxies: both engines take the same way to the storage, or none does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from fsspill import ExternalStorage, FsspillError, InMemoryObjectStore
from fsspill.storage import proxies
from fsspill.storage.connection import connect
from fsspill.storage.obstore import UnsupportedByObstoreError, open_bucket
from fsspill.storage.proxies import obstore_proxy, proxy_of_aiohttp, proxy_of_botocore
from fsspill.testing.s3_server import S3Server
from tests import emulators
from tests.certificates import make_certificate
from tests.forward_proxy import ForwardProxy
from tests.timeouts import IMPATIENT, PATIENT, limited_attempts

pytest.importorskip("s3fs")
pytest.importorskip("obstore")

NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
CREDENTIALS = "user:hunter2hunter2"


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the proxies of the machine out of the environment."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def forward_proxy(s3_server: S3Server, s3_bucket: str) -> Iterator[ForwardProxy]:
    """Yield a proxy through which every host is the S3 server."""
    with ForwardProxy(urlsplit(s3_server.endpoint_url).port or 0) as proxy:
        yield proxy


def round_trip(uri: str, engine: str, **options: Any) -> None:
    """Spill, restore and delete an object."""
    store = InMemoryObjectStore()
    store.put(b"ref", bytes(range(256)) * 1000)
    storage = ExternalStorage(
        uri, object_store=store, engine=engine, stall_timeout=PATIENT, storage_options=options
    )
    storage.check()
    urls = storage.spill_objects([b"ref"])
    store.delete(b"ref")
    storage.restore_spilled_objects([b"ref"], urls)
    assert bytes(store.get(b"ref")) == bytes(range(256)) * 1000
    storage.delete_spilled_objects(urls)


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy"])
@pytest.mark.parametrize("form", ["{url}", "{host}", "//{host}"])
def test_both_engines_obey_the_proxy_of_the_environment(
    forward_proxy: ForwardProxy, monkeypatch: pytest.MonkeyPatch, name: str, form: str
) -> None:
    """In upper and lower case, with and without http://, to a host that only the proxy knows."""
    host = urlsplit(forward_proxy.url).netloc
    monkeypatch.setenv(name, form.format(url=forward_proxy.url, host=host))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://storage.test")
    round_trip("s3://bucket/x", "obstore")
    assert forward_proxy.engines() == {"fsspec", "obstore"}


@pytest.mark.parametrize(
    ("no_proxy", "engines"),
    [
        ("*", set()),
        ("127.0.0.1", set()),
        ("other.test, 127.0.0.1:{port}", set()),
        # Known to obstore alone: before, it went directly, and the filesystem through the proxy.
        ("127.0.0.0/8", {"fsspec", "obstore"}),
        ("127.0.0.1/32", {"fsspec", "obstore"}),
        ("other.test", {"fsspec", "obstore"}),
    ],
)
def test_both_engines_read_no_proxy_alike(
    forward_proxy: ForwardProxy,
    s3_server: S3Server,
    monkeypatch: pytest.MonkeyPatch,
    no_proxy: str,
    engines: set[str],
) -> None:
    """Both go directly, or both through the proxy."""
    port = urlsplit(s3_server.endpoint_url).port
    monkeypatch.setenv("HTTP_PROXY", forward_proxy.url)
    monkeypatch.setenv("NO_PROXY", no_proxy.format(port=port))
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"{s3_server.endpoint_url}/")
    round_trip("s3://bucket/x", "obstore")
    assert forward_proxy.engines() == engines


def test_no_engine_obeys_all_proxy(
    forward_proxy: ForwardProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As botocore does not, obstore does not either."""
    monkeypatch.setenv("ALL_PROXY", forward_proxy.url)
    round_trip("s3://bucket/x", "obstore", default_fill_cache=False)
    assert forward_proxy.engines() == set()


@pytest.mark.parametrize("named", [True, False])
def test_both_engines_obey_the_proxies_of_botocore(
    forward_proxy: ForwardProxy, monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    """`proxies` in config_kwargs win over the environment; a mapping without any means none."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9" if named else forward_proxy.url)
    given = {"http": forward_proxy.url} if named else {"https": forward_proxy.url}
    round_trip("s3://bucket/x", "obstore", config_kwargs={"proxies": given})
    assert forward_proxy.engines() == ({"fsspec", "obstore"} if named else set())


def test_proxies_with_certificates_of_their_own_are_left_to_the_filesystem(s3_bucket: str) -> None:
    """The reason names them; nor does obstore speak TLS to a proxy."""
    for config, reason in (
        ({"proxies_config": {"proxy_ca_bundle": "x.pem"}}, "proxies_config"),
        ({"proxies": {"http": "https://127.0.0.1:9"}}, "a proxy of https://"),
    ):
        connection = connect("s3://bucket/x", {"config_kwargs": config})
        with pytest.raises(UnsupportedByObstoreError, match=reason):
            connection.run(open_bucket, connection.fs, "s3", "bucket")


@pytest.mark.parametrize("engine", ["fsspec", "obstore"])
def test_a_proxy_that_asks_for_credentials_gets_those_of_its_url(
    s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    """By both engines."""
    with ForwardProxy(urlsplit(s3_server.endpoint_url).port or 0, CREDENTIALS) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://authenticated.test")
        round_trip("s3://bucket/x", engine)
        assert "fsspec" in proxy.engines()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_refuses_is_named_without_its_password(
    s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    """407 ends the check at once, for requests and tunnels; the message says what to correct."""
    with ForwardProxy(urlsplit(s3_server.endpoint_url).port or 0, CREDENTIALS) as proxy:
        wrong = proxy.url.replace("hunter2hunter2", "wrongwrong")
        monkeypatch.setenv(f"{scheme.upper()}_PROXY", wrong)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"{scheme}://refused.test")
        storage = ExternalStorage("s3://bucket/x", stall_timeout=PATIENT)
        with pytest.raises(FsspillError, match="407") as caught:
            storage.check()
        # Once more with fresh credentials, and so for the removal of what may have been written.
        assert len(proxy.requests) <= 4
    assert "proxy" in str(caught.value).lower()
    assert "wrongwrong" not in str(caught.value)


def test_a_proxy_that_does_not_answer_is_named_without_its_password(
    s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user's first suspicion is the storage: the message names the proxy."""
    monkeypatch.setenv("HTTP_PROXY", "http://user:hunter2hunter2@127.0.0.1:9")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://unanswered.test")
    storage = ExternalStorage("s3://bucket/x", stall_timeout=PATIENT)
    monkeypatch.setattr("fsspill.storage.small_files.CHECK_REMOVAL_SECONDS", IMPATIENT)
    with limited_attempts(2), pytest.raises(FsspillError, match="proxy to answer") as caught:
        storage.check()
    assert "hunter2" not in str(caught.value)


@pytest.fixture
def tls_endpoint(
    s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[int]:
    """Yield the port of a server that speaks TLS in front of the S3 server, with AWS_CA_BUNDLE."""
    certificate = make_certificate(tmp_path)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate.bundle))
    with ForwardProxy(urlsplit(s3_server.endpoint_url).port or 0) as terminator:
        server = terminator._server
        context = certificate.server_context()
        server.socket = context.wrap_socket(server.socket, server_side=True)
        yield server.server_address[1]


def test_both_engines_reach_https_through_a_tunnel(
    tls_endpoint: int, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CONNECT with the name of the host, whose certificate is checked."""
    with ForwardProxy(tls_endpoint) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.setenv("AWS_ENDPOINT_URL", "https://tunnel.test")
        round_trip("s3://bucket/x", "obstore")
        assert {(request.method, request.target) for request in proxy.requests} == {
            ("CONNECT", "tunnel.test:443")
        }
        assert proxy.engines() == {"fsspec", "obstore"}


URLS = (
    "https://s3.eu-west-1.amazonaws.com",
    "http://10.1.2.3:9000",
    "https://minio.corp.test:9000",
)
NO_PROXIES = ("", "*", ".amazonaws.com", "amazonaws.com", "minio.corp.test:9000", "10.0.0.0/8",
              "10.1.2.3", "corp.test , x", "localhost,.test")  # fmt: skip


@pytest.mark.parametrize("no_proxy", NO_PROXIES)
@pytest.mark.parametrize("url", URLS)
def test_the_decision_is_that_of_botocore_and_of_aiohttp(
    url: str, no_proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The filesystems decide by themselves; obstore is told what they decide."""
    from aiohttp.helpers import get_env_proxy_for_url
    from botocore.utils import get_environ_proxies
    from yarl import URL

    monkeypatch.setenv("http_proxy", "http://a.test:1")
    monkeypatch.setenv("HTTPS_PROXY", "http://b.test:2")
    monkeypatch.setenv("ALL_PROXY", "http://c.test:3")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert proxy_of_botocore(url, None) == get_environ_proxies(url).get(urlsplit(url).scheme)
    try:
        expected = str(get_env_proxy_for_url(URL(url))[0]).rstrip("/")
    except LookupError:
        expected = None
    assert proxy_of_aiohttp(url) == expected


def test_the_url_of_a_proxy_gets_a_scheme() -> None:
    """As botocore does, where other clients take the host for a scheme."""
    for proxy in ("proxy:3128", "//proxy:3128", "http://proxy:3128"):
        assert proxy_of_botocore("http://x.test", {"http": proxy}) == "http://proxy:3128"
    assert obstore_proxy("http://proxy:3128") == {"proxy_url": "http://proxy:3128"}


@pytest.mark.parametrize("sessions_have_proxies", [True, False])
def test_gcsfs_gets_the_proxy_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, sessions_have_proxies: bool
) -> None:
    """By the session's own option, or by trust_env with an aiohttp that has none; obstore too."""
    pytest.importorskip("gcsfs")
    monkeypatch.setattr(proxies, "_sessions_have_proxies", lambda: sessions_have_proxies)
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.test:3128")
    connection = connect("gs://bucket/x", {"token": "anon"})
    session = connection.fs.session_kwargs
    assert session == (
        {"proxy": "http://proxy.test:3128"} if sessions_have_proxies else {"trust_env": True}
    )
    store = connection.run(open_bucket, connection.fs, "gcs", "bucket")
    assert store.client_options["proxy_url"] == "http://proxy.test:3128"
    assert "proxy_excludes" not in store.client_options


@pytest.mark.parametrize(
    ("variables", "options"),
    [
        ({"NO_PROXY": ".googleapis.com"}, {}),
        ({"NO_PROXY": "10.0.0.7:4443"}, {"endpoint_url": "https://10.0.0.7:4443"}),
        ({"NO_PROXY": "emulator.test", "STORAGE_EMULATOR_HOST": "https://emulator.test"}, {}),
        ({}, {"session_kwargs": {"trust_env": False}}),
        ({}, {"endpoint_url": "http://plain.test"}),
    ],
)
def test_gcsfs_goes_directly_where_it_is_to(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], options: dict[str, Any]
) -> None:
    """NO_PROXY of the endpoint in use, the user's own options, a proxy for the other scheme."""
    pytest.importorskip("gcsfs")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.test:3128")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    connection = connect("gs://bucket/x", {"token": "anon", **options})
    assert "proxy" not in connection.fs.session_kwargs
    store = connection.run(open_bucket, connection.fs, "gcs", "bucket")
    assert store.client_options["proxy_excludes"].startswith("*")


def test_a_netrc_with_a_default_entry_does_not_break_gcsfs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With trust_env, aiohttp would refuse to send the token of gcsfs beside the entry's."""
    pytest.importorskip("gcsfs")
    netrc = tmp_path / "netrc"
    netrc.write_text("default login user password secret-of-netrc\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with ForwardProxy(9) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        connection = connect("gs://bucket/x", {"endpoint_url": "http://gcs.test", "token": "anon"})

        async def send() -> None:
            session = await connection.fs._set_session()
            headers = {"Authorization": "Bearer x"}
            async with session.get("http://gcs.test/", headers=headers) as answer:
                assert answer.status == 502  # nothing listens behind the proxy

        connection.run(send)
        assert [request.method for request in proxy.requests] == ["GET"]


@pytest.fixture(scope="module")
def emulator_of_gcs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    pytest.importorskip("gcsfs")
    with emulators.gcs(tmp_path_factory.mktemp("gcs")) as variables:
        yield variables


@pytest.mark.nightly
@pytest.mark.parametrize("no_proxy", ["", "127.0.0.1"])
def test_both_engines_take_one_way_to_gcs(
    emulator_of_gcs: dict[str, str], monkeypatch: pytest.MonkeyPatch, no_proxy: str
) -> None:
    """By itself gcsfs goes directly, whatever the environment says."""
    endpoint = emulator_of_gcs["STORAGE_EMULATOR_HOST"]
    for name, value in emulator_of_gcs.items():
        monkeypatch.setenv(name, value)
    fs: Any = connect("gs://b/x", {"token": "anon"}).fs
    if not fs.exists("proxied"):
        fs.mkdir("proxied")
    with ForwardProxy(urlsplit(endpoint).port or 0) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", no_proxy)
        round_trip("gs://proxied/x", "obstore", token="anon")
        assert proxy.engines() == (set() if no_proxy else {"fsspec", "obstore"})


@pytest.fixture(scope="module")
def emulator_of_azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    pytest.importorskip("adlfs")
    with emulators.azure(tmp_path_factory.mktemp("azure")) as variables:
        yield variables


@pytest.mark.nightly
@pytest.mark.parametrize("no_proxy", ["", "127.0.0.1", "127.0.0.0/8"])
def test_both_engines_take_one_way_to_azure(
    emulator_of_azure: dict[str, str], monkeypatch: pytest.MonkeyPatch, no_proxy: str
) -> None:
    """By aiohttp's rules adlfs obeys the environment, and obstore by the same."""
    for name, value in emulator_of_azure.items():
        monkeypatch.setenv(name, value)
    connection = emulator_of_azure["AZURE_STORAGE_CONNECTION_STRING"]
    port = urlsplit(connection.partition("BlobEndpoint=")[2].rstrip(";")).port
    fs: Any = connect("abfs://c/x", {}).sync_fs
    if not fs.exists("proxied"):
        fs.mkdir("proxied")
    with ForwardProxy(port or 0) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", no_proxy)
        round_trip("abfs://proxied/x", "obstore", max_concurrency=7)
        directly = no_proxy == "127.0.0.1"
        assert proxy.engines() == (set() if directly else {"fsspec", "obstore"})
