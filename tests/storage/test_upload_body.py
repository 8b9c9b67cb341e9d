"""The body of an upload."""

from __future__ import annotations

import http.server
import io
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsspill import ExternalStorage, InMemoryObjectStore
from fsspill.storage.upload_body import UploadBody
from fsspill.testing.contract import decode_frame, split_url
from tests.running import PATIENCE

chunk_lists = st.lists(st.integers(0, 200_000).map(lambda n: bytes([n % 251]) * n), max_size=8)


@given(buffers=chunk_lists, sizes=st.lists(st.integers(1000, 300_000), min_size=1, max_size=4))
def test_reads_return_the_buffers_in_order(buffers: list[bytes], sizes: list[int]) -> None:
    """A read of any length returns the next bytes, and b"" at the end."""
    whole = b"".join(buffers)
    body = UploadBody(buffers)
    assert len(body) == len(whole)
    found = bytearray()
    for number in range(10_000):
        size = sizes[number % len(sizes)]
        piece = body.read(size)
        if not piece:
            break
        assert len(piece) <= (2**18 if size == 2**16 else size)
        found += piece
    assert found == whole
    assert body.read() == b""


@given(buffers=chunk_lists, position=st.integers(0, 2_000_000))
def test_seek_and_tell_are_those_of_a_file(buffers: list[bytes], position: int) -> None:
    """Positions are those of a file of the same bytes."""
    whole = b"".join(buffers)
    body = UploadBody(buffers)
    assert body.seek(position) == body.tell() == min(position, len(whole))
    found = b""
    while piece := body.read(100_000):
        found += piece
    assert found == whole[position:]
    assert body.seek(0, io.SEEK_END) == len(whole)
    assert body.seek(0, io.SEEK_CUR) == len(whole)
    with body.getbuffer() as buffer:
        assert len(buffer) == len(whole)


def test_large_chunks_are_not_copied() -> None:
    """A read within a buffer is a view of its memory."""
    data = bytearray(200_000)
    body = UploadBody([b"head", memoryview(data)])
    body.seek(4)
    piece = body.read(100_000)
    data[0] = 7
    assert piece[0] == 7


def test_an_older_aiohttp_gets_as_much_as_a_newer_one() -> None:
    """It asks for 64 KiB, and takes more; at the end and between buffers there is less."""
    content = bytes(range(256)) * 4096
    body = UploadBody([content[:700_000], content[700_000:]])
    chunks = list(iter(lambda: bytes(body.read(2**16)), b""))
    assert b"".join(chunks) == content
    assert [len(chunk) for chunk in chunks[:2]] == [2**18, 2**18]
    assert len(chunks) == 5


def test_len_rewinds_the_body() -> None:
    """s3fs repeats a request with the body where the failed attempt left it."""
    body = UploadBody([b"abc", b"def"])
    body.read(4)
    assert bool(body)
    assert body.tell() == 4
    assert len(body) == 6
    assert bytes(body.read(6)) == b"abcdef"


def test_each_payload_of_aiohttp_begins_at_the_start() -> None:
    """Before 3.14 it makes another one of the same body when a connection was reset."""
    payload = pytest.importorskip("aiohttp.payload")
    body = UploadBody([b"ab", b"cd"])
    assert body.read() == b"abcd"
    assert payload.PAYLOAD_REGISTRY.get(body, disposition=None).size == 4
    assert body.read() == b"abcd"
    assert body.was_read_again


def test_bytes_that_are_sent_again_are_no_progress() -> None:
    """They have moved, but no further than in an earlier attempt."""
    progress: list[bool] = []
    body = UploadBody([b"abcdef"], lambda *, further: progress.append(further))
    body.read(4)
    body.seek(0)
    body.read(3)
    body.read(3)
    assert progress == [True, False, True]


def test_release_frees_the_memory() -> None:
    """Afterwards no view pins the memory, and nothing can be read."""
    data = bytearray(100)
    body = UploadBody([memoryview(data)])
    body.release()
    data.append(0)  # raises BufferError while anybody holds a view
    assert body.read() == b""


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"request_checksum_calculation": "when_supported"},
        {"s3": {"payload_signing_enabled": True}},
    ],
)
def test_checksums_and_signatures_cover_the_whole_body(
    s3_bucket: str, config: dict[str, object]
) -> None:
    """The stored bytes are the same, though botocore reads the body before it is sent."""
    from botocore.config import Config

    if not config.keys() <= Config.OPTION_DEFAULTS.keys():
        pytest.skip("botocore makes no checksums yet that are not required")
    store = InMemoryObjectStore()
    refs = [b"%d" % number for number in range(40)]
    data = {ref: bytes([number]) * (number * 10_000) for number, ref in enumerate(refs)}
    data[b"large"] = b"x" * 20_000_000
    for ref, value in data.items():
        store.put(ref, value, metadata=b"m")
    options = {"config_kwargs": config}
    storage = ExternalStorage(f"s3://{s3_bucket}", storage_options=options, object_store=store)
    urls = storage.spill_objects(list(data))
    for ref in data:
        store.delete(ref)
    storage.restore_spilled_objects(list(data), urls)
    assert all(store.get(ref) == value for ref, value in data.items())
    assert len({split_url(url)[0] for url in urls}) == 2


class Flaky(http.server.BaseHTTPRequestHandler):
    """Answers the first attempts with a reset half-way through the body, or with a 503."""

    protocol_version = "HTTP/1.1"  # botocore waits for "100 Continue" before it sends a file
    failures: ClassVar[tuple[str, ...]]
    attempts: ClassVar[list[bytes]] = []
    timeout = PATIENCE  # for a body that never comes

    def do_PUT(self) -> None:
        length = int(self.headers["Content-Length"])
        failure = dict(enumerate(self.failures)).get(len(self.attempts))
        # All of it before a 503: closing with bytes unread may reset the connection instead.
        self.attempts.append(self.rfile.read(length // 2 if failure == "reset" else length))
        self.close_connection = True
        if failure == "reset":
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            return
        answer = b"<Error><Code>SlowDown</Code></Error>" if failure else b""
        self.send_response(503 if failure else 200)
        self.send_header("Content-Length", str(len(answer)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def flaky_server(failures: tuple[str, ...]) -> Iterator[int]:
    """Run a server that fails as requested and then works, and yield its port."""
    Flaky.failures = failures
    Flaky.attempts.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Flaky) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("attempts", "failures"),
    [(0, ("503", "503")), (3, ("503", "503")), (3, ("reset", "503"))],
)
def test_a_repeated_request_sends_the_whole_body(attempts: int, failures: tuple[str, ...]) -> None:
    """No byte is missing, whether s3fs (0 attempts of botocore), botocore or aiohttp repeats it."""
    pytest.importorskip("s3fs")
    with flaky_server(failures) as port:
        options = {
            "endpoint_url": f"http://127.0.0.1:{port}",
            "key": "a",
            "secret": "b",
            "config_kwargs": {"retries": {"max_attempts": attempts}},
        }
        store = InMemoryObjectStore()
        store.put(b"x", bytes(range(256)) * 12_000, metadata=b"m")
        storage = ExternalStorage("s3://b/x", storage_options=options, object_store=store)
        [url] = storage.spill_objects([b"x"], [b"owner"])
    assert len(Flaky.attempts) == len(failures) + 1
    assert len(Flaky.attempts[-1]) == split_url(url)[2]
    assert decode_frame(Flaky.attempts[-1]) == (b"owner", b"m", bytes(range(256)) * 12_000)
