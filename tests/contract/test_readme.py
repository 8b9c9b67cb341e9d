"""The table of parameters in the README."""

from __future__ import annotations

import re
from pathlib import Path

from fsspill.config import _FOR_RAY, _OWN_PARAMETERS
from fsspill.format.planning import LARGEST_RANGE, SMALLEST_RANGE
from fsspill.placement.placement import Policy
from fsspill.ray.head import RayOptions
from fsspill.transfer.base import MIB, Limits

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_every_parameter_is_in_the_table() -> None:
    """The table of parameters is complete, and its defaults are those of the code."""
    table = re.findall(r"^\| `(\w+)` \|([^|]*)\|", README, re.MULTILINE)
    rows = {name: default.strip() for name, default in table}
    assert tuple(rows) == (*_OWN_PARAMETERS, *_FOR_RAY)
    assert rows["stall_timeout"] == f"{Limits.stall_timeout:.0f}"
    assert rows["policy"] == f"`{Policy.policy}`"
    assert rows["min_free_bytes"] == str(Policy.min_free_bytes)
    assert rows["lost_after"] == f"{RayOptions.lost_after:.0f}"
    assert rows["file_size"] == f"{Limits.file_size // MIB} MiB"
    assert rows["range_size"] == f"{SMALLEST_RANGE // MIB} to {LARGEST_RANGE // MIB} MiB"
    assert rows["max_requests_in_flight"] == str(Limits.max_requests_in_flight)
    assert rows["max_bytes_in_flight"] == f"{Limits.max_bytes_in_flight // MIB} MiB"
