"""The benchmarks run, restore every byte, and make the documented requests to S3."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import fsspec
import pytest

from fsspill.bench.contenders import RAY, Contender
from fsspill.bench.reused_store import ReusedStore, random_bytes
from fsspill.settings import MIB
from tests.benchmarks import __main__ as command
from tests.benchmarks import compression
from tests.benchmarks.chart import draw
from tests.benchmarks.contenders import (
    BUCKET,
    ENGINES,
    local_contenders,
    s3_contenders,
)
from tests.benchmarks.link_server import LinkServer, Stats
from tests.benchmarks.measure import Case, Row, Sample, measure, run_case, verify
from tests.benchmarks.suite import Suite, count_requests

pytest.importorskip("ray")
pytest.importorskip("s3fs")
pytest.importorskip("smart_open.s3")
pytest.importorskip("pyarrow")
pytest.importorskip("obstore")

LARGE = Case(count=3, size=5 * MIB, restored=3)
SMALL = Case(count=40, size=100 * 2**10, restored=8)
LOCAL = Case(count=40, size=100 * 2**10, restored=40)
SMALL_SUITE = Suite(
    local=[LOCAL],
    s3=[SMALL],
    copy=[SMALL],
    cpu=[LARGE],
    files=3,
    memory=[Case(1, 100 * MIB, 1)],
    ray=[Case(count=8, size=20 * MIB, restored=8)],
    ray_small=[Case(count=1_000, size=100 * 2**10, restored=1_000)],
    object_store_memory=80 * MIB,
)
LIBRARIES = ["s3fs", "pyarrow.fs", "obstore"]
FSSPILL = [f"fsspill, engine={engine}" if engine != "auto" else "fsspill" for engine in ENGINES]
S3_CONTENDERS = [*FSSPILL, RAY, *LIBRARIES]


@pytest.fixture
def store() -> ReusedStore:
    return ReusedStore(random_bytes(LARGE.nbytes))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LinkServer]:
    with LinkServer(latency=0, bandwidth=None) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture
def contenders(server: LinkServer, store: ReusedStore) -> list[Contender]:
    contenders = s3_contenders(server, store)
    server.reset()
    return contenders


def run_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> list[str]:
    """Run the command on small batches without a link, and return the lines that it prints."""
    monkeypatch.setattr(command, "QUICK", SMALL_SUITE)
    fixed = ["--quick", "--rounds", "1", "--latency", "0", "--bandwidth", "0"]
    command.main([*fixed, *arguments])
    return capsys.readouterr().out.splitlines()


def test_the_command_prints_and_draws_a_row_per_operation_and_contender(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The chart has a bar per row of S3; the given directory is empty afterwards."""
    chart, directory = tmp_path / "chart.svg", tmp_path / "files"
    directory.mkdir()
    paths = ["--chart", str(chart), "--directory", str(directory)]
    lines = run_command(monkeypatch, capsys, "--only", "local", "s3", "cpu", "requests", *paths)
    local = [[operation, name] for operation in ("spill", "restore") for name in ("fsspill", RAY)]
    spills = [["spill", name] for name in S3_CONTENDERS]
    assert [row[:2] for row in rows_of(lines, "40 x 100 KiB")] == [*local, *spills]
    assert [row[1] for row in rows_of(lines, "8 x 100 KiB")] == S3_CONTENDERS
    assert [row[1] for row in rows_of(lines, "3 x 5 MiB")] == 2 * S3_CONTENDERS
    assert [row[0] for row in rows_of(lines, "deletion of 3 files")] == S3_CONTENDERS
    assert list(directory.iterdir()) == []
    bars = ElementTree.parse(chart).findall("{http://www.w3.org/2000/svg}rect")
    assert len(bars) == 2 * len(S3_CONTENDERS)


