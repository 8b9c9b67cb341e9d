"""The hook of this interpreter and of those that it starts: whether it is active, and where it is.

Python runs the ``.pth`` file that arms the hook in site-packages only: not in the directory of
``pip install --target``, not in a zip application, not in the runfiles of a build system.
"""

from __future__ import annotations

import os
import sys

from fsspill.log import get_logger

__all__ = ["activation_advice", "hook_directories", "is_armed", "warn_unless_armed"]

logger = get_logger(__name__)


def is_armed() -> bool:
    """Return True if Ray, when this process imports it, will know fsspill."""
    # By its name: the module may have been loaded twice.
    return any(type(finder).__name__ == "RayHook" for finder in sys.meta_path)


def hook_directories() -> list[str]:
    """Return the directories that arm the hook in every Python that has them on PYTHONPATH."""
    package = os.path.dirname(os.path.abspath(__file__))
    return [os.path.join(package, "hook"), os.path.dirname(package)]


def warn_unless_armed() -> None:
    """Log one line where Ray would take a URI for the name of a directory.

    Silent with ``FSSPILL_HOOK=0``, which switches the hook off.
    """
    if is_armed() or os.environ.get("FSSPILL_HOOK") == "0":
        return
    logger.warning(
        "fsspill was imported from %s, where Python ran no .pth file: a Ray that is started from "
        "this interpreter takes a URI to spill to for a directory. %s",
        hook_directories()[-1],
        activation_advice(),
    )


def activation_advice() -> str:
    """Return what makes the hook active in the Rays that are started from this interpreter."""
    return (
        f"Set PYTHONPATH={os.pathsep.join(hook_directories())} for it, start nodes by "
        "'python -m fsspill.ray start', or call fsspill.ray.install() before ray.init()."
    )
