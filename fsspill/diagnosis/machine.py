"""Facts of this machine: its disk, the local copy, the packages and the hook."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from tempfile import gettempdir

from fsspill.activation import activation_advice, is_armed
from fsspill.diagnosis.verdict import Checklist, Finding, failed, ok, skipped, warning
from fsspill.local_copy.checks import check_directory
from fsspill.settings import Settings
from fsspill.storage.mount import Mount
from fsspill.storage.packages import describe_conflicts, repair_command
from fsspill.storage.protocols import traits_of
from fsspill.storage.small_files import CHECK_SECONDS

__all__ = ["check_machine", "check_settings", "installed_versions"]

_PACKAGES = (
    "fsspill", "ray", "fsspec", "s3fs", "aiobotocore", "botocore", "gcsfs", "adlfs", "paramiko",
    "obstore", "xxhash", "lz4", "zstandard",
)  # fmt: skip

_SHARE_OF_RAY = 0.05
"""Share of a disk below which Ray creates no more objects (``local_fs_capacity_threshold``)."""

GIB = 2**30


def check_machine(uris: Sequence[str], checks: Checklist) -> None:
    """Check the packages and the hook of this interpreter.

    Parameters
    ----------
    uris : sequence of str
        The URIs to spill to.
    checks : Checklist
        Gets the verdicts.

    Notes
    -----
    No request.
    """
    checks.run("packages", partial(_packages, uris), otherwise="warning")
    checks.run("hook", partial(_hook, uris))


def check_settings(settings: Settings, checks: Checklist) -> None:
    """Check the disk and the local copy of this machine.

    Parameters
    ----------
    settings : Settings
        All parameters.
    checks : Checklist
        Gets the verdicts.
    """
    checks.run("disk", partial(_disk, settings), otherwise="warning")
    checks.run("local copy", partial(_local_copy, settings), otherwise="warning")


def installed_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that matter, where they are installed."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            pass
    return found


def _packages(uris: Sequence[str]) -> Finding:
    extras = {traits_of(uri).extra for uri in uris}
    for extra in sorted(filter(None, extras)):
        if conflicts := describe_conflicts(extra):
            advice = f"Install packages that fit together: {repair_command(extra)}"
            return warning(conflicts, advice)
    found = installed_versions()
    if "ray" not in found:
        return warning(
            "Ray is not installed in this Python environment",
            'Run this command in that of Ray, or install it: pip install "fsspill[ray]"',
        )
    return ok(", ".join(f"{name} {number}" for name, number in found.items()))


def _hook(uris: Sequence[str]) -> Finding:
    if is_armed():
        return ok("active")
    found = f"not active: a Ray started from {sys.executable} will not spill to {', '.join(uris)}"
    if os.environ.get("FSSPILL_HOOK") == "0":
        return failed(f"{found} (FSSPILL_HOOK=0)", "Unset FSSPILL_HOOK.")
    return failed(found, activation_advice())


def _disk(settings: Settings) -> Finding:
    """Judge the disk that is spilled to, or else the one to which Ray itself falls back."""
    if settings.local:
        directory, use = settings.uris[0].partition("://")[2], ""
    else:
        directory = os.environ.get("RAY_TMPDIR") or gettempdir()
        use = ", which Ray uses while the storage is down"
    found = Mount(directory, CHECK_SECONDS).call(_usage, directory)
    if not found["total"]:
        return skipped(f"the file system of {directory} has no size")
    text = f"{_size(found['free'])} of {_size(found['total'])} free at {directory}{use}"
    least = max(settings.min_free_bytes, _SHARE_OF_RAY * found["total"])
    if found["free"] > least:
        return ok(text)
    return warning(text, f"Make room: below {_size(least)} free nothing more is put there.")


def _usage(directory: str) -> Mapping[str, int]:
    """Return the total and free bytes of the disk of a directory, which need not exist yet."""
    while not os.path.exists(directory):
        directory = os.path.dirname(directory)
    return shutil.disk_usage(directory)._asdict()


def _local_copy(settings: Settings) -> Finding:
    directory, limit = settings.cache_dir, settings.cache_max_bytes
    if directory is None or limit is None:
        return skipped("not configured (cache_dir, cache_max_bytes)")
    mount = Mount(directory, CHECK_SECONDS)
    check_directory(mount, directory, limit)
    free = mount.call(_usage, directory)["free"]
    text = f"up to {_size(limit)} in {directory}, {_size(free)} free"
    if free >= limit:
        return ok(text)
    return warning(text, "Make room, or lower cache_max_bytes: fewer copies are kept.")


def _size(nbytes: float) -> str:
    return f"{nbytes / GIB:,.3g} GiB"
