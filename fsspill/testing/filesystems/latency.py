"""A filesystem that adds latency to another one and limits its bandwidth."""

from __future__ import annotations

from asyncio import sleep
from collections.abc import Mapping
from math import inf
from typing import Any

from fsspill.errors import ConfigError
from fsspill.testing.filesystems.forwarding import ForwardingFileSystem, Request

__all__ = ["LatencyFileSystem"]


class LatencyFileSystem(ForwardingFileSystem):
    """A filesystem that delays the operations of another one.

    Parameters
    ----------
    target_protocol, target_options
        As for `CountingFileSystem`.
    latency : float
        Seconds before each operation; concurrent operations wait concurrently.
    bandwidth : float
        Bytes per second of each operation, read or written.

    Raises
    ------
    ConfigError
        As for `CountingFileSystem`; a negative latency; a bandwidth that is not positive.
    """

    protocol = "slow"

    def __init__(
        self,
        target_protocol: str | None = None,
        target_options: Mapping[str, Any] | None = None,
        latency: float = 0.0,
        bandwidth: float = inf,
    ) -> None:
        super().__init__(target_protocol, target_options)
        if latency < 0 or bandwidth <= 0:
            raise ConfigError(
                "cannot slow a filesystem down: expected a latency of 0 s or more and a bandwidth "
                f"above 0 bytes/s, found {latency} s and {bandwidth} bytes/s."
            )
        self.latency = latency
        self.bandwidth = bandwidth

    async def _before(self, request: Request) -> None:
        await sleep(self.latency + request.sent / self.bandwidth)

    async def _after(self, request: Request) -> None:
        await sleep(request.received / self.bandwidth)
