"""Answers of servers in exceptions, as the filesystems themselves raise them."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from fsspill import errors
from fsspill.errors import translate
from fsspill.http_answer import HttpAnswer
from fsspill.storage.client import StorageClient
from fsspill.storage.client_pool import open_client
from tests.emulators import AZURE_KEY
from tests.faults.dialects import Fixed, answer_with_code
from tests.faults.fault_proxy import Answer, Fault, FaultProxy

PAGE = b"<html><body><h1>Access denied by the proxy</h1></body></html>"
CUT_PAGE = b"<!DOCTYPE html><html><meta charset=utf-8><h1>Access denied"

CONFIG = errors.ConfigError
DENIED = errors.StoragePermissionError
FULL = errors.StorageFullError
MISSING = errors.StorageNotFoundError
REFUSED = errors.StorageRefusedError
LATER = errors.StorageUnavailableError


def s3(
    status: int, code: str, more: str = "", message: str = "Reason", **headers: str
) -> Callable[[], Answer]:
    """Return a maker of errors as S3's."""
    return lambda: answer_with_code(status, code, more, message, **headers)


def google(status: int, message: str) -> Callable[[], Answer]:
    """Return a maker of errors as those of Google's storage."""
    body = json.dumps({"error": {"code": status, "message": message}}).encode()
    return lambda: Answer.of(status, body, Content_Type="application/json")


def azure(status: int, code: str) -> Callable[[], Answer]:
    """Return a maker of errors as those of Azure's storage."""
    return lambda: Answer.of(status, b"", x_ms_error_code=code)


def page(status: int, body: bytes = PAGE) -> Callable[[], Answer]:
    """Return a maker of pages as those of proxies and consoles."""
    return lambda: Answer.of(status, body, Content_Type="text/html; charset=utf-8")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """Yield a proxy before no server at all, for dialects that answer everything."""
    with FaultProxy("http://127.0.0.1:1") as proxy:
        for name, value in proxy.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.endpoint_url)
        yield proxy


def open_store(kind: str, server: FaultProxy) -> StorageClient:
    """Return a client of a kind of storage at the server."""
    package = {"s3": "s3fs", "gs": "gcsfs", "az": "adlfs"}[kind]
    pytest.importorskip(package)
    account = "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey="
    options: dict[str, dict[str, Any]] = {
        "s3": {"endpoint_url": server.endpoint_url},
        "gs": {"token": "anon", "endpoint_url": server.endpoint_url},
        "az": {
            "connection_string": f"{account}{AZURE_KEY};"
            f"BlobEndpoint={server.endpoint_url}/devstoreaccount1;"
        },
    }
    return open_client(f"{kind}://bucket/p", options[kind], renew=True)


def failure_of(client: StorageClient, operation: str) -> BaseException:
    """Return the exception of an operation."""
    path = "bucket/p/x"

    async def operate() -> None:
        if operation == "put":
            with client.body([b"xx"], lambda *, further: None) as body:
                await client.put(path, body)
        else:
            await client.read(path, 1)

    with pytest.raises(Exception) as caught:  # noqa: PT011 (any: the test looks at it)
        client.run(operate)
    return caught.value


