"""The proxy that injects faults, seen at the wire: http.client and sockets, not fsspill."""

from __future__ import annotations

import random
import select
import socket
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPMessage, IncompleteRead
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import NamedTuple
from urllib.parse import urlsplit

import fsspec
import pytest

from fsspill.testing.s3_server import S3Server
from tests.faults.fault_proxy import Fault, FaultProxy, Request, is_bulk_delete, is_object, is_part
from tests.running import PATIENCE, poll

MIB = 2**20
BODY = bytes(range(256)) * 5
AUTHORIZATION = (
    "AWS4-HMAC-SHA256 Credential=testing/20260101/us-east-1/s3/aws4_request, "
    "SignedHeaders=host, Signature=0"
)
DELETE_BOTH = (
    b'<Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    b"<Object><Key>a</Key></Object><Object><Key>b&amp;c</Key></Object></Delete>"
)


class Answer(NamedTuple):
    status: int
    headers: HTTPMessage
    body: bytes


@pytest.fixture
def proxy(s3_server: S3Server, s3_bucket: str) -> Iterator[FaultProxy]:
    """Return a proxy before a server with one object, /bucket/key, which is `BODY`."""
    with FaultProxy(s3_server.endpoint_url) as proxy:
        assert call(s3_server.endpoint_url, "PUT", "/bucket/key", BODY).status == 200
        yield proxy


def connect(endpoint_url: str) -> HTTPConnection:
    return HTTPConnection(urlsplit(endpoint_url).netloc, timeout=PATIENCE)


def ask(
    connection: HTTPConnection, method: str, path: str, body: bytes = b"", **headers: str
) -> Answer:
    connection.request(method, path, body, {"Authorization": AUTHORIZATION, **headers})
    response = connection.getresponse()
    return Answer(response.status, response.headers, response.read())


