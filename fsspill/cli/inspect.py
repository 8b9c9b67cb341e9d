"""``fsspill inspect``: the frames of spilled files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from fsspill import inspection
from fsspill.cli.options import json_option
from fsspill.cli.tables import is_terminal, print_json, print_rows, show_progress
from fsspill.inspection import Gap, InspectedFile, InspectedFrame

__all__ = ["inspect"]

_HEADER: Sequence[str] = ("offset", "size", "stored", "metadata", "owner", "digest")

_OWNER_SHOWN = 8
"""Characters of an owner's address in a table."""


@click.command(
    short_help="Show the frames of spilled files, and verify them.",
    epilog="""\b
Examples:
  fsspill inspect s3://bucket/spill/SESSION/NODE/FILE
  fsspill inspect 's3://bucket/.../FILE?offset=0&size=9&...'
  fsspill inspect /mnt/disk/ray_spilled_objects_*/* --json
""",
)
@click.argument("targets", nargs=-1, required=True, metavar="URL|FILE...")
@json_option
def inspect(targets: tuple[str, ...], as_json: bool) -> int:
    """Show the frames of spilled files: their offsets, sizes, owners and metadata.

    Each URL|FILE is the URL of a spilled object, the URL of a file without anything behind it, or
    the path of a local file.

    A frame whose URL is given, with its digests, is read in full and verified. The digests are not
    in the file, so that of any other frame is unchecked; nor is there how a frame is compressed, so
    that without its URL it is not recognised.

    The exit code is 1 if anything is wrong, or cannot be read, or is no frame.
    """
    with show_progress(silent=True) as progress:
        files = inspection.inspect(targets, progress=progress)
    if as_json:
        print_json({"files": [_as_json(file) for file in files]})
    else:
        for file in files:
            _print_file(file)
    for error in (file.error for file in files if file.error):
        click.echo(f"fsspill: {error}", err=True)
    return 0 if all(file.is_sound for file in files) else 1


def _as_json(file: InspectedFile) -> dict[str, Any]:
    return {
        "url": file.url,
        "sound": file.is_sound,
        "error": str(file.error) if file.error else None,
        "bytes": file.nbytes,
        "problem": file.problem or None,
        "named_objects": file.named_objects,
        "named_bytes": file.named_bytes,
        "frames": [_frame_as_json(frame) for frame in file.frames],
        "gaps": [
            {"offset": gap.start, "size": gap.stop - gap.start, "reason": gap.reason}
            for gap in file.gaps
        ],
    }


def _frame_as_json(frame: InspectedFrame) -> dict[str, Any]:
    address, metadata, data = frame.header or (None, None, None)
    return {
        "offset": frame.offset,
        "size": frame.size,
        "owner_bytes": address,
        "metadata_bytes": metadata,
        "data_bytes": data,
        "owner": frame.owner_address.hex(),
        "metadata": _text(frame.metadata),
        "metadata_hex": frame.metadata.hex(),
        "compression": frame.codec,
        "digest": frame.verdict,
        "algorithm": frame.algorithm,
        "problem": frame.problem or None,
    }


def _print_file(file: InspectedFile) -> None:
    if file.error:
        return
    click.echo(file.url)
    click.echo(", ".join(_summary(file)))
    if file.frames:
        rows = [_HEADER, *map(_row, file.frames)]
        if not any(frame.codec for frame in file.frames):
            rows = [(*row[:2], *row[3:]) for row in rows]
        print_rows(rows[0], rows[1:])
    if file.problem:
        click.echo(file.problem)
    for frame in file.frames:
        if frame.problem:
            click.echo(f"frame at {frame.offset:,}: {frame.problem}")
    for gap in file.gaps:
        click.echo(_describe(gap))
    if any(frame.verdict == "unchecked" for frame in file.frames):
        click.echo("unchecked: digests are in the URLs of objects. Name one to verify it.")


def _summary(file: InspectedFile) -> list[str]:
    parts = [_count(file.nbytes, "byte"), _count(len(file.frames), "frame")]
    if file.named_objects is not None and file.named_bytes is not None:
        named = f"{_count(file.named_objects, 'object')} of {_count(file.named_bytes, 'byte')}"
        parts.append(f"by its name {named}")
    return parts


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def _row(frame: InspectedFrame) -> Sequence[str]:
    owner = frame.owner_address.hex()
    if is_terminal() and len(owner) > _OWNER_SHOWN:
        owner = owner[:_OWNER_SHOWN] + ".."
    place = (f"{frame.offset:,}", f"{frame.size:,}", frame.codec or "raw")
    return *place, _text(frame.metadata) or frame.metadata.hex() or "-", owner or "-", frame.verdict


def _text(data: bytes) -> str | None:
    """Return bytes as a text; None if that cannot be printed."""
    text = data.decode("ascii", "replace")
    return text if text.isascii() and text.isprintable() else None


def _describe(gap: Gap) -> str:
    place = f"{gap.start:,} to {gap.stop:,}"
    return f"bytes {place}: {gap.reason}. They begin with {gap.first_bytes.hex(' ')}"
