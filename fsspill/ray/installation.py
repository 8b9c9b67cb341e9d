"""The hook that makes fsspill known to Ray: whether it is active, and how to activate it."""

from __future__ import annotations

import os
import sys

import _fsspill_startup
import _fsspill_wrappers

from fsspill.activation import hook_directories, is_armed

__all__ = ["install", "is_installed"]

_WRAPPED = ("ray._private.external_storage", "ray._private.node")
"""Modules of Ray that must know fsspill."""


def is_installed() -> bool:
    """Return True if Ray, as this process has imported it or will import it, knows fsspill."""
    imported = [name for name in _WRAPPED if name in sys.modules]
    if imported:
        return all(_fsspill_wrappers.is_wrapped(name) for name in imported)
    return is_armed()


def install() -> None:
    """Make fsspill known to Ray where the hook of the installation is not active.

    Needed where Python does not run ``.pth`` files: under ``python -S``, or with a bare
    ``pip install --target`` directory on ``PYTHONPATH``. Call it before ``ray.init()`` starts a
    local cluster; the processes of that cluster inherit it through the environment.

    Raises
    ------
    RuntimeError
        Ray already runs in this process. Its raylet was started without the hook, and every IO
        worker would be too. The same is true of clusters that were started elsewhere: there the
        hook must be active on every node, and this function cannot reach it. Or Ray has been
        imported, and is not as expected, such as a version older than 2.45.

    Notes
    -----
    Changes ``PYTHONPATH`` in the environment of this process, and removes ``FSSPILL_HOOK``.
    """
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized() and not is_installed():
        raise RuntimeError(
            "cannot make fsspill known to Ray: it already runs. Expected install() before "
            "ray.init(), in the process that starts the cluster."
        )
    _fsspill_startup.arm()
    if not is_installed():
        raise RuntimeError(f"cannot make fsspill known to Ray: {_fsspill_wrappers.explanation()}")
    inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    paths = dict.fromkeys([*hook_directories(), *filter(None, inherited)])
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    os.environ.pop("FSSPILL_HOOK", None)
