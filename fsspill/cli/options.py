"""Arguments and options that several commands have."""

from __future__ import annotations

import re

import click

from fsspill.cli.tables import UNITS

__all__ = ["json_option", "older_than_option", "size", "spill_uri_argument"]


def _duration(text: str) -> float:
    """Return seconds, written with their unit."""
    match = re.fullmatch(r"([0-9]+)([smhd])", text)
    if not match:
        raise click.BadParameter("expected a number and a unit, as in 30s, 15m, 24h, 7d")
    return float(match[1]) * UNITS[match[2]]


_PREFIXES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12} | {
    "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40
}  # fmt: skip


def size(text: str) -> int:
    """Return bytes, written with their unit or as a plain number."""
    match = re.fullmatch(r"([0-9]+) *([kmgt]?i?)b?", text.lower())
    if not match or match[2] not in _PREFIXES:
        raise click.BadParameter("expected a number and a unit, as in 512KiB, 16MiB, 20GiB, 1GB")
    return int(match[1]) * _PREFIXES[match[2]]


json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON for programs, and nothing else."
)

spill_uri_argument = click.argument("uri")

older_than_option = click.option(
    "--older-than",
    type=_duration,
    default="24h",
    metavar="TIME",
    help="Time since the last write of a session after which it counts as dead: 30s, 15m, 24h, 7d "
    "(default: 24h; never less than 30m).",
)