def call(endpoint_url: str, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
    """Make one request on a connection of its own."""
    connection = connect(endpoint_url)
    try:
        return ask(connection, method, path, body, **headers)
    finally:
        connection.close()


def send(proxy: FaultProxy, method: str, path: str) -> socket.socket:
    """Send a request without a body and return the socket that will have the answer."""
    sent = socket.create_connection(("127.0.0.1", port(proxy)), timeout=PATIENCE)
    lines = (f"{method} {path} HTTP/1.1", "Host: here", f"Authorization: {AUTHORIZATION}")
    sent.sendall("".join(f"{line}\r\n" for line in (*lines, "")).encode())
    return sent


def port(proxy: FaultProxy) -> int:
    found = urlsplit(proxy.endpoint_url).port
    assert found is not None
    return found


def receive(source: socket.socket, length: int) -> bytes:
    received = b""
    while len(received) < length and (chunk := source.recv(length - len(received))):
        received += chunk
    return received


def is_silent(source: socket.socket) -> bool:
    """Return True if neither a byte nor the end of the connection has arrived."""
    return not select.select([source], [], [], 0.1)[0]


def bits_that_differ(one: bytes, other: bytes) -> int:
    assert len(one) == len(other)
    return sum(bin(a ^ b).count("1") for a, b in zip(one, other, strict=True))


@pytest.fixture
def echo() -> Iterator[str]:
    """Return the URL of a server that answers in chunks with all that arrives of a request."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            arrived = f"{self.requestline}\n{self.headers}".encode() + body
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(arrived), arrived))

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_requests_and_answers_pass_unchanged(proxy: FaultProxy, s3_server: S3Server) -> None:
    """Without a fault each method is answered as the server itself does, on one connection."""
    through, direct = connect(proxy.endpoint_url), connect(s3_server.endpoint_url)
    requests = [
        ("HEAD", "/bucket/key", b""),
        ("GET", "/bucket/key", b""),
        ("GET", "/bucket/missing", b""),
        ("PUT", "/bucket/other", BODY),
        ("GET", "/bucket?list-type=2&prefix=other", b""),
        ("POST", "/bucket?delete", DELETE_BOTH),
        ("DELETE", "/bucket/other", b""),
    ]
    for request in requests:
        mine, its = ask(through, *request), ask(direct, *request)
        for name in ("Content-Length", "ETag", "Content-Type", "Transfer-Encoding"):
            assert mine.headers.get_all(name) == its.headers.get_all(name), (request, name)
        assert mine.status == its.status
        if not mine.body.startswith(b"<?xml"):  # which has times and random ids
            assert mine.body == its.body
    assert proxy.requests == [Request(method, path) for method, path, _ in requests]
    assert not proxy.injected
    through.close()
    direct.close()


def test_headers_are_forwarded_unchanged(echo: str) -> None:
    """Signatures stay valid: the server sees the client's Host, path, query and headers."""
    with FaultProxy(echo) as proxy:
        answer = call(proxy.endpoint_url, "PUT", "/b/k%20?x=%2F&y", b"body", Host="h:1", X="y")
    lines = answer.body.decode().split("\n")
    assert lines[0] == "PUT /b/k%20?x=%2F&y HTTP/1.1"
    assert lines[-1] == "body"
    assert lines.count("Host: h:1") == lines.count("X: y") == 1
    assert lines.count("Content-Length: 4") == 1


def test_expect_100_continue_is_answered(echo: str) -> None:
    """The client gets 100 Continue before the body arrives, and then the answer."""
    with FaultProxy(echo) as proxy:
        head = "PUT /k HTTP/1.1\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
        with socket.create_connection(("127.0.0.1", port(proxy)), timeout=PATIENCE) as sent:
            sent.sendall(head.encode())
            go_on = b"HTTP/1.1 100 Continue\r\n\r\n"
            assert receive(sent, len(go_on)) == go_on
            assert is_silent(sent)
            sent.sendall(b"body")
            assert receive(sent, 12) == b"HTTP/1.1 200"


def test_chunked_bodies_get_a_content_length(echo: str) -> None:
    """Server and client get the same bytes as without the proxy, with a Content-Length."""
    with FaultProxy(echo) as proxy:
        connection = connect(proxy.endpoint_url)
        for body in (BODY, b"again"):
            connection.request("PUT", "/k", iter([b"one", body, b"two"]), encode_chunked=True)
            response = connection.getresponse()
            arrived = response.read()
            assert arrived.endswith(b"\n\none" + body + b"two")
            assert f"Content-Length: {len(body) + 6}\n".encode() in arrived
            assert b"chunked" not in arrived
            assert response.headers["Content-Length"] == str(len(arrived))
            assert response.headers["Transfer-Encoding"] is None
        connection.close()


def test_many_connections_are_served_concurrently(proxy: FaultProxy) -> None:
    """64 clients that have all sent a request get their own object each, twice."""
    connections = [connect(proxy.endpoint_url) for _ in range(64)]
    for method in ("PUT", "GET"):
        for number, connection in enumerate(connections):
            body = BODY + bytes([number]) if method == "PUT" else None
            connection.request(
                method, f"/bucket/{number}", body, headers={"Authorization": AUTHORIZATION}
            )
        answers = [connection.getresponse().read() for connection in connections]
    assert answers == [BODY + bytes([number]) for number in range(64)]
    for connection in connections:
        connection.close()


def test_environment_names_the_proxy(proxy: FaultProxy, s3_server: S3Server) -> None:
    """The environment is the server's except for the endpoint."""
    endpoint = {"AWS_ENDPOINT_URL": proxy.endpoint_url}
    assert proxy.environment == s3_server.environment | endpoint
    assert proxy.endpoint_url != s3_server.endpoint_url


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (Fault.UNAVAILABLE, 503, b"<Code>SlowDown</Code>"),
        (Fault.THROTTLED, 429, b"<Code>TooManyRequests</Code>"),
        (Fault.FORBIDDEN, 403, b"<Code>AccessDenied</Code>"),
    ],
)
def test_refusals_are_not_forwarded(
    proxy: FaultProxy, s3_server: S3Server, fault: Fault, status: int, code: bytes
) -> None:
    """The request is answered with S3's error, a HEAD without its body, and never forwarded."""
    connection = connect(proxy.endpoint_url)
    with proxy.inject(fault):
        put = ask(connection, "PUT", "/bucket/new", BODY)
        head = ask(connection, "HEAD", "/bucket/key")
    assert (put.status, head.status) == (status, status)
    assert code in put.body
    assert head.headers["Content-Length"] == str(len(put.body))
    assert ask(connection, "GET", "/bucket/key").body == BODY
    assert call(s3_server.endpoint_url, "GET", "/bucket/new").status == 404
    assert proxy.injected == {(fault, "PUT"): 1, (fault, "HEAD"): 1}
    connection.close()


