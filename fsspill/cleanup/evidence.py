"""The evidence against a session, taken again just before its files are removed.

A session is dead by the clock of its storage (`fsspill.cleanup.sessions`). That clock may have
jumped since the last heartbeat, and the session may have gone on since the listing. So two things
must agree with it: no heartbeat has changed since, and the newest one is old by the time in it too,
which its writer's clock gave, and which is compared with the clock of this machine.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

from fsspill.cleanup.listing import Listing, list_directory
from fsspill.errors import format_seconds
from fsspill.storage.client import StorageClient
from fsspill.storage.layout import HEARTBEAT_DIRECTORY
from fsspill.storage.small_files import HEARTBEAT_LENGTH, parse_heartbeat

__all__ = ["Suspect", "reason_to_keep"]

_PRECISION = 2.0
"""Seconds by which two listings may differ in the time of one file: some round it."""


@dataclass(frozen=True)
class Suspect:
    """A session, or one node of it, of which files are about to be removed.

    Attributes
    ----------
    session : str
        The session.
    node_id : str or None
        The node; None for the whole session.
    ages : mapping
        Ages of its heartbeats in the listing that the removal was decided on, by path.
    named : bool
        True if the user named it: then it may be of any age that is not alive.
    """

    session: str
    node_id: str | None
    ages: Mapping[str, float | None]
    named: bool


async def reason_to_keep(
    client: StorageClient, listing: Listing, suspect: Suspect, limit: float
) -> str | None:
    """Return the reason to keep files; None if all evidence agrees that they may be removed.

    Parameters
    ----------
    client : StorageClient
        The client of the URI.
    listing : Listing
        The listing that the removal was decided on. Ages are by its time.
    suspect : Suspect
        The session or node.
    limit : float
        Age in seconds from which it may be dead.

    Notes
    -----
    One listing of the session's heartbeats, and one request that reads the newest of them.
    """
    ages = await _list_ages(client, listing, suspect)
    if any(_is_new(age, suspect.ages.get(path, inf)) for path, age in ages.items()):
        return "new heartbeat seen"
    if not ages:
        return None
    newest = min(ages, key=lambda path: _or_infinite(ages[path]))
    written = parse_heartbeat(await client.read(newest, HEARTBEAT_LENGTH))
    if written is None:
        return None if suspect.named else "its last heartbeat does not say when it was written"
    return _judge(written, listing.stale_after if suspect.named else limit)


async def _list_ages(
    client: StorageClient, listing: Listing, suspect: Suspect
) -> dict[str, float | None]:
    """Return the ages of the heartbeats that are there now, by path."""
    entries = await list_directory(client, f"{suspect.session}/{HEARTBEAT_DIRECTORY}")
    return {
        f"{client.root}/{path}": listing.age_of(info)
        for path, info in entries.items()
        if info["type"] == "file" and suspect.node_id in (None, path.rpartition("/")[2])
    }


def _is_new(age: float | None, before: float | None) -> bool:
    """Return True if a heartbeat was written since the listing, by whatever clock."""
    if age is None or before is None:
        return age is not before
    return abs(age - before) > _PRECISION


def _or_infinite(age: float | None) -> float:
    return inf if age is None else age


def _judge(written: float, limit: float) -> str | None:
    """Return the reason to keep a session whose last heartbeat has this time in it."""
    age = max(0.0, time.time() - written)
    if age >= limit:
        return None
    return (
        f"clocks disagree: its last heartbeat is {format_seconds(age)} old by the clocks of its "
        "writer and of this machine, and older by that of the storage"
    )
