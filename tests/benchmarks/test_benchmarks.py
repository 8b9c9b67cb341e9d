"""The benchmarks run, every byte comes back, and S3 gets the requests that are promised."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import fsspec
import pytest

from fsspill.transfer.base import MIB
from tests.benchmarks import __main__ as command
from tests.benchmarks import compression
from tests.benchmarks.chart import draw
from tests.benchmarks.link_server import LinkServer, Stats
from tests.benchmarks.measure import Case, Row, Sample, measure, run_case, verify
from tests.benchmarks.reused_store import ReusedStore, random_bytes
from tests.benchmarks.sides import BUCKET, ENGINES, RAY, Side, local_sides, s3_sides
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
    cpu=[LARGE],
    files=3,
    memory=[Case(1, 100 * MIB, 1)],
    ray=[Case(count=8, size=20 * MIB, restored=8)],
    object_store_memory=80 * MIB,
)
LIBRARIES = ["s3fs", "pyarrow.fs", "obstore"]
FSSPILL = [f"fsspill, engine={engine}" if engine != "auto" else "fsspill" for engine in ENGINES]
S3_SIDES = [*FSSPILL, RAY, *LIBRARIES]


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
def sides(server: LinkServer, store: ReusedStore) -> list[Side]:
    sides = s3_sides(server, store)
    server.reset()
    return sides


def run_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> list[str]:
    """Run the command, small and without a link, and return the lines that it prints."""
    monkeypatch.setattr(command, "QUICK", SMALL_SUITE)
    fixed = ["--quick", "--rounds", "1", "--latency", "0", "--bandwidth", "0"]
    command.main([*fixed, *arguments])
    return capsys.readouterr().out.splitlines()


def test_the_command_prints_a_row_per_operation_and_side_and_draws_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Local files go where they shall and are gone; the chart has a bar per row of S3's."""
    chart, directory = tmp_path / "chart.svg", tmp_path / "files"
    directory.mkdir()
    paths = ["--chart", str(chart), "--directory", str(directory)]
    lines = run_command(monkeypatch, capsys, "--only", "local", "s3", "cpu", "requests", *paths)
    local = [[operation, side] for operation in ("spill", "restore") for side in ("fsspill", RAY)]
    spills = [["spill", side] for side in S3_SIDES]
    assert [row[:2] for row in rows_of(lines, "40 x 100 KiB")] == [*local, *spills]
    assert [row[1] for row in rows_of(lines, "8 x 100 KiB")] == S3_SIDES
    assert [row[1] for row in rows_of(lines, "3 x 5 MiB")] == 2 * S3_SIDES
    assert [row[0] for row in rows_of(lines, "deletion of 3 files")] == S3_SIDES
    assert list(directory.iterdir()) == []
    bars = ElementTree.parse(chart).findall("{http://www.w3.org/2000/svg}rect")
    assert len(bars) == 2 * len(S3_SIDES)


def rows_of(lines: list[str], first: str) -> list[list[str]]:
    """Return the other cells of the rows whose first cell is `first`."""
    rows = [re.split(" {2,}", line) for line in lines]
    return [cells for begin, *cells in rows if begin == first]


def test_the_longest_bar_is_the_fastest_and_the_others_are_in_proportion() -> None:
    """A side of half the speed has a bar of half the length."""
    speeds = {"fsspill": 300.0, RAY: 150.0, "<s3fs>": 75.0}
    rows = [
        Row(SMALL, operation, side, speed, 1, 1, 1, Counter())
        for operation in ("spill", "restore")
        for side, speed in speeds.items()
    ]
    root = ElementTree.fromstring(draw(rows, "without a link"))
    widths = [int(bar.attrib["width"]) for bar in root.findall("{*}rect")]
    assert widths == 2 * [widths[0], widths[0] // 2, widths[0] // 4]
    texts = [text.text for text in root.findall("{*}text")]
    assert {"spill 40 x 100 KiB", "restore 8 x 100 KiB", "<s3fs>", "150"} <= set(texts)


def test_the_command_refuses_to_draw_what_it_does_not_measure(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        command.main(["--only", "local", "--chart", "chart.svg"])
    assert "--only leaves out" in capsys.readouterr().err


def test_the_command_measures_memory(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Less than the limit and 64 MiB, as promised."""
    lines = run_command(monkeypatch, capsys, "--only", "memory")
    limit, spilling, in_all = map(int, rows_of(lines, "1 x 100 MiB")[0])
    assert limit == 128
    assert 0 <= spilling <= in_all < limit + 64
    assert in_all > 0


@pytest.mark.ray
def test_the_command_runs_a_ray_program_on_both_sides(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both spill what the object store does not hold, and restore it."""
    lines = run_command(monkeypatch, capsys, "--only", "ray")
    rows = rows_of(lines, "8 x 20 MiB")
    assert [row[0] for row in rows] == ["fsspill", RAY]
    for row in rows:
        spilled, restored = map(int, row[5:7])
        assert spilled > 0
        assert restored > 0
        assert "GetObject" in row[7]


def test_compression_prints_a_row_per_codec(capsys: pytest.CaptureFixture[str]) -> None:
    """Bytes at rest, in percent, are those that the server has received."""
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
def test_all_sides_bring_every_byte_back_from_s3(
    sides: list[Side], store: ReusedStore, case: Case
) -> None:
    assert [side.name for side in sides] == S3_SIDES
    for side in sides:
        assert verify(case, side, store) == case.nbytes


def test_the_libraries_leave_no_file(
    sides: list[Side], store: ReusedStore, server: LinkServer
) -> None:
    """What they deleted is not listed any more."""
    for side in sides:
        if side.name in LIBRARIES:
            verify(SMALL, side, store)
    assert fsspec.filesystem("s3", endpoint_url=server.endpoint_url).find(BUCKET) == []


def test_both_sides_bring_every_byte_back_from_a_directory(
    store: ReusedStore, tmp_path: Path
) -> None:
    for side in local_sides(str(tmp_path), store):
        assert verify(LOCAL, side, store) == LOCAL.nbytes


def test_bytes_that_came_back_wrong_are_noticed(sides: list[Side], store: ReusedStore) -> None:
    refs = store.fill(SMALL.count, SMALL.size)
    urls = sides[0].spill(refs)
    sides[0].restore(refs[0], urls[1])
    with pytest.raises(ValueError, match="came back with other bytes"):
        store.verify(refs[0])
    sides[0].restore(refs[0], urls[0])
    store.verify(refs[0])
    with pytest.raises(ValueError, match="came back with other bytes"):
        store.verify(refs[0])  # nothing was restored in between


def test_a_fused_file_is_one_put_and_a_small_object_is_one_get(
    sides: list[Side], store: ReusedStore, server: LinkServer
) -> None:
    refs = store.fill(SMALL.count, SMALL.size)
    spilled, restored = measure(sides[0], refs, SMALL, server)
    assert spilled.stats.requests == {"PutObject": 1}
    assert restored.stats.requests == {"GetObject": SMALL.restored}
    assert spilled.stats.bytes_received == SMALL.count * restored.needed / SMALL.restored
    assert restored.stats.bytes_sent == restored.needed


def test_larger_objects_get_a_put_each_and_no_byte_is_read_twice(
    sides: list[Side], store: ReusedStore, server: LinkServer
) -> None:
    refs = store.fill(LARGE.count, LARGE.size)
    spilled, restored = measure(sides[0], refs, LARGE, server)
    assert spilled.stats.requests == {"PutObject": LARGE.count}
    assert set(restored.stats.requests) == {"GetObject"}
    assert restored.stats.bytes_sent == restored.needed


def test_rows_count_for_every_side(
    sides: list[Side], store: ReusedStore, server: LinkServer
) -> None:
    rows = {
        (row.operation, row.side): row
        for row in run_case(SMALL, sides, store, rounds=2, server=server)
    }
    assert list(rows) == [(o, side) for o in ("spill", "restore") for side in S3_SIDES]
    assert rows["spill", "fsspill"].requests == {"PutObject": 1}
    assert rows["restore", "fsspill"].requests == {"GetObject": SMALL.restored}
    assert rows["restore", "fsspill"].overread == 1.0
    assert rows["restore", RAY].overread > 1.0
    assert rows["restore", RAY].ratio == 1.0


def test_the_ratio_is_the_median_of_the_rounds_ratios() -> None:
    """Not the ratio of the medians: a round that was slow for all does not count twice."""

    def samples(*seconds: float) -> list[Sample]:
        return [Sample(MIB, MIB, second, 0.0, Stats()) for second in seconds]

    row = Row.of(SMALL, "spill", "fsspill", samples(1, 8, 4), samples(5, 16, 4))
    assert row.ratio == 2.0
    assert row.mib_per_second == 0.25


def test_deleting_and_setting_up_take_these_requests() -> None:
    """Deletion is one request for many files, setup three on the head and none elsewhere."""
    rows = {(row.what, row.side): row.requests for row in count_requests(3)}
    assert rows["setup on the head", "fsspill"] == dict.fromkeys(
        ("PutObject", "GetObject", "DeleteObject"), 1
    )
    assert rows["setup in an IO worker", "fsspill"] == {}
    assert rows["deletion of 3 files", "fsspill"] == {"DeleteObjects": 1}
    assert rows["deletion of 3 files", RAY] == {}
