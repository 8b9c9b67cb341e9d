"""The gain of compression on a link: ``python -m tests.benchmarks.compression --help``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from statistics import median

from fsspill.bench.contenders import Contender
from fsspill.bench.reused_store import ReusedStore
from fsspill.external_storage import ExternalStorage
from fsspill.ray.malloc import raise_trim_threshold
from fsspill.settings import MIB
from tests.benchmarks.contenders import BUCKET
from tests.benchmarks.link_server import LinkServer
from tests.benchmarks.measure import Case, Sample, measure, verify
from tests.benchmarks.samples import KINDS, make
from tests.benchmarks.suite import environment
from tests.benchmarks.table import aligned, shown_size, shown_speed

CODECS = (None, "lz4", "zstd")
_MAX_RESTORED = 100
"""Maximum number of objects restored per batch: each small one takes a round trip."""

_HEADINGS = (
    "data",
    "objects",
    "codec",
    "% at rest",
    "spill MiB/s",
    "restore MiB/s",
    "spill CPU s/GiB",
    "restore CPU s/GiB",
)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print a table."""
    arguments = _parser().parse_args(argv)
    raise_trim_threshold()  # as Ray's IO workers do
    size, count = int(arguments.size * MIB), arguments.count
    case = Case(count, size, min(count, _MAX_RESTORED))
    latency, bandwidth = arguments.latency / 1e3, arguments.bandwidth * 1e6
    table: list[tuple[str, ...]] = [_HEADINGS]
    with LinkServer(0, None) as server, environment(server.environment):
        server.create_bucket(BUCKET)
        for kind in arguments.only or KINDS:
            store = ReusedStore(make(kind, case.nbytes))
            contenders = _contenders(server, store, arguments.connections)
            for contender in contenders:
                server.set_link(0, None)
                verify(case, contender, store)
                server.reset()
            server.set_link(latency, bandwidth)
            table += _rows(kind, case, contenders, store, server, arguments.rounds)
    print(aligned(table))  # noqa: T201


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.compression",
        description="Spill and restore synthetic data with and without compression, alternately, "
        "over S3 on a link. MiB/s and CPU seconds per GiB refer to the bytes before compression "
        "and to this process, and are medians of the rounds; 'at rest' is the share of these "
        "bytes that the bucket stores.",
    )
    parser.add_argument("--count", type=int, default=10, help="objects (default: 10)")
    parser.add_argument("--size", type=float, default=20, help="MiB of each (default: 20)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default: 3)")
    parser.add_argument(
        "--latency", type=float, default=30, help="milliseconds per request (default: 30)"
    )
    parser.add_argument(
        "--bandwidth",
        type=float,
        default=80,
        help="MB/s per connection and direction (default: 80)",
    )
    parser.add_argument(
        "--connections",
        type=int,
        default=64,
        help="concurrent connections, which bound the link (default: 64)",
    )
    parser.add_argument("--only", nargs="+", choices=KINDS, help="kinds of data")
    return parser


def _contenders(server: LinkServer, store: ReusedStore, connections: int) -> list[Contender]:
    def make_contender(codec: str | None) -> Contender:
        storage = ExternalStorage(
            f"s3://{BUCKET}/spill",
            # fsspec shares filesystems with equal options: the endpoint tells servers apart.
            storage_options={"endpoint_url": server.endpoint_url},
            object_store=store,
            max_requests_in_flight=connections,
            compression=codec,
        )
        return Contender(str(codec).lower(), storage)

    return [make_contender(codec) for codec in CODECS]


def _rows(
    kind: str,
    case: Case,
    contenders: Sequence[Contender],
    store: ReusedStore,
    server: LinkServer,
    rounds: int,
) -> Iterator[tuple[str, ...]]:
    refs = store.fill(case.count, case.size)
    measured = [
        [measure(contender, refs, case, server) for contender in contenders] for _ in range(rounds)
    ]
    for number, contender in enumerate(contenders):
        spills, restores = zip(*(row[number] for row in measured), strict=True)
        at_rest = spills[0].stats.bytes_received / case.nbytes
        yield (
            kind,
            f"{case.count:,} x {shown_size(case.size)}",
            contender.name,
            f"{100 * at_rest:.0f}",
            shown_speed(median(sample.mib_per_second for sample in spills)),
            shown_speed(median(sample.mib_per_second for sample in restores)),
            f"{_cpu(spills):.2f}",
            f"{_cpu(restores):.2f}",
        )


def _cpu(samples: Sequence[Sample]) -> float:
    return median(sample.cpu_seconds * 2**30 / sample.nbytes for sample in samples)


if __name__ == "__main__":
    main()
