"""The benchmarks run, every byte comes back, and S3 gets the requests that are promised."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fsspill.transfer import MIB
from tests.benchmarks import __main__ as command
from tests.benchmarks.link_server import LinkServer
from tests.benchmarks.measure import Case, measure, run_case, verify
from tests.benchmarks.reused_store import ReusedStore, random_bytes
from tests.benchmarks.sides import Side, local_sides, s3_sides
from tests.benchmarks.suite import Suite

pytest.importorskip("ray")
pytest.importorskip("s3fs")
pytest.importorskip("smart_open.s3")

LARGE = Case("s3", count=3, size=5 * MIB, restored=3)
SMALL = Case("s3", count=40, size=100 * 2**10, restored=8)
LOCAL = Case("local", count=40, size=100 * 2**10, restored=40)


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
def sides(server: LinkServer, store: ReusedStore) -> tuple[Side, Side]:
    sides = s3_sides(server, store)
    server.reset()
    return sides


def test_the_command_prints_two_rows_per_case(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(command, "QUICK", Suite(local=[LOCAL], s3=[SMALL]))
    arguments = ["--quick", "--rounds", "1", "--no-latency", "--directory", str(tmp_path)]
    command.main(arguments)
    *_, local_spill, local_restore, s3_spill, s3_restore = capsys.readouterr().out.splitlines()
    assert local_spill.startswith("local  40 x 100 KiB  spill")
    assert local_restore.startswith("local  40 x 100 KiB  restore")
    assert s3_spill.startswith("s3     40 x 100 KiB  spill")
    assert s3_restore.startswith("s3     8 x 100 KiB   restore")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("case", [LARGE, SMALL], ids=["large", "small"])
def test_both_sides_bring_every_byte_back_from_s3(
    sides: tuple[Side, Side], store: ReusedStore, case: Case
) -> None:
    for side in sides:
        assert verify(case, side, store) == case.nbytes


def test_both_sides_bring_every_byte_back_from_a_directory(
    store: ReusedStore, tmp_path: Path
) -> None:
    for side in local_sides(str(tmp_path), store):
        assert verify(LOCAL, side, store) == LOCAL.nbytes


def test_bytes_that_came_back_wrong_are_noticed(
    sides: tuple[Side, Side], store: ReusedStore
) -> None:
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
    sides: tuple[Side, Side], store: ReusedStore, server: LinkServer
) -> None:
    refs = store.fill(SMALL.count, SMALL.size)
    spilled, restored = measure(sides[0], refs, SMALL, server)
    assert spilled.stats.requests == {"PutObject": 1}
    assert restored.stats.requests == {"GetObject": SMALL.restored}
    assert spilled.stats.bytes_received == SMALL.count * restored.needed / SMALL.restored
    assert restored.stats.bytes_sent == restored.needed


def test_larger_objects_get_a_put_each_and_no_byte_is_read_twice(
    sides: tuple[Side, Side], store: ReusedStore, server: LinkServer
) -> None:
    refs = store.fill(LARGE.count, LARGE.size)
    spilled, restored = measure(sides[0], refs, LARGE, server)
    assert spilled.stats.requests == {"PutObject": LARGE.count}
    assert set(restored.stats.requests) == {"GetObject"}
    assert restored.stats.bytes_sent == restored.needed


def test_a_row_counts_for_both_sides(
    sides: tuple[Side, Side], store: ReusedStore, server: LinkServer
) -> None:
    spill, restore = run_case(SMALL, sides, store, rounds=2, server=server)
    assert (spill.operation, restore.operation) == ("spill", "restore")
    assert [side.side for side in restore.sides] == ["fsspill", "Ray smart_open"]
    assert (spill.sides[0].requests, restore.sides[0].requests) == (1, SMALL.restored)
    assert restore.sides[0].overread == 1.0
    assert restore.sides[1].overread > 1.0
