"""Choice of the URI that gets a file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain
from math import inf
from random import SystemRandom

from fsspill.errors import FsspillError, StorageFullError, StorageRefusedError, translate
from fsspill.placement.circuit_breaker import CircuitBreaker
from fsspill.placement.shared_state import SharedState
from fsspill.placement.usage import Usage
from fsspill.settings import Settings
from fsspill.storage.layout import FileRef, SpillLocation
from fsspill.storage.mount import Mount

__all__ = ["Candidates", "Placement"]

randrange = SystemRandom().randrange
"""Not of the program's own random numbers."""

_NODE_PROBE = "node"
"""Name of the file of the probes of which only one is made on a node at a time."""


class Placement:
    """The configured URIs as one node uses them: healthy or not, full or not.

    Parameters
    ----------
    locations : sequence of SpillLocation
        The configured URIs.
    settings : Settings
        The policy and the limits of each URI.
    state : SharedState
        State that the processes of the node share.
    probe : callable
        Raises if the node's directory under a location cannot be written, read and deleted, by
        means of a file of this name.

    Attributes
    ----------
    usage : Usage
        Bytes that the node has at each location.

    Notes
    -----
    Makes no request but those of probes. Choosing costs one system call per URI, one more where
    there is a limit.
    """

    def __init__(
        self,
        locations: Sequence[SpillLocation],
        settings: Settings,
        state: SharedState,
        probe: Callable[[SpillLocation, str], None],
    ) -> None:
        self._locations = list(locations)
        self._settings = settings
        self._probe = probe
        self.usage = Usage(state, enabled=settings.max_bytes is not None)
        self._circuit_breakers = {
            location: CircuitBreaker(state, location.uri, partial(probe, location, _NODE_PROBE))
            for location in locations
        }
        # A random start: the processes of a node do not all begin with the same URI.
        self._next = randrange(len(locations)) if settings.policy == "round_robin" else 0

    def candidates(self) -> Candidates:
        """Return the healthy locations and their free space, for one batch."""
        room: dict[SpillLocation, float] = {}
        failures: dict[SpillLocation, FsspillError] = {}
        for location in self._locations:
            if failure := self.failure(location):
                failures[location] = failure
                continue
            try:
                room[location] = self._room(location)
            except OSError as error:
                failures[location] = translate(error, "cannot spill to", location.uri)
                self.mark_unhealthy(location, failures[location])
        return Candidates(self, room, failures)

    def rotation(self) -> list[SpillLocation]:
        """Return the locations in the order in which the next file should try them."""
        start = self._next
        if self._settings.policy == "round_robin":
            self._next = (start + 1) % len(self._locations)
        return self._locations[start:] + self._locations[:start]

    def _room(self, location: SpillLocation) -> float:
        room = self.max_bytes - self.usage.get(location) if self.max_bytes < inf else inf
        if self._settings.min_free_bytes:
            # The locations share the time that a spill may wait.
            seconds = self._settings.stall_timeout / len(self._locations)
            mount = Mount(location.root, seconds)
            free = mount.call(_free_bytes, location.root)
            room = min(room, free - self._settings.min_free_bytes)
        return room

    @property
    def max_bytes(self) -> float:
        """Bytes that a location may have."""
        return inf if self._settings.max_bytes is None else self._settings.max_bytes

    def probe(self, location: SpillLocation) -> bool:
        """Return True if a location can be written, read and deleted now."""
        try:
            self._probe(location, str(os.getpid()))
        except Exception:
            return False
        return True

    def failure(self, location: SpillLocation) -> FsspillError | None:
        """Return the error that marked a location unhealthy on this node, or None."""
        return self._circuit_breakers[location].failure()

    def mark_unhealthy(self, location: SpillLocation, error: FsspillError) -> None:
        """Stop writing to a location until a probe succeeds, in all processes of the node."""
        self._circuit_breakers[location].open(error)

    def shut_down(self) -> None:
        """Stop the threads that probe."""
        for circuit_breaker in self._circuit_breakers.values():
            circuit_breaker.shut_down()


class Candidates:
    """The locations that may get the files of one batch.

    Parameters
    ----------
    placement : Placement
        The locations as the node uses them.
    room : dict
        Free bytes of each healthy location.
    failures : dict
        Errors that have marked the others unhealthy.
    """

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
        """Number of healthy locations."""
        return len(self._room)

    def choose(self, nbytes: int, refusals: Mapping[SpillLocation, FsspillError]) -> SpillLocation:
        """Return the location for a file, and reserve its bytes there.

        Parameters
        ----------
        nbytes : int
            Length of the file.
        refusals : mapping
            The locations that have refused it, and why.

        Raises
        ------
        StorageRefusedError
            No location takes it because of the file itself.
        FsspillError
            No location has room for it; the message has the state of each.
        """
        for location in self._placement.rotation():
            if location not in refusals and self._room.get(location, -1) >= nbytes:
                self._room[location] -= nbytes
                return location
        if error := self.refusal(nbytes, refusals):
            raise error
        raise self._no_candidate_error(nbytes)

    def refusal(
        self, nbytes: int, refusals: Mapping[SpillLocation, FsspillError]
    ) -> StorageRefusedError | None:
        """Return why a file goes nowhere if it is at fault itself; else None.

        Not while a location that has room for it was not asked.
        """
        limit = self._placement.max_bytes
        if nbytes > limit:
            return StorageRefusedError(
                f"cannot spill a file of {nbytes} bytes: max_bytes is {limit:.0f}. Raise it, "
                "or make smaller objects."
            )
        asked = all(place in refusals for place, room in self._room.items() if room >= nbytes)
        if not refusals or not asked:
            return None
        reasons = " ".join(map(str, refusals.values()))
        error = StorageRefusedError(f"cannot spill a file of {nbytes} bytes: {reasons}")
        error.__cause__ = next(iter(refusals.values()))
        return error

    def require(self) -> None:
        """Raise FsspillError unless a location is healthy."""
        if not self._room:
            raise self._no_candidate_error(0)

    def is_open(self, location: SpillLocation) -> bool:
        """Return True if a process of this node has opened the circuit of a location."""
        return self._placement.failure(location) is not None

    def record_write(self, files: Iterable[FileRef]) -> None:
        """Count files that are stored, or may be, in the usage of their locations."""
        self._placement.usage.add(files)

    def record_delete(self, files: Iterable[FileRef]) -> None:
        """Count files that are deleted no more."""
        self._placement.usage.remove(files)

    def probe(self, location: SpillLocation) -> bool:
        """Return True if a location can be written, read and deleted now; three requests."""
        return self._placement.probe(location)

    def mark_unhealthy(self, location: SpillLocation, error: FsspillError) -> None:
        """Exclude a location, for this batch and for all processes of the node."""
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
        return StorageFullError(
            f"cannot spill a file of {nbytes} bytes: {reasons} Raise max_bytes, free the disk, or "
            "name one more URI."
        )


def _free_bytes(directory: str) -> int:
    """Return the free bytes of the disk of a directory, which need not exist."""
    while not os.path.exists(directory):
        directory = os.path.dirname(directory)
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize
