"""Endpoints of nodes, with what Ray's agents export of two nodes that spill and restore."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BOUNDS = ("0.1", "1.0", "10.0", "+Inf")
BUCKET, SECOND = "s3://bucket/spill", "s3://second/spill"
NODES = {
    "10.0.0.1": "4f0c8e2ab1d34c5e9f60718293a4b5c6d7e8f9011223344556677889",
    "10.0.0.2": "9a1b8e2ab1d34c5e9f60718293a4b5c6d7e8f9011223344556677889",
}


def line(
    name: str, value: float, address: str = "10.0.0.1", worker: str = "w1", **labels: str
) -> str:
    """Return a line of an endpoint, with the labels that Ray adds."""
    ours = {"node": NODES[address], **labels}
    rays = {"NodeAddress": address, "SessionName": "session_1", "WorkerId": worker}
    shown = ",".join(f'{key}="{value}"' for key, value in {**rays, **ours}.items())
    return f"ray_fsspill_{name}{{{shown}}} {value}"


def histogram(name: str, counts: tuple[int, ...], **labels: str) -> list[str]:
    """Return the lines of a histogram with so many observations in each bucket of `BOUNDS`."""
    below = [sum(counts[: index + 1]) for index in range(len(counts))]
    return [
        *(
            line(f"{name}_bucket", count, le=bound, **labels)
            for bound, count in zip(BOUNDS, below, strict=True)
        ),
        line(f"{name}_count", below[-1], **labels),
        line(f"{name}_sum", float(sum(counts)), **labels),
    ]


def node(address: str = "10.0.0.1", *, times: int = 0) -> str:
    """Return what a node exports after so many times of ten seconds."""
    mib = 2**20
    lines = [
        "# HELP ray_fsspill_spilled_bytes_total Bytes spilled.",
        "# TYPE ray_fsspill_spilled_bytes_total counter",
        "ray_object_store_memory 5.0",
        line("spilled_bytes_total", 1e9 + times * 1000 * mib, address, uri=BUCKET, tier="bucket"),
        line("restored_bytes_total", times * 250.0 * mib, address, uri=BUCKET, tier="bucket"),
        line("restored_bytes_total", times * 3000.0 * mib, address, uri=BUCKET, tier="copy"),
        *histogram("spill_seconds", (0, 10 * times, 0, 0), address=address, tier="bucket"),
        *histogram("restore_seconds", (98 * times, 0, 2 * times, 0), address=address, tier="copy"),
        line(
            "requests_total",
            times * 500,
            address,
            uri=BUCKET,
            operation="put",
            outcome="success",
        ),
        line("requests_total", 7, address, uri=BUCKET, operation="get", outcome="missing"),
        line(
            "requests_total",
            times * 20,
            address,
            uri=BUCKET,
            operation="put",
            outcome="throttled",
        ),
        line(
            "requests_total",
            times * 30,
            address,
            uri=BUCKET,
            operation="get",
            outcome="superseded",
        ),
        line("retries_total", times * 15, address, uri=BUCKET),
        line("circuit_open", 0.0, address, uri=BUCKET),
        line("requests_in_flight", 12.0, address, uri=BUCKET),
        line("requests_in_flight", 4.0, address, worker="w2", uri=BUCKET),
        line("bytes_in_flight", 96.0 * mib, address, uri=BUCKET),
        line("pending_deletions", 3.0, address),
        line("copy_bytes", 5e9, address),
        line("copy_bytes", 5e9, address, worker="w2"),
    ]
    return "\n".join(lines) + "\n"


class _Handler(BaseHTTPRequestHandler):
    """Answers with the page of its server."""

    def do_GET(self) -> None:
        pages: list[str] = self.server.pages  # type: ignore[attr-defined]
        # The last page stays.
        body = (pages.pop(0) if len(pages) > 1 else pages[0]).encode()
        self.send_response(200 if self.path == "/metrics" else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


@contextmanager
def serve(*pages: str) -> Iterator[str]:
    """Serve pages, one for each request and the last one for all others; yield host and port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.pages = list(pages)  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def cluster(pages: Mapping[str, list[str]]) -> Iterator[dict[str, str]]:
    """Serve the pages of several nodes; yield host and port of each."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(serve(*texts)) for name, texts in pages.items()}
