"""The alarm that aborts a driver of Ray after SIGTERM, in processes of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ray.test_hook import python

POSTPONE = "postpone_abort()"
SET = """
import signal
from fsspill.ray.abort_alarm import postpone_abort  # before the timer: it may take long
signal.signal(signal.SIGALRM, print)
signal.setitimer(signal.ITIMER_REAL, {})
"""
DUE = "print(signal.getitimer(signal.ITIMER_REAL))"


def due_after(statement: str, timer: str) -> tuple[float, float]:
    """Return when an alarm is due after a statement, and its interval."""
    printed = python("-c", f"{SET.format(timer)}\n{statement}\n{DUE}")
    seconds, interval = printed.splitlines()[-1].strip("()").split(", ")
    return float(seconds), float(interval)


def test_an_alarm_that_is_due_soon_is_put_off() -> None:
    """The deletion of the files has its time, and a hang still ends."""
    seconds, _ = due_after(POSTPONE, "3")
    assert 60 < seconds <= 93


@pytest.mark.parametrize(("timer", "interval"), [("0", 0.0), ("50", 0.0), ("3, 200", 200.0)])
def test_other_alarms_are_left_alone(timer: str, interval: float) -> None:
    """No alarm, one that is due later, and one that repeats are the program's own."""
    seconds, found = due_after(POSTPONE, timer)
    assert seconds <= float(timer.split(",")[0])
    assert found == interval


def test_storage_that_is_destroyed_puts_it_off(tmp_path: Path) -> None:
    """So a driver that shuts Ray down before it exits is not aborted either."""
    pytest.importorskip("ray")
    destroy = (
        "from fsspill.ray.setup import setup_external_storage as set_up\n"
        f"params = {{'uri': 'file://{tmp_path}'}}\n"
        "storage = set_up({'type': 'fsspec', 'params': params}, 'node', 'session')\n"
        "signal.setitimer(signal.ITIMER_REAL, 3)\n"
        "storage.destroy_external_storage()"
    )
    seconds, _ = due_after(destroy, "100")
    assert 60 < seconds <= 93
