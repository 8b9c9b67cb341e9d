"""``ray.wait`` for more objects than the object store holds, from storage that answers slowly."""

from __future__ import annotations

import pytest

from tests.benchmarks.wait import COUNT, INTERVAL, Wait
from tests.timeouts import PATIENT

pytestmark = [pytest.mark.ray, pytest.mark.nightly]
pytest.importorskip("ray")

LATENCY = 0.2
"""Seconds for each request: on no machine do four workers restore in one second the 44 objects
that do not fit."""


def test_wait_restores_the_same_objects_in_every_interval() -> None:
    """Ray starts a wait again every second, and counts from zero what becomes local."""
    took = Wait("defaults").run(LATENCY, PATIENT)
    assert took.ready < COUNT
    assert took.restored > COUNT


def test_wait_restores_each_object_once_in_a_long_interval() -> None:
    """With an interval that is longer than the wait, no object is restored twice."""
    interval = {INTERVAL: str(int(1000 * PATIENT))}
    took = Wait("long", environment=interval).run(LATENCY, PATIENT)
    assert took.ready == COUNT
    assert took.restored <= COUNT


def test_wait_without_fetching_restores_nothing() -> None:
    """With fetch_local=False, spilled objects are ready as they are."""
    took = Wait("unfetched", fetch_local=False).run(LATENCY, PATIENT)
    assert took.ready == COUNT
    assert took.restored == 0
