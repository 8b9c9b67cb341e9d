"""Suggestions that follow from measurements; none where they show no difference."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from fsspill.bench.contenders import FSSPILL
from fsspill.bench.measure import Measurements, shown_size

__all__ = ["advise"]

_FASTER = 1.1
"""Ratio of times, in every round, from which one is faster."""

_AS_FAST = 0.95
"""Ratio of times from which one is not slower."""

_FEWER = 0.6
"""Part of the requests below which they are fewer."""

_ROUNDS = 3
"""Rounds below which a difference may be noise."""


def advise(measured: Sequence[Measurements]) -> list[str]:
    """Return a sentence for each parameter to set, or one that there is nothing to set.

    Parameters
    ----------
    measured : sequence of Measurements
        Those of fsspill, with its defaults and with one parameter changed.
    """
    defaults = {each.batch: each for each in measured if each.contender.name == FSSPILL}
    changed = [each for each in measured if each.contender.variant]
    if not changed:
        return ["Nothing: no parameter was compared."]
    enough = [each for each in changed if len(each.seconds) >= _ROUNDS]
    if not enough:
        return [f"Nothing: fewer than {_ROUNDS} rounds fitted into the time, too few to tell."]
    found = [_compare(each, defaults[each.batch]) for each in enough]
    return [sentence for sentence in found if sentence] or [
        "Nothing: no parameter made a difference of 10 % in every round."
    ]


def _compare(changed: Measurements, default: Measurements) -> str:
    """Return a suggestion; empty if there is no reason for one."""
    variant = changed.contender.variant
    assert variant is not None
    ratios = [ours / theirs for ours, theirs in zip(default.seconds, changed.seconds, strict=True)]
    setting = f"{variant.name}={variant.value}"
    objects = f"objects of {shown_size(changed.batch.size)}"
    if min(ratios) >= _FASTER:
        return f"{setting}: {objects} took {1 / median(ratios):.0%} of the time."
    before, after = _requests(default), _requests(changed)
    if median(ratios) >= _AS_FAST and after < before * _FEWER:
        return f"{setting}: {objects} took {after} instead of {before} requests, and no more time."
    return ""


def _requests(measurements: Measurements) -> int:
    """Return the median number of requests of a round."""
    pairs = zip(measurements.spills, measurements.restores, strict=True)
    return round(
        median(
            spill.writes + spill.reads + restore.writes + restore.reads for spill, restore in pairs
        )
    )