@pytest.mark.parametrize(("fault", "stored"), [(Fault.RESET, 200), (Fault.RESET_AFTER, 404)])
def test_resets_are_seen_by_the_client(
    proxy: FaultProxy, s3_server: S3Server, fault: Fault, stored: int
) -> None:
    """The client sees a reset both times; only RESET_AFTER lets the request take effect."""
    # A socket, because http.client calls an orderly end without an answer a reset too.
    with (
        proxy.inject(fault),
        send(proxy, "DELETE", "/bucket/key") as sent,
        pytest.raises(ConnectionResetError),
    ):
        sent.recv(1)
    assert call(s3_server.endpoint_url, "GET", "/bucket/key").status == stored


def test_a_stall_holds_the_connection_until_the_proxy_ends(proxy: FaultProxy) -> None:
    """Neither a byte nor an end of the connection arrives; other connections are served."""
    with proxy.inject(Fault.STALL, count=1), send(proxy, "DELETE", "/bucket/key") as stalled:
        poll(lambda: proxy.injected[Fault.STALL, "DELETE"], "the stall")
        assert call(proxy.endpoint_url, "GET", "/bucket/key").body == BODY
        assert is_silent(stalled)
        proxy.pause()
        assert stalled.recv(1) == b""


def test_a_stalled_connection_ends_with_its_client(proxy: FaultProxy) -> None:
    """The proxy continues to serve after clients have closed their connections."""
    with proxy.inject(Fault.STALL, method="GET"):
        for _ in range(20):
            send(proxy, "GET", "/bucket/key").close()
        poll(lambda: proxy.injected[Fault.STALL, "GET"] == 20, "the stalls")
    assert call(proxy.endpoint_url, "GET", "/bucket/key").body == BODY


