"""The alarm that aborts a driver of Ray 3 seconds after SIGTERM, put off until it has cleaned up.

Ray's core worker installs abseil's handler of fatal signals, which takes SIGTERM for one of them.
It sets an alarm that aborts the process in case that the handler itself hangs
(``FailureSignalHandlerOptions.alarm_on_failure_secs``), then calls the handler of Python, and never
cancels the alarm. So a driver ends by SIGABRT if its exit takes longer than that.
"""

from __future__ import annotations

import signal

__all__ = ["postpone_abort"]

_ALARM = 3.0
"""Seconds after which abseil's alarm is due."""

_POSTPONED = 90.0
"""Seconds by which it is put off: more than the time limits of the deletion of a node's files."""


def postpone_abort() -> None:
    """Put off an alarm of this process that is due within 3 seconds.

    Notes
    -----
    For processes that are about to exit or to shut Ray down. Python cannot tell abseil's alarm from
    one that the program has set for itself, which therefore is not cancelled, but late.
    """
    remaining, interval = signal.getitimer(signal.ITIMER_REAL)
    if 0 < remaining <= _ALARM and not interval:
        signal.setitimer(signal.ITIMER_REAL, remaining + _POSTPONED)
