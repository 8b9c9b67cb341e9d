"""Rounds on all contenders alternately."""

from __future__ import annotations

from pathlib import Path

import pytest

from fsspill.bench.contenders import FSSPILL, Contender, open_fsspill
from fsspill.bench.measure import MAX_ROUNDS, Batch, measure
from fsspill.bench.reused_store import ReusedStore, random_bytes
from fsspill.settings import MIB, Settings

BATCH = Batch(3, MIB)


@pytest.fixture
def bench_store() -> ReusedStore:
    return ReusedStore(random_bytes(BATCH.nbytes))


@pytest.fixture
def contender(tmp_path: Path, bench_store: ReusedStore) -> Contender:
    return open_fsspill(Settings(f"file://{tmp_path}"), bench_store, ("session", "node"))


@pytest.mark.parametrize(("seconds", "rounds"), [(0, 1), (10_000, MAX_ROUNDS)])
def test_rounds_end_with_the_time(
    seconds: float, rounds: int, contender: Contender, bench_store: ReusedStore, tmp_path: Path
) -> None:
    """One is made at least; no file is left."""
    called: list[int] = []
    found = measure(BATCH, [contender, contender], bench_store, seconds, lambda: called.append(1))
    assert [len(each.seconds) for each in found] == [rounds, rounds]
    assert len(called) == 2 * rounds
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_samples_have_time_and_cpu_time(contender: Contender, bench_store: ReusedStore) -> None:
    """Of each operation; a directory gets no requests."""
    [found] = measure(BATCH, [contender], bench_store, 0)
    assert found.contender.name == FSSPILL
    for samples in (found.spills, found.restores):
        assert found.speed(samples) > 0
        assert found.cpu_seconds_per_gib(samples) > 0
        assert (samples[0].writes, samples[0].reads) == (0, 0)
    assert found.seconds == [found.spills[0].seconds + found.restores[0].seconds]


def test_altered_objects_are_found(
    contender: Contender, bench_store: ReusedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The speed of wrong bytes is of no interest."""

    def restore(ref: bytes, url: bytes) -> None:
        """Restore nothing."""

    monkeypatch.setattr(Contender, "restore", lambda self, ref, url: restore(ref, url))
    with pytest.raises(ValueError, match="with other bytes"):
        measure(BATCH, [contender], bench_store, 0)


def test_batches_are_shown_by_count_and_size() -> None:
    """In the unit that fits."""
    assert [str(Batch(2, 20 * MIB)), str(Batch(5, 512 * 2**10))] == ["2 x 20 MiB", "5 x 512 KiB"]
