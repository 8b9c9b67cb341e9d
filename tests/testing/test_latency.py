"""`LatencyFileSystem` adds latency and limits bandwidth."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import fsspec
import pytest

from fsspill import ConfigError
from tests.testing.wrappers import MEMORY, WrapperContract


class TestContractThroughSlow(WrapperContract):
    options: Mapping[str, Any] = {"latency": 0.001, "bandwidth": 1e9}

    @pytest.fixture
    def uri(self) -> str:
        return f"slow://{uuid.uuid4().hex}"


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the list of seconds that operations would have slept."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr("fsspill.testing.filesystems.latency.sleep", sleep)
    return slept


def test_every_operation_is_delayed(slept: list[float]) -> None:
    """The latency delays the request; the bandwidth delays sent and received bytes."""
    fs = fsspec.filesystem("slow", **MEMORY, latency=5, bandwidth=100)
    fs.pipe_file("a", bytes(1000))
    fs.cat_file("a", start=0, end=300)
    fs.cat_ranges(["a", "a"], [0, 0], [100, 200])
    fs.info("a")
    assert slept == [15, 0, 5, 3, 5, 3, 5, 0]


def test_blocks_of_a_file_are_delayed(slept: list[float]) -> None:
    """Opening and closing take the latency, a block also the time of its bytes."""
    fs = fsspec.filesystem("slow", **MEMORY, latency=5, bandwidth=100)
    with fs.open("a", "wb", block_size=1000) as file:
        file.write(bytes(1000))
    assert slept == [5, 0, 15, 0, 5, 0]


@pytest.mark.parametrize("options", [{"latency": -1}, {"bandwidth": 0}])
def test_invalid_latency_and_bandwidth_are_refused(options: dict[str, float]) -> None:
    """A negative latency or a bandwidth of zero raises ConfigError."""
    with pytest.raises(ConfigError, match=r"expected a latency .* found"):
        fsspec.filesystem("slow", **MEMORY, **options)
