"""The S3 server of the benchmarks answers as S3 does, and counts requests and bytes."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from itertools import chain
from urllib.parse import urlsplit

import pytest

from tests.benchmarks.buckets import decode_aws_chunked
from tests.benchmarks.http_server import Link
from tests.benchmarks.link_server import TAIL, LinkServer

DATA = os.urandom(300_000)


@pytest.fixture(scope="module")
def running() -> Iterator[LinkServer]:
    with LinkServer(latency=0, bandwidth=None) as server:
        server.create_bucket("bucket")
        yield server


@pytest.fixture
def server(running: LinkServer) -> LinkServer:
    running.reset()
    return running


@pytest.fixture
def connection(server: LinkServer) -> Iterator[HTTPConnection]:
    connection = HTTPConnection(urlsplit(server.endpoint_url).netloc)
    yield connection
    connection.close()


def call(
    connection: HTTPConnection,
    method: str,
    target: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> tuple[HTTPResponse, bytes]:
    connection.request(method, target, body, headers or {})
    response = connection.getresponse()
    return response, response.read()


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [("0-9", 0, 10), ("70000-200000", 70_000, 200_001), ("299999-", 299_999, 300_000)],
)
def test_a_range_returns_its_bytes_with_206(
    connection: HTTPConnection, asked: str, start: int, stop: int
) -> None:
    """The response has the bytes of the range and their position."""
    call(connection, "PUT", "/bucket/a/key", DATA)
    response, body = call(connection, "GET", "/bucket/a/key", None, {"Range": f"bytes={asked}"})
    assert response.status == 206
    assert response.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(DATA)}"
    assert body == DATA[start:stop]


def test_a_range_beyond_the_end_is_truncated(connection: HTTPConnection) -> None:
    """A range that ends after the object returns the bytes up to its end."""
    call(connection, "PUT", "/bucket/key", b"0123456789")
    response, body = call(connection, "GET", "/bucket/key", None, {"Range": "bytes=8-99"})
    assert (response.headers["Content-Range"], body) == ("bytes 8-9/10", b"89")


def test_a_range_after_the_object_returns_416(connection: HTTPConnection) -> None:
    """A range that starts after the object raises InvalidRange with the size of the object."""
    call(connection, "PUT", "/bucket/key", b"0123456789")
    response, body = call(connection, "GET", "/bucket/key", None, {"Range": "bytes=10-"})
    assert (response.status, response.headers["Content-Range"]) == (416, "bytes */10")
    assert b"<Code>InvalidRange</Code>" in body


def test_head_returns_the_size_and_missing_keys_return_404(connection: HTTPConnection) -> None:
    """A missing key and a missing bucket have different error codes."""
    call(connection, "PUT", "/bucket/key", DATA)
    response, body = call(connection, "HEAD", "/bucket/key")
    assert (response.headers["Content-Length"], body) == (str(len(DATA)), b"")
    assert call(connection, "HEAD", "/bucket/missing")[0].status == 404
    assert b"NoSuchKey" in call(connection, "GET", "/bucket/missing")[1]
    assert b"NoSuchBucket" in call(connection, "GET", "/missing/key")[1]


def test_a_completed_upload_is_one_object(connection: HTTPConnection) -> None:
    """Parts are joined in the order of their numbers, and ranges may span them."""
    upload = new_upload(connection)
    for number, part in ((2, DATA[200_000:]), (1, DATA[:200_000])):
        call(connection, "PUT", f"/bucket/key?partNumber={number}&uploadId={upload}", part)
    response, _ = complete(connection, upload, 1, 2)
    assert response.status == 200
    assert call(connection, "GET", "/bucket/key")[1] == DATA
    across = {"Range": "bytes=199990-200009"}
    assert call(connection, "GET", "/bucket/key", None, across)[1] == DATA[199_990:200_010]


def test_an_aborted_upload_leaves_no_object(connection: HTTPConnection) -> None:
    """An aborted upload can no longer be completed."""
    upload = new_upload(connection)
    call(connection, "PUT", f"/bucket/key?partNumber=1&uploadId={upload}", DATA)
    assert call(connection, "DELETE", f"/bucket/key?uploadId={upload}")[0].status == 204
    assert complete(connection, upload, 1)[0].status == 404
    assert call(connection, "GET", "/bucket/key")[0].status == 404


def test_incomplete_uploads_are_listed(connection: HTTPConnection) -> None:
    """The listing contains uploads of the prefix until they are aborted."""
    upload = new_upload(connection)
    listing = call(connection, "GET", "/bucket?uploads=&prefix=k")[1].decode()
    assert f"<Key>key</Key><UploadId>{upload}</UploadId>" in listing
    assert b"<Upload>" not in call(connection, "GET", "/bucket?uploads=&prefix=other")[1]
    call(connection, "DELETE", f"/bucket/key?uploadId={upload}")
    assert b"<Upload>" not in call(connection, "GET", "/bucket?uploads=")[1]


def new_upload(connection: HTTPConnection) -> str:
    _, body = call(connection, "POST", "/bucket/key?uploads=")
    return body.decode().partition("<UploadId>")[2].partition("<")[0]


def complete(connection: HTTPConnection, upload: str, *numbers: int) -> tuple[HTTPResponse, bytes]:
    parts = "".join(f"<Part><PartNumber>{n}</PartNumber><ETag>x</ETag></Part>" for n in numbers)
    body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
    return call(connection, "POST", f"/bucket/key?uploadId={upload}", body)


def test_bulk_deletion_deletes_the_named_objects(
    connection: HTTPConnection,
) -> None:
    """The listing afterwards contains the other objects of the prefix."""
    for name in ("a/1", "a/2", "a/3", "b/1"):
        call(connection, "PUT", f"/bucket/{name}", b"x")
    names = "".join(f"<Object><Key>a/{number}</Key></Object>" for number in (1, 3))
    namespace = "http://s3.amazonaws.com/doc/2006-03-01/"
    body = f'<Delete xmlns="{namespace}">{names}</Delete>'.encode()
    assert call(connection, "POST", "/bucket?delete=", body)[0].status == 200
    _, listing = call(connection, "GET", "/bucket?list-type=2&prefix=a/")
    assert b"<KeyCount>1</KeyCount>" in listing
    assert b"<Key>a/2</Key>" in listing


def test_a_chunked_body_with_trailing_checksum_is_decoded(connection: HTTPConnection) -> None:
    """The object is the decoded body, framed once or twice."""
    framed = aws_chunked(DATA)
    headers = {"Content-Encoding": "aws-chunked", "X-Amz-Decoded-Content-Length": str(len(DATA))}
    call(connection, "PUT", "/bucket/plain", framed, headers)
    # Without a length botocore frames the body twice: in chunks of S3's and in HTTP's own.
    blocks = [framed[:1000], framed[1000:]]
    connection.request("PUT", "/bucket/twice", iter(blocks), headers, encode_chunked=True)
    connection.getresponse().read()
    assert call(connection, "GET", "/bucket/plain")[1] == DATA
    assert call(connection, "GET", "/bucket/twice")[1] == DATA


def aws_chunked(data: bytes) -> bytes:
    blocks = [data[start : start + 2**16] for start in range(0, len(data), 2**16)]
    chunks = [(b"%x\r\n" % len(block), block, b"\r\n") for block in blocks]
    return b"".join([*chain(*chunks), b"0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n"])


def test_chunk_signatures_are_ignored() -> None:
    """The content of a signed chunk is decoded without a check of its signature."""
    framed = bytearray(b"3;chunk-signature=00ff\r\nabc\r\n0;chunk-signature=00ff\r\n\r\n")
    assert decode_aws_chunked(framed) == b"abc"


def test_expect_100_continue_is_answered(connection: HTTPConnection) -> None:
    """A client that waits for 100 Continue receives it before it sends the body."""
    connection.putrequest("PUT", "/bucket/key")
    connection.putheader("Content-Length", "4")
    connection.putheader("Expect", "100-continue")
    connection.endheaders()
    assert connection.sock is not None
    assert connection.sock.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
    connection.send(b"data")
    assert connection.getresponse().status == 200


def test_requests_and_bytes_of_bodies_are_counted(
    server: LinkServer, connection: HTTPConnection
) -> None:
    """The counts since an earlier reading are those of the requests after it."""
    call(connection, "PUT", "/bucket/key", DATA)
    before = server.stats()
    assert before.requests == {"PutObject": 1}
    assert (before.bytes_received, before.bytes_sent) == (len(DATA), 0)
    call(connection, "GET", "/bucket/key")
    since = server.stats().since(before)
    assert since.requests == {"GetObject": 1}
    assert (since.bytes_received, since.bytes_sent) == (0, len(DATA))


def test_neither_direction_is_faster_than_the_link() -> None:
    """A request takes at least its latency and the time of its bytes."""
    with LinkServer(latency=0.05, bandwidth=3e6) as slow:
        slow.create_bucket("bucket")
        link = HTTPConnection(urlsplit(slow.endpoint_url).netloc)
        for method, body in (("PUT", DATA), ("GET", None)):
            start = time.monotonic()
            call(link, method, "/bucket/key", body)
            assert time.monotonic() - start >= 0.05 + len(DATA) / 3e6
        link.close()


def test_a_server_that_speaks_tls_has_a_certificate_for_its_address() -> None:
    """The environment names the authority, and the bytes are the same as without TLS."""
    with LinkServer(0, None, tls=True) as server:
        server.create_bucket("bucket")
        context = ssl.create_default_context(cafile=server.environment["AWS_CA_BUNDLE"])
        link = HTTPSConnection(urlsplit(server.endpoint_url).netloc, context=context)
        call(link, "PUT", "/bucket/key", 10 * DATA)
        assert call(link, "GET", "/bucket/key")[1] == 10 * DATA
        link.close()


def test_a_tail_is_as_long_as_it_says() -> None:
    """One latency in twenty is above 200 ms, and half of them are above the median."""
    link = Link(0.03, sigma=TAIL["sigma"], lost=TAIL["lost"])
    drawn = sorted(link.draw_latency() for _ in range(20_000))
    assert 0.027 < drawn[10_000] < 0.033
    assert 0.18 < drawn[19_000] < 0.22
    assert 0 < sum(link.loses() for _ in range(100_000)) < 300


def test_a_lost_request_is_never_answered(server: LinkServer) -> None:
    """The connection stays open, as behind a load balancer that has forgotten it."""
    server.set_link(0, None, lost=1.0)
    link = HTTPConnection(urlsplit(server.endpoint_url).netloc, timeout=0.5)
    with pytest.raises(TimeoutError):
        call(link, "GET", "/bucket/key")
    link.close()
    server.set_link(0, None)


def test_requests_above_the_rate_are_refused(
    connection: HTTPConnection, server: LinkServer
) -> None:
    """They get status 503 and are counted, and requests later on are answered."""
    server.set_link(0, None, requests_per_second=20)
    statuses = [call(connection, "GET", "/bucket/none")[0].status for _ in range(100)]
    assert statuses.count(503) == server.stats().requests["SlowDown"] > 0
    while call(connection, "GET", "/bucket/none")[0].status == 503:
        time.sleep(0.05)
    server.set_link(0, None)
