"""The progress of an operation that takes a while, as its caller may show it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

__all__ = ["Progress", "ignore_progress"]

Progress: TypeAlias = Callable[[str, int, int], None]
"""Receives a step, how much of it is done, and how much there is; 0 while that is not known."""


def ignore_progress(step: str, done: int, total: int) -> None:
    """Show nothing."""
