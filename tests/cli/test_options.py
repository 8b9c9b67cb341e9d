"""Arguments and options that several commands have."""

from __future__ import annotations

import click
import pytest

from fsspill.cli.options import _duration


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("15m", 900), ("24h", 86400), ("7d", 604800)]
)
def test_a_time_has_a_unit(text: str, seconds: int) -> None:
    """It becomes seconds."""
    assert _duration(text) == seconds


@pytest.mark.parametrize("text", ["5", "-5h", "1w", "", "1.5h", "5 m"])
def test_another_time_is_refused(text: str) -> None:
    """The message shows how one looks."""
    with pytest.raises(click.BadParameter, match="as in 30s, 15m, 24h, 7d"):
        _duration(text)