ANSWERS: list[tuple[str, str, Callable[[], Answer], type[errors.FsspillError], str]] = [
    ("s3", "put", s3(403, "AccessDenied"), DENIED, "HTTP 403, AccessDenied.*policy"),
    ("s3", "read", s3(403, "SignatureDoesNotMatch"), DENIED, "check the credentials"),
    ("s3", "put", s3(400, "ExpiredToken"), DENIED, "HTTP 400, ExpiredToken"),
    ("s3", "put", s3(400, "TokenRefreshRequired"), DENIED, "check the credentials"),
    ("s3", "put", s3(400, "ExpiredTokenException"), DENIED, "check the credentials"),
    ("s3", "put", s3(400, "InvalidIdentityToken"), DENIED, "check the credentials"),
    ("s3", "put", s3(400, "RequestExpired"), DENIED, "check the credentials"),
    ("s3", "put", s3(400, "IDPCommunicationError"), LATER, "to do its work"),
    ("s3", "put", s3(403, "RequestTimeTooSkewed"), DENIED, "set the clock"),
    ("s3", "put", s3(404, "NoSuchBucket"), MISSING, "NoSuchBucket.*create it"),
    ("s3", "put", s3(400, "KMS.NotFoundException"), REFUSED, "a key of KMS"),
    ("s3", "put", s3(400, "KMS.ThrottlingException"), LATER, "to do its work"),
    ("s3", "put", s3(403, "QuotaExceeded"), FULL, "HTTP 403, QuotaExceeded.*make room"),
    ("s3", "put", s3(507, "XMinioStorageFull"), FULL, "make room"),
    ("s3", "put", s3(400, "XMinioAdminBucketQuotaExceeded"), FULL, "raise the quota"),
    ("s3", "put", s3(405, "MethodNotAllowed"), REFUSED, "HTTP 405, MethodNotAllowed"),
    ("s3", "put", s3(409, "InvalidBucketState"), REFUSED, "HTTP 409"),
    ("s3", "put", s3(409, "OperationAborted"), LATER, "HTTP 409"),
    ("s3", "put", s3(501, "NotImplemented"), REFUSED, "HTTP 501, NotImplemented"),
    ("s3", "put", s3(408, "x"), LATER, "HTTP 408"),
    ("s3", "put", s3(423, "x"), LATER, "HTTP 423"),
    ("s3", "put", s3(425, "x"), LATER, "HTTP 425"),
    ("s3", "put", s3(429, "x"), LATER, "HTTP 429"),
    ("s3", "read", s3(503, "ServiceUnavailable"), LATER, "HTTP 503, ServiceUnavailable"),
    ("s3", "put", s3(400, "RequestTimeout"), LATER, "check the endpoint"),
    (
        "s3",
        "put",
        s3(400, "AuthorizationHeaderMalformed", "<Region>eu-west-1</Region>"),
        CONFIG,
        "region of the bucket eu-west-1.*'region_name': 'eu-west-1'",
    ),
    ("s3", "put", s3(400, "IllegalLocationConstraintException"), CONFIG, "AWS_DEFAULT_REGION"),
    (
        "s3",
        "read",
        s3(301, "PermanentRedirect", x_amz_bucket_region="eu-west-1"),
        CONFIG,
        "eu-west-1",
    ),
    ("s3", "read", s3(404, "NoSuchKey", Content_Type="text/html"), MISSING, "NoSuchKey"),
    ("s3", "put", s3(403, "AccessDenied", Content_Type="text/html"), DENIED, "check the cred"),
    ("s3", "put", page(401), DENIED, "HTTP 401, a page of HTML.*HTTPS_PROXY"),
    ("s3", "read", page(403, CUT_PAGE), DENIED, "HTTP 403, a page of HTML"),
    ("s3", "read", page(404), REFUSED, "HTTP 404, a page of HTML"),
    ("s3", "put", page(407), DENIED, "NO_PROXY"),
    (
        "s3",
        "put",
        lambda: Answer.of(400, b"an HTTP request to an HTTPS server"),
        REFUSED,
        "http://",
    ),
    ("s3", "put", lambda: Answer.of(405), REFUSED, "no code of a storage: check the endpoint"),
    ("s3", "put", s3(400, "InvalidArgument", message="x-amz-content-sha256"), REFUSED, "_signing_"),
    ("s3", "put", page(501, CUT_PAGE), REFUSED, "a page of HTML"),
    ("gs", "put", google(403, "no storage.objects.create access"), DENIED, "HTTP 403.*policy"),
    ("gs", "read", google(401, "Anonymous caller"), DENIED, "HTTP 401"),
    ("gs", "put", google(403, "The quota of the project is exceeded"), FULL, "make room"),
    ("gs", "put", google(403, "Rate Limit Exceeded"), LATER, "rateLimitExceeded"),
    ("gs", "put", google(400, "invalid argument"), REFUSED, "HTTP 400"),
    ("gs", "put", google(400, "Bucket is requester pays"), REFUSED, "requester_pays=True"),
    ("gs", "put", google(413, "too large"), REFUSED, "HTTP 413"),
    ("gs", "put", page(403), DENIED, "a page of HTML.*HTTPS_PROXY"),
    ("gs", "read", page(407), DENIED, "NO_PROXY"),
    ("az", "put", azure(403, "AuthorizationPermissionMismatch"), DENIED, "PermissionMismatch"),
    ("az", "put", azure(403, "AuthenticationFailed"), DENIED, "HTTP 403, AuthenticationFailed"),
    ("az", "put", azure(409, "AccountIsDisabled"), REFUSED, "HTTP 409, AccountIsDisabled"),
    ("az", "put", azure(409, "ContainerBeingDeleted"), REFUSED, "ContainerBeingDeleted"),
    ("az", "read", azure(404, "ContainerNotFound"), MISSING, "ContainerNotFound.*create it"),
    ("az", "put", azure(413, "RequestBodyTooLarge"), REFUSED, "RequestBodyTooLarge"),
    ("az", "read", page(403), DENIED, "a page of HTML.*HTTPS_PROXY"),
    ("az", "read", page(404), REFUSED, "a page of HTML"),
]


