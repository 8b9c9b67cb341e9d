"""Values to set, each with the measurement that speaks for it."""

from __future__ import annotations

from typing import Any, NamedTuple

from fsspill.settings import MIB, Settings

__all__ = ["LARGEST_SMALL_OBJECT", "Choice", "choose_parameters", "choose_ray_settings"]

LARGEST_SMALL_OBJECT = 4 * MIB
"""Bytes of an object up to which a restore is bound by its round trip, not by the link."""


class Choice(NamedTuple):
    """A setting with its value, and the reason for both.

    Attributes
    ----------
    name : str
        A parameter of fsspill, or a setting of Ray that all of its supported releases know.
    value
        Its value.
    reason : str
        What was measured, or what it is good for.
    optional : bool
        True if it is a trade-off that the user has to decide: shown, not set.
    """

    name: str
    value: Any
    reason: str
    optional: bool = False


def choose_ray_settings(settings: Settings, object_size: int | None) -> list[Choice]:
    """Return the settings of Ray for some storage; measured for remote storage alone.

    Parameters
    ----------
    settings : Settings
        The parameters of fsspill.
    object_size : int, optional
        Bytes of most objects of the program; unknown if not given.
    """
    if settings.local:
        return []
    small = object_size is not None and object_size <= LARGEST_SMALL_OBJECT
    return [_MORE_WORKERS if small else _FEW_WORKERS]


def choose_parameters(settings: Settings, object_size: int | None) -> list[Choice]:
    """Return the parameters of fsspill besides the URI; those of requests for buckets alone.

    Parameters
    ----------
    settings : Settings
        The parameters that are given.
    object_size : int, optional
        Bytes of most objects of the program; unknown if not given.
    """
    chosen = [
        Choice(name, getattr(settings, name), reason)
        for name, reason in _GIVEN.items()
        if getattr(settings, name)
    ]
    if settings.local:
        return chosen
    small = object_size is not None and object_size <= LARGEST_SMALL_OBJECT
    return [*chosen, _LARGER_FILES if small else _LARGER_RANGES]


_MORE_WORKERS = Choice(
    "max_io_workers",
    8,
    "Ray's default is 4. A program with 800 objects of 1 MiB took 13.3 s with 8 and 16.6 s with 4: "
    "each restore waits for a round trip. A node then has up to 16 IO worker processes, each with "
    "up to 128 MiB in flight (max_bytes_in_flight).",
)
_FEW_WORKERS = Choice(
    "max_io_workers",
    4,
    "Ray's default. A program with 102 objects of 20 MiB took 11.3 s with 4 and 12.7 s with 8; one "
    "with 800 objects of 1 MiB took 16.6 s with 4 and 13.3 s with 8. Set 8 if most of yours have a "
    "few MiB or less.",
)
_LARGER_FILES = Choice(
    "file_size",
    16 * MIB,
    "Half of the PUT requests: 0.81 instead of 1.21 dollars per TiB of objects of 1 MiB that is "
    "spilled and restored once (S3 Standard). Memory is freed later.",
    optional=True,
)
_LARGER_RANGES = Choice(
    "range_size",
    8 * MIB,
    "A sixth of the GET requests: 1.37 instead of 1.69 dollars per TiB of objects of 20 MiB that "
    "is spilled and restored once (S3 Standard). A single reader becomes slower, not a node that "
    "restores many objects.",
    optional=True,
)

_GIVEN = {
    "shared": "The directory is mounted on every node: any node restores what another one spilled.",
    "cache_dir": "A directory of each node, on its disk: a node restores what it spilled from "
    "there, at the speed of the disk. It must exist.",
    "cache_max_bytes": "Bytes of all these copies of a node; the least recently used are removed "
    "first.",
}

LEFT_ALONE = (
    "Leave Ray's min_spilling_size and object_spilling_threshold alone: the program with objects "
    "of 20 MiB took 13.2 s instead of 11.3 s with 20 MB instead of 100 MiB, and 11.7 s with 0.5 "
    "instead of 0.8."
)
"""Settings of Ray that stay at their defaults, for buckets."""

LONG_WAITS = Choice(
    "get_check_signal_interval_milliseconds",
    60000,
    "Of the program: only if it waits with ray.wait for more than the object store holds, and "
    "cannot pass fetch_local=False. 60 objects over a link of 200 ms: all ready in 9.9 s, instead "
    "of 30 in 60.2 s. Ctrl-C is noticed once a minute.",
    optional=True,
)
"""A setting for programs that wait, which belongs to the environment of the program."""
