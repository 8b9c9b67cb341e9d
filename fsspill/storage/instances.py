"""Filesystems as fsspec shares them, made again once what they read outside of options has changed.

fsspec keeps filesystems by their options alone, for the life of the process. But a filesystem reads
endpoints, regions, profiles and credentials from the environment and from files when it is made. In
a notebook somebody corrects those, and calls ``ray.init`` again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

from fsspec import AbstractFileSystem
from fsspec.config import conf, set_conf_env

from fsspill.process_local import ProcessLocal

__all__ = ["forget", "latest", "refresh_config"]

_SET_AGAIN_AND_AGAIN = ("RAY_", "PYTEST_")
"""Beginnings of the variables that programs set for themselves, and that no filesystem reads."""

_FILES = (
    ("AWS_CONFIG_FILE", "~/.aws/config"),
    ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
    ("GOOGLE_APPLICATION_CREDENTIALS", "~/.config/gcloud/application_default_credentials.json"),
)
"""Files that filesystems read once: the variable that names each, and where it is else."""


class _Instance(NamedTuple):
    """A filesystem and the surroundings in which it was made; None if it is not to be used again.

    `shared` is the one that fsspec keeps, `fs` the one that took its place here.
    """

    shared: AbstractFileSystem
    surroundings: Hashable
    fs: AbstractFileSystem


_instances: ProcessLocal[dict[AbstractFileSystem, _Instance]] = ProcessLocal(dict)
"""By filesystem: those with the same class and options are equal."""


def latest(
    shared: AbstractFileSystem, make: Callable[[], AbstractFileSystem]
) -> AbstractFileSystem:
    """Return a filesystem that was made in the present environment.

    Parameters
    ----------
    shared : fsspec.AbstractFileSystem
        The one that fsspec has.
    make : callable
        Makes another one with the same options. That one stays open: others may be using it.

    Notes
    -----
    Makes no request. Looks at the environment and at three files.
    """
    surroundings = _surroundings()
    known = _instances.get().get(shared)
    if known is None or known.shared is not shared:
        known = _Instance(shared, surroundings, shared)
    elif known.surroundings != surroundings:
        known = _Instance(shared, surroundings, make())
    _instances.get()[shared] = known
    return known.fs


def forget(fs: AbstractFileSystem) -> None:
    """Make another filesystem in the place of one the next time it is asked for."""
    known = _instances.get().get(fs)
    if known is not None and known.fs is fs:
        _instances.get()[fs] = known._replace(surroundings=None)


def _surroundings() -> Hashable:
    variables = frozenset(
        item for item in os.environ.items() if not item[0].startswith(_SET_AGAIN_AND_AGAIN)
    )
    return variables, tuple(_state(os.environ.get(name) or path) for name, path in _FILES)


def _state(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(os.path.expanduser(path))
    except (OSError, ValueError):
        return None
    return status.st_mtime_ns, status.st_size


_Config = dict[str, dict[str, Any]]


class _Variables:
    """The variables ``FSSPEC_*`` as fsspec's configuration has them."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.options: _Config = {}


_variables: ProcessLocal[_Variables] = ProcessLocal(_Variables)


def refresh_config() -> None:
    """Bring fsspec's configuration up to date, which has the environment of fsspec's import.

    Options that were set there by other means are left alone.
    """
    known = _variables.get()
    texts = {name: text for name, text in os.environ.items() if name.startswith("FSSPEC")}
    if texts == known.texts:
        return
    options: _Config = {}
    set_conf_env(options, texts)
    _remove(known.options, options)
    for protocol, found in options.items():
        conf.setdefault(protocol, {}).update(found)
    known.texts, known.options = texts, options


def _remove(before: _Config, now: _Config) -> None:
    """Remove the options of variables that are gone, as far as they are what those said."""
    for protocol, options in before.items():
        configured = conf.get(protocol, {})
        for name, value in options.items():
            if name not in now.get(protocol, {}) and configured.get(name) == value:
                del configured[name]