def test_every_row_of_s3_exists_with_https(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All contenders trust the server's certificate."""
    lines = run_command(monkeypatch, capsys, "--only", "s3-tls", "cpu-tls")
    assert [row[1] for row in rows_of(lines, "8 x 100 KiB")] == S3_CONTENDERS
    assert [row[1] for row in rows_of(lines, "3 x 5 MiB")] == 2 * S3_CONTENDERS


def rows_of(lines: list[str], first: str) -> list[list[str]]:
    """Return the remaining cells of the rows whose first cell is `first`."""
    rows = [re.split(" {2,}", line) for line in lines]
    return [cells for begin, *cells in rows if begin == first]


def test_bars_are_proportional_to_speed() -> None:
    """The fastest has the longest bar, a contender of half its speed one of half the length."""
    speeds = {"fsspill": 300.0, RAY: 150.0, "<s3fs>": 75.0}
    rows = [
        Row(SMALL, operation, name, speed, 1, 1, 1, Counter())
        for operation in ("spill", "restore")
        for name, speed in speeds.items()
    ]
    root = ElementTree.fromstring(draw(rows, "without a link"))
    widths = [int(bar.attrib["width"]) for bar in root.findall("{*}rect")]
    assert widths == 2 * [widths[0], widths[0] // 2, widths[0] // 4]
    texts = [text.text for text in root.findall("{*}text")]
    assert {"spill 40 x 100 KiB", "restore 8 x 100 KiB", "<s3fs>", "150"} <= set(texts)


def test_a_chart_without_its_section_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The chart shows the section ``s3``, so ``--only`` must include it."""
    with pytest.raises(SystemExit):
        command.main(["--only", "local", "--chart", "chart.svg"])
    assert "--only leaves out" in capsys.readouterr().err


def test_memory_stays_below_the_limit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The process takes less than its limit and 64 MiB, as documented."""
    lines = run_command(monkeypatch, capsys, "--only", "memory")
    limit, spilling, total = map(int, rows_of(lines, "1 x 100 MiB")[0])
    assert limit == 128
    assert 0 <= spilling <= total < limit + 64
    assert total > 0


@pytest.mark.ray
def test_the_ray_program_runs_on_both_contenders(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both spill the objects that exceed the object store, and restore them."""
    lines = run_command(monkeypatch, capsys, "--only", "ray")
    rows = rows_of(lines, "8 x 20 MiB")
    assert [row[0] for row in rows] == ["fsspill", RAY]
    for row in rows:
        spilled, restored = map(int, row[5:7])
        assert spilled > 0
        assert restored > 0
        assert "GetObject" in row[7]


COPIES = ["fsspill", "fsspill, cache_dir", RAY]


def test_local_copies_have_rows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A restore from a copy makes no request; the directory is empty afterwards."""
    lines = run_command(monkeypatch, capsys, "--only", "copy", "--directory", str(tmp_path))
    rows = rows_of(lines, "8 x 100 KiB")
    assert [row[1] for row in rows] == COPIES
    assert rows[0][6] == f"{SMALL.restored} GetObject"
    assert rows[1][6] == "-"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.nightly
@pytest.mark.ray
def test_the_ray_program_runs_with_local_copies(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All contenders spill and restore, of large and of small objects."""
    lines = run_command(monkeypatch, capsys, "--only", "ray-copy")
    for first in ("8 x 20 MiB", "1,000 x 100 KiB"):
        assert [row[0] for row in rows_of(lines, first)] == COPIES


def test_compression_prints_a_row_per_codec(capsys: pytest.CaptureFixture[str]) -> None:
    """The percentage at rest is that of the bytes that the server has received."""
    for package in ("lz4", "zstandard", "pyarrow"):
        pytest.importorskip(package)
    arguments = ["--count", "2", "--size", "2", "--rounds", "1", "--latency", "0"]
    compression.main([*arguments, "--bandwidth", "0", "--only", "pickled records"])
    rows = [line.split()[2:] for line in capsys.readouterr().out.splitlines()[1:]]
    assert [row[:4] for row in rows] == [["2", "x", "2", "MiB"]] * 3
    assert [row[4] for row in rows] == ["none", "lz4", "zstd"]
    none, lz4, zstd = (int(row[5]) for row in rows)
    assert zstd < lz4 < 60 < none == 100


@pytest.mark.parametrize("case", [LARGE, SMALL], ids=["large", "small"])
def test_all_contenders_restore_every_byte_from_s3(
    contenders: list[Contender], store: ReusedStore, case: Case
) -> None:
    """Each object is equal to its source after spilling and restoring."""
    assert [contender.name for contender in contenders] == S3_CONTENDERS
    for contender in contenders:
        assert verify(case, contender, store) == case.nbytes


def test_the_libraries_leave_no_file(
    contenders: list[Contender], store: ReusedStore, server: LinkServer
) -> None:
    """Deleted files are no longer listed."""
    for contender in contenders:
        if contender.name in LIBRARIES:
            verify(SMALL, contender, store)
    assert fsspec.filesystem("s3", endpoint_url=server.endpoint_url).find(BUCKET) == []


def test_both_contenders_restore_every_byte_from_a_directory(
    store: ReusedStore, tmp_path: Path
) -> None:
    """Each object is equal to its source after spilling and restoring."""
    for contender in local_contenders(str(tmp_path), store):
        assert verify(LOCAL, contender, store) == LOCAL.nbytes


def test_wrongly_restored_bytes_are_detected(
    contenders: list[Contender], store: ReusedStore
) -> None:
    """Another object's bytes raise, and so does a second check of the same restore."""
    refs = store.fill(SMALL.count, SMALL.size)
    urls = contenders[0].spill(refs)
    contenders[0].restore(refs[0], urls[1])
    with pytest.raises(ValueError, match="restored with other bytes"):
        store.verify(refs[0])
    contenders[0].restore(refs[0], urls[0])
    store.verify(refs[0])
    with pytest.raises(ValueError, match="restored with other bytes"):
        store.verify(refs[0])  # nothing was restored in between


def test_a_fused_file_is_one_put_and_a_small_object_is_one_get(
    contenders: list[Contender], store: ReusedStore, server: LinkServer
) -> None:
    """Small objects make no other request, and transfer no byte beyond their frames."""
    refs = store.fill(SMALL.count, SMALL.size)
    spilled, restored = measure(contenders[0], refs, SMALL, server)
    assert spilled.stats.requests == {"PutObject": 1}
    assert restored.stats.requests == {"GetObject": SMALL.restored}
    assert spilled.stats.bytes_received == SMALL.count * restored.needed / SMALL.restored
    assert restored.stats.bytes_sent == restored.needed


def test_each_larger_object_is_one_put_and_no_byte_is_read_twice(
    contenders: list[Contender], store: ReusedStore, server: LinkServer
) -> None:
    """Larger objects have their own files, and are restored by ranges that do not overlap."""
    refs = store.fill(LARGE.count, LARGE.size)
    spilled, restored = measure(contenders[0], refs, LARGE, server)
    assert spilled.stats.requests == {"PutObject": LARGE.count}
    assert set(restored.stats.requests) == {"GetObject"}
    assert restored.stats.bytes_sent == restored.needed


def test_rows_contain_the_requests_of_every_contender(
    contenders: list[Contender], store: ReusedStore, server: LinkServer
) -> None:
    """Each operation of each contender has a row with its requests and bytes."""
    rows = {
        (row.operation, row.contender): row
        for row in run_case(SMALL, contenders, store, rounds=2, server=server)
    }
    assert list(rows) == [(o, name) for o in ("spill", "restore") for name in S3_CONTENDERS]
    assert rows["spill", "fsspill"].requests == {"PutObject": 1}
    assert rows["restore", "fsspill"].requests == {"GetObject": SMALL.restored}
    assert rows["restore", "fsspill"].overread == 1.0
    assert rows["restore", RAY].overread > 1.0
    assert rows["restore", RAY].ratio == 1.0


def test_the_ratio_is_the_median_of_the_rounds_ratios() -> None:
    """It is not the ratio of the medians: a round that is slow for all does not count twice."""

    def samples(*seconds: float) -> list[Sample]:
        return [Sample(MIB, MIB, second, 0.0, Stats()) for second in seconds]

    row = Row.of(SMALL, "spill", "fsspill", samples(1, 8, 4), samples(5, 16, 4))
    assert row.ratio == 2.0
    assert row.mib_per_second == 0.25


def test_requests_of_setup_and_deletion() -> None:
    """Deletion of many files is one request; setup is four on the head and none elsewhere."""
    rows = {(row.action, row.contender): row.requests for row in count_requests(3)}
    assert rows["setup on the head", "fsspill"] == dict.fromkeys(
        ("PutObject", "GetObject", "ListObjectsV2", "DeleteObject"), 1
    )
    assert rows["setup in an IO worker", "fsspill"] == {}
    assert rows["deletion of 3 files", "fsspill"] == {"DeleteObjects": 1}
    assert rows["deletion of 3 files", RAY] == {}