@pytest.mark.parametrize(("kind", "operation", "answer", "expected", "text"), ANSWERS)
def test_answers_of_servers_are_told_from_outages(
    server: FaultProxy,
    kind: str,
    operation: str,
    answer: Callable[[], Answer],
    expected: type[errors.FsspillError],
    text: str,
) -> None:
    """Only who says "later" is asked again; status, code and region are in the message."""
    client = open_store(kind, server)
    with server.speak(Fixed(answer)):
        translated = translate(failure_of(client, operation), "cannot write", f"{kind}://bucket/x")
    assert type(translated) is expected
    assert re.search(text, str(translated))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (s3(403, "AccessDenied"), DENIED),
        (s3(403, "QuotaExceeded"), FULL),
        (s3(404, "NoSuchKey"), MISSING),
        (s3(400, "KMS.NotFoundException"), REFUSED),
        (s3(301, "PermanentRedirect"), CONFIG),
        (s3(416, "InvalidRange"), REFUSED),
        (s3(503, "SlowDown"), LATER),
        (s3(429, "TooManyRequests"), LATER),
        (page(401), DENIED),
        (page(404), REFUSED),
        (page(501), REFUSED),
    ],
)
def test_the_texts_of_obstore_are_read(
    server: FaultProxy, answer: Callable[[], Answer], expected: type[errors.FsspillError]
) -> None:
    """In obstore, status and code are only in the text of an error."""
    obstore = pytest.importorskip("obstore")
    stores = pytest.importorskip("obstore.store")
    store = stores.S3Store(
        "bucket",
        endpoint=server.endpoint_url,
        region="us-east-1",
        client_options={"allow_http": True},
        retry_config={"max_retries": 0},
    )
    with server.speak(Fixed(answer)), pytest.raises(Exception) as caught:  # noqa: PT011
        obstore.get_range(store, "p/x", start=0, end=1)
    translated = translate(caught.value, "cannot restore", "s3://bucket/p/x")
    assert type(translated) is expected
    assert "Debug source" not in str(translated)


def test_a_page_is_cut_in_the_message(server: FaultProxy) -> None:
    """A message is a line for people to read, whatever a proxy has to say."""
    client = open_store("gs", server)
    with server.speak(Fixed(page(403, PAGE + 9000 * b"x"))):
        translated = translate(failure_of(client, "put"), "cannot write", "gs://bucket/x")
    assert len(str(translated)) < 1200


def test_exceptions_without_an_answer_have_none() -> None:
    """Time-outs, refused connections and exit codes are no answers."""

    class ExitError(Exception):
        code = 2

    for error in (TimeoutError(), ConnectionRefusedError(), ExitError(), asyncio.TimeoutError()):
        assert HttpAnswer.of(error) is None


def test_a_body_that_is_cut_off_is_no_answer(proxy: FaultProxy) -> None:
    """It has status 400 with aiohttp, as a request that is wrong."""
    pytest.importorskip("s3fs")
    client = open_client("s3://bucket/p", {})
    client.run(client.put, "bucket/p/x", b"data")
    with (
        proxy.inject(Fault.CUT, method="GET"),
        pytest.raises(Exception) as caught,  # noqa: PT011 (any: the test looks at it)
    ):
        client.run(client.read, "bucket/p/x", 4)
    assert HttpAnswer.of(caught.value) is None
    assert errors.is_transient(translate(caught.value, "cannot read", "s3://bucket/p/x"))


@pytest.mark.parametrize("name", ["BadStatusLine", "ContentLengthError", "TransferEncodingError"])
@pytest.mark.parametrize("is_cause", [True, False])
def test_what_is_no_http_is_no_answer(name: str, is_cause: bool) -> None:
    """Whether aiohttp's parser is seen itself, or as the cause of a client's error."""
    aiohttp = pytest.importorskip("aiohttp")
    error: Exception = getattr(pytest.importorskip("aiohttp.http_exceptions"), name)("x")
    if is_cause:
        request = SimpleNamespace(real_url="http://x")
        cause, error = error, aiohttp.ClientResponseError(request, (), status=400)
        error.__cause__ = cause
    assert HttpAnswer.of(error) is None
    assert errors.is_transient(translate(error, "cannot read", "gs://bucket/x"))
