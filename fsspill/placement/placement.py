"""Which of the configured URIs a file goes to."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from random import randrange

from fsspill.errors import ConfigError, FsspillError, StorageFullError
from fsspill.placement.circuit_breaker import CircuitBreaker
from fsspill.placement.shared_state import SharedState
from fsspill.storage.layout import FileRef, SpillLocation
from fsspill.transfer.base import check_number

__all__ = ["Candidates", "Placement", "Policy"]

POLICIES = ("round_robin", "in_order")


@dataclass(frozen=True)
class Policy:
    """How files are spread over several URIs, and how much each may get.

    Attributes
    ----------
    policy : str
        ``round_robin``: to one after another. ``in_order``: to the first that takes them.
    min_free_bytes : int
        For local directories: bytes of their disk that are left free.
    max_bytes : int or None
        Bytes that this node may have at each URI, give or take what is written at the same time.
        Compressed files count as what they were before: an upper bound.
    """

    policy: str = "round_robin"
    min_free_bytes: int = 0
    max_bytes: int | None = None

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise ConfigError(
                f"cannot use policy={self.policy!r}: expected one of {', '.join(POLICIES)}."
            )
        check_number("min_free_bytes", self.min_free_bytes, (int,), at_least=0)
        if self.max_bytes is not None:
            check_number("max_bytes", self.max_bytes, (int,), at_least=1)


class Placement:
    """The configured URIs as one node uses them: healthy or not, full or not.

    Parameters
    ----------
    locations : sequence of SpillLocation
        The configured URIs.
    policy : Policy
        How files are spread.
    state : SharedState
        What the processes of the node share.
    probe : callable
        Raises if a location cannot be used.

    Notes
    -----
    Makes no request. Choosing costs one system call per URI, one more where there is a limit.
    """

    def __init__(
        self,
        locations: Sequence[SpillLocation],
        policy: Policy,
        state: SharedState,
        probe: Callable[[SpillLocation], None],
    ) -> None:
        self._locations = list(locations)
        self._policy = policy
        self._usage = _Usage(state, enabled=policy.max_bytes is not None)
        self._circuits = {
            location: CircuitBreaker(state, location.uri, partial(probe, location))
            for location in locations
        }
        self._next = randrange(len(locations)) if policy.policy == "round_robin" else 0

    def candidates(self) -> Candidates:
        """Look which URIs are healthy and how much room they have, for one batch."""
        failures = {location: self._circuits[location].failure() for location in self._locations}
        room = {
            location: self._room(location)
            for location, failure in failures.items()
            if failure is None
        }
        return Candidates(self, room, {place: error for place, error in failures.items() if error})

    def rotation(self) -> list[SpillLocation]:
        """Return the locations in the order in which the next file should try them."""
        start = self._next
        if self._policy.policy == "round_robin":
            self._next = (start + 1) % len(self._locations)
        return self._locations[start:] + self._locations[:start]

    def _room(self, location: SpillLocation) -> float:
        room = float("inf")
        if self._policy.max_bytes is not None:
            room = self._policy.max_bytes - self._usage.get(location)
        if self._policy.min_free_bytes:
            room = min(room, _free_bytes(location.root) - self._policy.min_free_bytes)
        return room

    def failure(self, location: SpillLocation) -> FsspillError | None:
        """Return why any process of this node has given a location up; None if none has."""
        return self._circuits[location].failure()

    def mark_unhealthy(self, location: SpillLocation, error: FsspillError) -> None:
        """Use the location no more until a probe succeeds."""
        self._circuits[location].open(error)

    def record_write(self, location: SpillLocation, nbytes: int) -> None:
        """Count a file that was stored."""
        self._usage.add(location, nbytes)

    def record_delete(self, file: FileRef) -> None:
        """Count a file that was deleted."""
        self._usage.add(file.location, -file.nbytes)

    def shut_down(self) -> None:
        """End the threads that probe."""
        for circuit in self._circuits.values():
            circuit.shut_down()


class Candidates:
    """Where the files of one batch may go."""

    def __init__(
        self,
        placement: Placement,
        room: dict[SpillLocation, float],
        failures: dict[SpillLocation, FsspillError],
    ) -> None:
        self._placement = placement
        self._room = room
        self._failures = failures

    @property
    def healthy(self) -> int:
        """How many locations may be used."""
        return len(self._room)

    def choose(self, nbytes: int) -> SpillLocation:
        """Return the location for a file.

        Raises
        ------
        FsspillError
            There is none: what is wrong with each.
        """
        for location in self._placement.rotation():
            if self._room.get(location, -1) >= nbytes:
                self._room[location] -= nbytes
                return location
        raise self._no_candidate_error(nbytes)

    def require(self) -> None:
        """Raise what is wrong unless a location may be used."""
        if not self._room:
            raise self._no_candidate_error(0)

    def is_open(self, location: SpillLocation) -> bool:
        """Whether another process of this node has found out that a location cannot be used."""
        return self._placement.failure(location) is not None

    def record_write(self, location: SpillLocation, nbytes: int) -> None:
        """Count a file that was stored."""
        self._placement.record_write(location, nbytes)

    def mark_unhealthy(self, location: SpillLocation, error: FsspillError) -> None:
        """Give a location up, for this batch and for all processes of the node."""
        self._room.pop(location, None)
        self._failures[location] = error
        self._placement.mark_unhealthy(location, error)

    def _no_candidate_error(self, nbytes: int) -> FsspillError:
        full = [
            f"{location.uri} has room for {max(room, 0):.0f} bytes within max_bytes and "
            "min_free_bytes."
            for location, room in self._room.items()
        ]
        reasons = " ".join(chain(map(str, self._failures.values()), full))
        if self._failures and not full:
            first = next(iter(self._failures.values()))
            failure = type(first)(reasons)
            failure.__cause__ = first
            return failure
        return StorageFullError(f"cannot spill a file of {nbytes} bytes: {reasons}")


class _Usage:
    """The bytes of this node at each location, counted by all of its processes together."""

    _KIND = "usage"

    def __init__(self, state: SharedState, *, enabled: bool) -> None:
        self._state = state
        self._enabled = enabled

    def get(self, location: SpillLocation) -> int:
        record = self._state.read(self._KIND, location.uri) or {"bytes": 0}
        return int(record["bytes"])

    def add(self, location: SpillLocation, nbytes: int) -> None:
        if self._enabled:
            with self._state.lock(self._KIND, location.uri, wait=True):
                used = max(0, self.get(location) + nbytes)
                self._state.write(self._KIND, location.uri, {"bytes": used})


def _free_bytes(directory: str) -> int:
    """Return the free bytes of the disk of a directory, which need not exist yet."""
    while not os.path.exists(directory):
        directory = os.path.dirname(directory)
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize
