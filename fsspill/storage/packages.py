"""Installed packages of filesystems that do not fit together, and the command that mends it.

Every release of s3fs and gcsfs wants the fsspec of its own day, every aiobotocore a few days of
botocore, every boto3 the botocore of its day. An installer keeps that in order for the packages
that it was told of in one call, so two calls can leave what no longer works.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import (
    PackageNotFoundError,
    packages_distributions,
    requires,
    version,
)

from fsspill.errors import ConfigError, FsspillError, MissingPackageError
from fsspill.log import get_logger
from fsspill.storage.protocols import traits_of

__all__ = [
    "PACKAGES",
    "describe_conflicts",
    "import_failure",
    "repair_command",
    "reporting_conflicts",
]

logger = get_logger(__name__)

PACKAGES = {
    "s3": ("s3fs", "aiobotocore", "boto3", "s3transfer"),
    "gcs": ("gcsfs",),
    "azure": ("adlfs",),
    "sftp": ("paramiko",),
}
"""By extra of fsspill: the package of the filesystem, and others that what it needs must suit."""

_PINNED = {"fsspec", "aiobotocore", "botocore", "boto3", "s3transfer", "s3fs", "gcsfs", "adlfs"}
"""Packages of which others want few releases."""


def describe_conflicts(extra: str | None) -> str:
    """Return which installed packages do not fit together, in one line; "" if all do.

    Parameters
    ----------
    extra : str or None
        The extra of fsspill that installs the filesystem.

    Returns
    -------
    str
        As in "s3fs 2026.9.0 needs fsspec>=2026.9.0, found 2023.12.1". "" too where that cannot be
        told, because the packages come without metadata or the package ``packaging`` is missing.

    Notes
    -----
    Reads files of a few packages, 1 ms each; imports none of them.
    """
    if not extra:
        return ""
    try:
        found = [*_conflicts("fsspill", extra)]
        for package in PACKAGES.get(extra, ()):
            found += _conflicts(package)
    except ImportError:
        return ""
    return "; ".join(dict.fromkeys(found))


def _conflicts(package: str, extra: str = "") -> Iterator[str]:
    from packaging.requirements import Requirement

    own = _version(package)
    for text in (requires(package) or []) if own else []:
        requirement = Requirement(text)
        if not _is_relevant(requirement.name, extra):
            continue
        marker = requirement.marker
        if marker is not None and not marker.evaluate({"extra": extra}):
            continue
        found = _version(requirement.name)
        if found and not requirement.specifier.contains(found, prereleases=True):
            yield f"{package} {own} needs {requirement.name}{requirement.specifier}, found {found}"


def _is_relevant(name: str, extra: str) -> bool:
    """Return True for what fsspill requires itself, and for what is pinned to a few releases."""
    return bool(extra) or re.sub(r"[-_.]+", "-", name).lower() in _PINNED


def import_failure(uri: str, error: Exception) -> MissingPackageError:
    """Return the error for a filesystem whose package cannot be imported.

    It says why, and has the command that mends it.

    Parameters
    ----------
    uri : str
        A URI of the filesystem.
    error : Exception
        Whatever its import raised.
    """
    reason = _describe_import_error(traits_of(uri).extra, error)
    return MissingPackageError(f"cannot spill to {uri!r}: {reason}")


def _describe_import_error(extra: str | None, error: Exception) -> str:
    first = _first_cause(error)
    reason = f"{type(first).__name__}: {' '.join(str(first).split())}"
    if not extra:
        missing = f" ({reason})" if first is not error else ""
        return (
            f"its package cannot be imported in this Python environment{missing}. Found: "
            f"{' '.join(str(error).split())}. Do so on every node."
        )
    package = PACKAGES[extra][0]
    installed = _version(package)
    if not installed:
        return (
            "its package is not installed in this Python environment. Install it on every node: "
            f'pip install "fsspill[{extra}]"'
        )
    conflicts = describe_conflicts(extra)
    reason = conflicts or reason
    broken = "" if conflicts else _broken_package(package, first)
    return (
        f"{package} {installed} is installed and cannot be imported ({reason}). Install packages "
        f"that fit together, on every node: {repair_command(extra, broken)}"
    )


def _broken_package(package: str, error: BaseException) -> str:
    """Return the package whose files are wrong, or "" if one that it needs is not there at all.

    An installer adds what is missing, and takes a package with wrong files for installed.
    """
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return package
    owners = set(packages_distributions().get(error.name.partition(".")[0], ()))
    # Several have a namespace in common, such as azure: one more of them is missing.
    return owners.pop() if len(owners) == 1 else ""


def _first_cause(error: BaseException) -> BaseException:
    """Return the first of a chain of errors: fsspec replaces every one by "install s3fs"."""
    while cause := error.__cause__ or error.__context__:
        error = cause
    return error


@contextmanager
def reporting_conflicts(uri: str) -> Iterator[None]:
    """Report packages that do not fit together while a URI is checked.

    Raises
    ------
    ConfigError
        In place of any error of fsspill that is raised within, where packages do not fit: it is
        most likely to come of that, and blames something else. A warning is logged where the check
        succeeds: something else may fail, such as a program's own use of boto3.
    """
    extra = traits_of(uri).extra
    conflicts = describe_conflicts(extra)
    advice = f"{conflicts}. Install packages that fit together: {repair_command(extra)}"
    try:
        yield
    except FsspillError as error:
        if not conflicts:
            raise
        raise ConfigError(f"cannot spill to {uri}: {advice} (Found with them: {error})") from error
    if conflicts:
        logger.warning("packages for %s do not fit together: %s", uri, advice)


def repair_command(extra: str | None, broken: str = "") -> str:
    """Return the command that mends packages, for the Python of this process.

    `broken` is one whose version fits and whose files do not: there an installer has nothing to do.
    """
    what = f'"fsspill[{extra}]"'
    if broken:
        # In its version: the newest need not suit what is installed beside it.
        what = f"--force-reinstall --no-deps {broken}=={_version(broken)}"
    return f"{sys.executable} -m pip install {what}"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
