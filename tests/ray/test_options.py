"""Parameters that have a meaning under Ray only."""

from __future__ import annotations

from typing import Any

import pytest

from fsspill import ConfigError
from fsspill.ray.options import RayOptions


def test_options_are_read_from_a_configuration() -> None:
    """Those that it does not set have their defaults."""
    config: dict[str, Any] = {"type": "fsspec", "params": {"uri": "s3://b", "lost_after": 5}}
    assert RayOptions.of(config) == RayOptions(lost_after=5, allow_secrets=False)


@pytest.mark.parametrize(
    "options", [{"lost_after": -1}, {"lost_after": "1"}, {"allow_secrets": "yes"}]
)
def test_a_wrong_option_is_named(options: dict[str, Any]) -> None:
    """The message names the parameter, and what is expected."""
    [name] = options
    with pytest.raises(ConfigError, match=rf"{name}.*expected"):
        RayOptions(**options)