def test_a_stall_in_the_middle_of_a_body(proxy: FaultProxy) -> None:
    """All headers and half of the body arrive, then nothing until the proxy ends."""
    with proxy.inject(Fault.STALL_HALF), send(proxy, "GET", "/bucket/key") as stalled:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += stalled.recv(1)
        assert f"content-length: {len(BODY)}\r\n".encode() in head.lower()
        assert receive(stalled, len(BODY) // 2) == BODY[: len(BODY) // 2]
        assert is_silent(stalled)
        proxy.pause()
        assert stalled.recv(1) == b""


def test_a_cut_body_ends_before_its_length(proxy: FaultProxy) -> None:
    """Content-Length is the true one, half of the body arrives, and the connection ends."""
    with proxy.inject(Fault.CUT), pytest.raises(IncompleteRead) as caught:
        call(proxy.endpoint_url, "GET", "/bucket/key")
    assert caught.value.partial == BODY[: len(BODY) // 2]
    assert caught.value.expected == len(BODY) - len(BODY) // 2


@pytest.mark.parametrize("seed", range(5))
def test_a_short_body_agrees_with_its_headers(proxy: FaultProxy, seed: int) -> None:
    """At least half of the body arrives, but not all, and every header agrees with that."""
    with proxy.inject(Fault.SHORT, seed=seed):
        whole = call(proxy.endpoint_url, "GET", "/bucket/key")
        part = call(proxy.endpoint_url, "GET", "/bucket/key", Range="bytes=100-199")
    assert len(BODY) // 2 <= len(whole.body) < len(BODY)
    assert BODY.startswith(whole.body)
    assert whole.headers.get_all("Content-Length") == [str(len(whole.body))]
    assert part.status == 206
    assert 50 <= len(part.body) < 100
    assert BODY[100:].startswith(part.body)
    last = 100 + len(part.body) - 1
    assert part.headers["Content-Range"] == f"bytes 100-{last}/{len(BODY)}"
    assert part.headers.get_all("Content-Length") == [str(len(part.body))]


@pytest.mark.parametrize("seed", range(5))
def test_a_flip_changes_one_bit_of_an_answer(proxy: FaultProxy, seed: int) -> None:
    """The stored object is unchanged."""
    with proxy.inject(Fault.FLIP, seed=seed):
        flipped = call(proxy.endpoint_url, "GET", "/bucket/key")
    assert bits_that_differ(flipped.body, BODY) == 1
    assert call(proxy.endpoint_url, "GET", "/bucket/key").body == BODY


@pytest.mark.parametrize("seed", range(5))
def test_a_flip_up_changes_one_bit_of_what_is_stored(proxy: FaultProxy, seed: int) -> None:
    """The server reports success; requests without a body are unchanged."""
    with proxy.inject(Fault.FLIP_UP, seed=seed):
        assert call(proxy.endpoint_url, "PUT", "/bucket/new", BODY).status == 200
        stored = call(proxy.endpoint_url, "GET", "/bucket/new").body
    assert bits_that_differ(stored, BODY) == 1
    assert proxy.injected == {(Fault.FLIP_UP, "PUT"): 1}


def test_a_swap_changes_every_byte(proxy: FaultProxy) -> None:
    """The headers are those of the object, and every byte of the body differs."""
    with proxy.inject(Fault.SWAP):
        swapped = call(proxy.endpoint_url, "GET", "/bucket/key")
    right = call(proxy.endpoint_url, "GET", "/bucket/key")
    assert swapped.headers["ETag"] == right.headers["ETag"]
    assert len(swapped.body) == len(BODY)
    assert not any(one == other for one, other in zip(swapped.body, BODY, strict=True))


def test_a_denied_bulk_delete_names_every_key(proxy: FaultProxy) -> None:
    """It is answered 200 with an error for each key, and deletes none."""
    for key in ("a", "b%26c"):
        call(proxy.endpoint_url, "PUT", f"/bucket/{key}", BODY)
    with proxy.inject(Fault.DELETE_DENIED):
        answer = call(proxy.endpoint_url, "POST", "/bucket?delete", DELETE_BOTH)
        kept = [call(proxy.endpoint_url, "GET", f"/bucket/{key}") for key in ("a", "b%26c")]
    assert [answer.status for answer in kept] == [200, 200]
    denied = "<Error><Key>{}</Key><Code>AccessDenied</Code></Error>"
    result = "<DeleteResult>" + denied.format("a") + denied.format("b&amp;c") + "</DeleteResult>"
    assert answer.status == 200
    assert answer.body.endswith(result.encode())
    assert proxy.injected == {(Fault.DELETE_DENIED, "POST"): 1}


def test_a_denied_delete(proxy: FaultProxy) -> None:
    """It is answered 403, and the object stays."""
    with proxy.inject(Fault.DELETE_DENIED):
        assert call(proxy.endpoint_url, "DELETE", "/bucket/key").status == 403
        assert call(proxy.endpoint_url, "GET", "/bucket/key").body == BODY


@pytest.mark.parametrize("fault", [Fault.STALL_HALF, Fault.CUT, Fault.SHORT, Fault.FLIP])
def test_only_bodies_of_successful_answers_are_altered(proxy: FaultProxy, fault: Fault) -> None:
    """The body of an error, and an answer without one, are unchanged and not counted."""
    with proxy.inject(fault):
        missing = call(proxy.endpoint_url, "GET", "/bucket/missing")
        head = call(proxy.endpoint_url, "HEAD", "/bucket/key")
    assert b"<Code>NoSuchKey</Code>" in missing.body
    assert head.headers["Content-Length"] == str(len(BODY))
    assert not proxy.injected


def statuses(proxy: FaultProxy, count: int) -> list[int]:
    connection = connect(proxy.endpoint_url)
    found = [ask(connection, "HEAD", "/bucket/key").status for _ in range(count)]
    connection.close()
    return found


@pytest.mark.parametrize(("rate", "seed"), [(0.0, 1), (0.3, 1), (0.3, 2), (1.0, 1)])
def test_rate_is_deterministic_for_a_seed(proxy: FaultProxy, rate: float, seed: int) -> None:
    """Each request is struck with that probability, by a generator with that seed."""
    with proxy.inject(Fault.UNAVAILABLE, rate=rate, seed=seed):
        found = statuses(proxy, 50)
    chooser = random.Random(seed)
    assert found == [503 if chooser.random() < rate else 200 for _ in range(50)]
    assert proxy.injected[Fault.UNAVAILABLE, "HEAD"] == found.count(503)


def test_a_count_ends_a_fault(proxy: FaultProxy) -> None:
    """The next three requests are struck and no other."""
    with proxy.inject(Fault.UNAVAILABLE, count=3):
        assert statuses(proxy, 5) == [503, 503, 503, 200, 200]


def test_a_fault_ends_with_its_block(proxy: FaultProxy) -> None:
    """Outside of all blocks nothing is struck; inside of two, the outer one is asked first."""
    with proxy.inject(Fault.THROTTLED, count=1), proxy.inject(Fault.FORBIDDEN):
        assert statuses(proxy, 2) == [429, 403]
    assert statuses(proxy, 1) == [200]


def test_fault_strikes_only_matching_requests(proxy: FaultProxy) -> None:
    """`method` and `where` must both match; other requests do not use up the count."""
    with proxy.inject(Fault.FORBIDDEN, method="PUT", where=lambda path: "new" in path, count=1):
        assert call(proxy.endpoint_url, "GET", "/bucket/new").status == 404
        assert call(proxy.endpoint_url, "PUT", "/bucket/key", BODY).status == 200
        assert call(proxy.endpoint_url, "PUT", "/bucket/new", BODY).status == 403


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("/bucket/a/b", {is_object}),
        ("/bucket/key?partNumber=2&uploadId=x", {is_object, is_part}),
        ("/bucket?delete", {is_bulk_delete}),
        ("/bucket/?delete=", {is_bulk_delete}),
        ("/bucket?list-type=2&prefix=a/b", set()),
    ],
)
def test_paths_are_classified(path: str, what: set[object]) -> None:
    """Path and query distinguish objects, parts of multipart uploads and bulk deletions."""
    assert {kind for kind in (is_object, is_part, is_bulk_delete) if kind(path)} == what


