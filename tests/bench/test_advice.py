"""Suggestions that follow from measurements."""

from __future__ import annotations

import pytest

from fsspill.bench.advice import advise
from fsspill.bench.contenders import FSSPILL, RAY, Variant
from fsspill.settings import MIB
from tests.bench.samples import measured

RANGES = Variant("range_size", 8 * MIB)
DEFAULT = measured(FSSPILL, [1.0, 1.1, 0.9])
RAYS = measured(RAY, [9.0, 9.0, 9.0])


def test_a_parameter_that_is_faster_in_every_round_is_suggested() -> None:
    """With its value as it is set, and the time."""
    changed = measured("range_size", [0.5, 0.5, 0.5], variant=RANGES)
    assert advise([DEFAULT, changed, RAYS]) == [
        "range_size=8388608: objects of 20 MiB took 50% of the time."
    ]


@pytest.mark.parametrize(
    "seconds", [[1.0, 1.1, 0.9], [0.5, 0.5, 0.85], [2.0, 2.0, 2.0], [0.95, 1.04, 0.86]]
)
def test_a_difference_that_may_be_noise_is_none(seconds: list[float]) -> None:
    """As fast, slower, or faster in most rounds alone."""
    changed = measured("range_size", seconds, variant=RANGES)
    [sentence] = advise([DEFAULT, changed, RAYS])
    assert sentence.startswith("Nothing: no parameter made a difference")


def test_fewer_requests_are_a_reason_where_they_cost_no_time() -> None:
    """But not where they do."""
    fewer = measured("range_size", [1.0, 1.1, 0.9], requests=2, variant=RANGES)
    assert advise([DEFAULT, fewer]) == [
        "range_size=8388608: objects of 20 MiB took 8 instead of 40 requests, and no more time."
    ]
    slower = measured("range_size", [1.2, 1.3, 1.1], requests=2, variant=RANGES)
    assert advise([DEFAULT, slower])[0].startswith("Nothing")


def test_too_few_rounds_tell_nothing() -> None:
    """However large the difference."""
    changed = measured("range_size", [0.1, 0.1], variant=RANGES)
    [sentence] = advise([measured(FSSPILL, [1.0, 1.0]), changed])
    assert sentence == "Nothing: fewer than 3 rounds fitted into the time, too few to tell."


def test_without_parameters_there_is_nothing_to_set() -> None:
    """As for a directory."""
    assert advise([DEFAULT, RAYS]) == ["Nothing: no parameter was compared."]
