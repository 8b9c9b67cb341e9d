"""URLs for tests of what they carry."""

from __future__ import annotations

from fsspill.format.compression import Compression
from fsspill.format.digest import Digests
from fsspill.format.url import SpillURL, create_url_with_offset

FILE = "s3://bucket/session/ray_spilled_objects_1/file"


def parse_digests(parameters: str) -> Digests:
    """Return the digests of a URL with these parameters after offset and size."""
    return SpillURL.parse(f"{FILE}?offset=0&size=24{parameters}").digests()


def parse_compression(parameters: str, *, size: int, blocks: int) -> Compression | None:
    """Return the compression of a URL of a frame with `size` bytes and `blocks` digests."""
    url = create_url_with_offset(url=FILE, offset=0, size=size)
    return SpillURL.parse(f"{url}&{parameters}").compression(blocks)
