"""Values to set, and the measurements that speak for them."""

from __future__ import annotations

import mmap
import re
from pathlib import Path

import pytest

from fsspill.deployment.choices import (
    LARGEST_SMALL_OBJECT,
    LEFT_ALONE,
    LONG_WAITS,
    Choice,
    choose_parameters,
    choose_ray_settings,
)
from fsspill.settings import MIB, Settings

SCALE = Path(__file__).parents[2] / "docs" / "scale.md"
BUCKET = Settings("s3://bucket/x")
LOCAL = Settings("file:///x")


def every_choice() -> list[Choice]:
    found = [LONG_WAITS]
    for size in (MIB, None):
        found += [*choose_ray_settings(BUCKET, size), *choose_parameters(BUCKET, size)]
    return found


def test_small_objects_get_more_workers() -> None:
    """Their restores wait for round trips; the default is for objects of any size."""
    for size, workers in ((MIB, 8), (LARGEST_SMALL_OBJECT, 8), (20 * MIB, 4), (None, 4)):
        assert [each[:2] for each in choose_ray_settings(BUCKET, size)] == [
            ("max_io_workers", workers)
        ]


def test_local_directories_get_no_settings() -> None:
    """All of it was measured with a bucket."""
    assert choose_ray_settings(LOCAL, MIB) == []
    assert choose_parameters(LOCAL, MIB) == []


def test_parameters_that_are_given_are_set() -> None:
    """And those that cost something are only shown."""
    settings = Settings.of(BUCKET, cache_dir="/x", cache_max_bytes=10**9)
    chosen = {each.name: each for each in choose_parameters(settings, None)}
    assert (chosen["cache_dir"].value, chosen["cache_max_bytes"].value) == ("/x", 10**9)
    assert {name for name, each in chosen.items() if each.optional} == {"range_size"}
    for each in every_choice():
        if each.name in ("file_size", "range_size"):
            Settings.of(BUCKET, **{each.name: each.value})


@pytest.mark.parametrize("text", [LEFT_ALONE, *(each.reason for each in every_choice())])
def test_every_number_was_measured(text: str) -> None:
    """It stands in docs/scale.md."""
    page = SCALE.read_text()
    found = re.findall(r"\d+\.\d+", text)
    assert found
    for number in found:
        assert re.search(rf"(?<![\d.]){re.escape(number)}(?![\d.])", page), number


def test_ray_knows_every_setting() -> None:
    """The one that is installed: its raylet reads a variable of that name."""
    ray = pytest.importorskip("ray")
    raylet = Path(ray.__file__).parent / "core" / "src" / "ray" / "raylet" / "raylet"
    names = {each.name for each in (*choose_ray_settings(BUCKET, None), LONG_WAITS)}
    with raylet.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as code:
        assert {name for name in names if code.find(f"RAY_{name}\0".encode()) < 0} == set()
        assert code.find(b"RAY_max_io_worker\0") < 0