def test_paused_proxy_is_down(proxy: FaultProxy) -> None:
    """Open connections end, new ones are refused, and after that the same port serves again."""
    endpoint_url = proxy.endpoint_url
    with socket.create_connection(("127.0.0.1", port(proxy)), timeout=PATIENCE) as idle:
        call(endpoint_url, "GET", "/bucket/key")
        proxy.pause()
        assert idle.recv(1) == b""
    for _ in range(3):
        with pytest.raises(ConnectionRefusedError):
            call(endpoint_url, "GET", "/bucket/key")
    proxy.pause()
    proxy.resume()
    proxy.resume()
    assert proxy.endpoint_url == endpoint_url
    assert call(endpoint_url, "GET", "/bucket/key").body == BODY


def test_a_closed_proxy_refuses(s3_server: S3Server) -> None:
    """Nothing listens on its port, whether it was paused or not."""
    for paused in (False, True):
        with FaultProxy(s3_server.endpoint_url) as proxy:
            if paused:
                proxy.pause()
        with pytest.raises(ConnectionRefusedError):
            call(proxy.endpoint_url, "GET", "/bucket/key")


def test_unreachable_server_ends_the_connection() -> None:
    """The client gets no answer if the proxy cannot reach the server."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with FaultProxy(f"http://127.0.0.1:{unused.getsockname()[1]}") as proxy:
            with pytest.raises(ConnectionResetError):
                call(proxy.endpoint_url, "GET", "/bucket/key")
            assert proxy.requests == [Request("GET", "/bucket/key")]


def test_s3fs_works_through_the_proxy(proxy: FaultProxy) -> None:
    """Files in one request and in parts, ranges, listings and bulk deletion are unchanged."""
    fs = fsspec.filesystem(
        "s3",
        endpoint_url=proxy.endpoint_url,
        key="testing",
        secret="testing",
        skip_instance_cache=True,
    )
    data = random.Random(0).randbytes(12 * MIB)
    fs.pipe_file("bucket/d/small", BODY)
    fs.pipe_file("bucket/d/parts", data, chunksize=5 * MIB)
    assert sum(is_part(request.path) for request in proxy.requests) == 3
    with fs.open("bucket/d/stream", "wb", block_size=5 * MIB) as stream:
        stream.write(data)
    assert fs.cat_file("bucket/d/small") == BODY
    assert fs.cat_file("bucket/d/parts") == fs.cat_file("bucket/d/stream") == data
    assert fs.cat_ranges(["bucket/d/parts"] * 2, [5, MIB], [9, 2 * MIB]) == [
        data[5:9],
        data[MIB : 2 * MIB],
    ]
    fs.rm(fs.find("bucket"))
    assert sum(is_bulk_delete(request.path) for request in proxy.requests) == 1
    fs.invalidate_cache()
    assert fs.find("bucket") == []
