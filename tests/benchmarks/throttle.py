"""Eight processes of a node on a storage that takes so many requests per second.

``python -m tests.benchmarks.throttle`` prints a table.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import uuid
from typing import NamedTuple

from fsspill import ExternalStorage, FsspillError
from fsspill.bench.reused_store import OWNER_ADDRESS, ReusedStore
from fsspill.storage.throttle import Throttle
from tests.benchmarks.contenders import BUCKET
from tests.benchmarks.link_server import LinkServer, Stats

__all__ = ["Throttled", "measure"]

_PROCESSES = 8
_OBJECTS, _SIZE = 32, 100 * 2**10
"""A batch of each process: objects in files of their own, so that requests are the limit, and not
the processors of this machine."""

_WARM_UP = 4.0
"""Seconds from the first throttled answer for finding the rate: the first requests of all processes
come at once."""

_PATIENCE = 60.0
"""Seconds in which processes of a busy machine begin."""


class Throttled(NamedTuple):
    """The result of one run.

    Attributes
    ----------
    used : float
        Requests that were answered, as a part of those that the server takes.
    refused : float
        Requests that were refused, as a part of all.
    at_first : int
        Requests that were refused until 4 seconds after the first one, which do not count above.
    slowest : float
        Objects moved by the slowest process, as a part of the mean.
    failures : int
        Calls that raised.
    """

    used: float
    refused: float
    at_first: int
    slowest: float
    failures: int


def measure(
    rate: float, seconds: float, *, throttle: bool = True, processes: int = _PROCESSES
) -> Throttled:
    """Spill, restore and delete in processes, on a server that takes `rate` requests a second.

    `throttle` is false for processes of which each retries by itself.
    """
    with LinkServer() as server:
        server.create_bucket(BUCKET)
        server.set_link(0.03, 80e6, requests_per_second=rate)
        arguments = (server.endpoint_url, uuid.uuid4().hex, str(int(throttle)))
        workers = [_start(*arguments) for _ in range(processes)]
        try:
            for worker in workers:
                assert worker.stdout is not None
                assert worker.stdout.readline() == "ready\n"
            before = server.stats()
            _tell_all(workers)
            _await_throttling(server)
            time.sleep(_WARM_UP)
            _tell_all(workers)
            warm, began = server.stats(), time.monotonic()
            time.sleep(seconds)
            end, took = server.stats(), time.monotonic() - began
            _tell_all(workers)
            results = [json.loads(worker.communicate(timeout=120)[0]) for worker in workers]
        finally:
            for worker in workers:
                worker.kill()
                worker.communicate()
    moved = [result["moved"] for result in results]
    answered, refused = _split(end.since(warm))
    return Throttled(
        used=answered / took / rate,
        refused=refused / (answered + refused),
        at_first=_split(warm.since(before))[1],
        slowest=min(moved) * len(moved) / sum(moved),
        failures=sum(result["failures"] for result in results),
    )


def _start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.benchmarks.throttle", *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _tell_all(workers: list[subprocess.Popen[str]]) -> None:
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("\n")
        worker.stdin.flush()


def _await_throttling(server: LinkServer) -> None:
    end = time.monotonic() + _PATIENCE
    while not server.stats().requests["SlowDown"] and time.monotonic() < end:
        time.sleep(0.1)


def _split(stats: Stats) -> tuple[int, int]:
    """Return the requests that were answered, and those that were refused."""
    refused = stats.requests["SlowDown"]
    return stats.requests.total() - refused, refused


class _Worker:
    """One process: it moves objects from one line of its input to the third.

    It counts them from the second.
    """

    def __init__(self, endpoint_url: str, session_name: str) -> None:
        self._store = ReusedStore(memoryview(os.urandom(_OBJECTS * _SIZE)))
        self._refs = self._store.fill(_OBJECTS, _SIZE)
        self._storage = ExternalStorage(
            f"s3://{BUCKET}",
            storage_options={"endpoint_url": endpoint_url, "key": "any", "secret": "any"},
            object_store=self._store,
            session_name=session_name,
            node_id="node",
            file_size=_SIZE,
        )
        self._moved = self._failures = 0
        self._is_over = False

    def run(self) -> dict[str, int]:
        print("ready", flush=True)  # noqa: T201
        sys.stdin.readline()
        threading.Thread(target=self._obey, daemon=True).start()
        while not self._is_over:
            try:
                self._move()
            except FsspillError as error:
                self._failures += 1
                print(error, file=sys.stderr)  # noqa: T201
        return {"moved": self._moved, "failures": self._failures}

    def _move(self) -> None:
        urls = self._storage.spill_objects(self._refs, [OWNER_ADDRESS] * _OBJECTS)
        self._moved += len(urls)
        for ref, url in zip(self._refs, urls, strict=False):
            self._storage.restore_spilled_objects([ref], [url])
            self._moved += 1
        self._storage.delete_spilled_objects(urls)

    def _obey(self) -> None:
        sys.stdin.readline()
        self._moved = self._failures = 0
        sys.stdin.readline()
        self._is_over = True


def main() -> None:
    """Print the table, or work as one of the processes that are measured."""
    if len(sys.argv) > 1:
        endpoint_url, session_name, is_on = sys.argv[1:]
        if is_on == "0":
            Throttle.is_limited = property(lambda self: False)  # type: ignore[assignment, method-assign]
        print(json.dumps(_Worker(endpoint_url, session_name).run()))  # noqa: T201
        return
    print("| server takes | | used | refused | slowest / mean | failed calls | refused at first |")  # noqa: T201
    print("| ---: | --- | ---: | ---: | ---: | ---: | ---: |")  # noqa: T201
    for rate in (200, 50):
        for throttle in (False, True):
            found = measure(rate, 20, throttle=throttle)
            cells = (
                f"{rate} / s",
                "throttled" if throttle else "each by itself",
                f"{found.used:.0%}",
                f"{found.refused:.1%}",
                f"{found.slowest:.2f}",
                str(found.failures),
                str(found.at_first),
            )
            print(f"| {' | '.join(cells)} |", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
