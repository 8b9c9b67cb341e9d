"""The Ray side: what Ray calls, and what its users see of fsspill.

This is the only part of the package that imports Ray, and importing it does not: ``install`` has
its use before Ray is there. ``SpilledObjectLostError`` derives from an error of Ray, so it is
imported with its first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fsspill.ray.installation import install, is_installed

if TYPE_CHECKING:
    from fsspill.ray.errors import SpilledObjectLostError

__all__ = ["SpilledObjectLostError", "install", "is_installed"]


def __getattr__(name: str) -> Any:
    """Import `SpilledObjectLostError`, and Ray with it (PEP 562)."""
    if name != "SpilledObjectLostError":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from fsspill.ray.errors import SpilledObjectLostError

    return SpilledObjectLostError


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
