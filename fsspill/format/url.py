"""The URL that Ray keeps for every spilled object: ``<file>?offset=<int>&size=<int>``.

Ray's raylet reads the files of node-local storage itself and matches exactly that form. For
other storage it looks only at what stands before the ``?``, so more parameters may follow;
`parse_url_with_offset` passes over those it does not know.
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["ParsedURL", "create_url_with_offset", "parse_url_with_offset"]

_INTEGER = re.compile(r"[0-9]{1,19}")
_LIMIT = 10**19


class ParsedURL(NamedTuple):
    """Where one spilled object lies.

    Attributes
    ----------
    base_url : str
        The fused file.
    offset : int
        First byte of the object's frame in that file.
    size : int
        Length in bytes of the whole frame, header included.
    """

    base_url: str
    offset: int
    size: int

    @property
    def url(self) -> str:
        """The URL with offset, without what else it carries: for messages."""
        return create_url_with_offset(url=self.base_url, offset=self.offset, size=self.size)


def create_url_with_offset(*, url: str, offset: int, size: int) -> str:
    """Name the frame of `size` bytes at `offset` of the fused file `url`.

    Parameters
    ----------
    url : str
        The fused file. It must not contain ``?`` or ``#``, where Ray would cut it.
    offset, size : int
        In bytes, not negative.

    Returns
    -------
    str
        The URL with offset.

    Raises
    ------
    ValueError
        `url` or one of the numbers cannot stand in such a URL.
    """
    if not url or "?" in url or "#" in url:
        raise ValueError(
            f"cannot make a URL with offset of {url!r}: expected the name of a file without '?' "
            "and '#', because Ray splits URLs there."
        )
    if not 0 <= offset < _LIMIT or not 0 <= size < _LIMIT:
        raise ValueError(
            f"cannot make a URL with offset of {url!r}: expected offset and size of 0 or more "
            f"bytes, below 10**19, found offset {offset} and size {size}."
        )
    return f"{url}?offset={offset}&size={size}"


def parse_url_with_offset(url_with_offset: str) -> ParsedURL:
    """Take apart what `create_url_with_offset` made.

    Parameters
    ----------
    url_with_offset : str
        As Ray hands it back, decoded.

    Returns
    -------
    ParsedURL
        File, offset and size in bytes.

    Raises
    ------
    ValueError
        Not such a URL. Nothing is guessed: each of the two numbers must stand there once.
    """
    base_url, _, query = url_with_offset.partition("?")
    parameters = [item.partition("=") for item in query.split("&")]
    numbers = {
        name: [value for key, _, value in parameters if key == name] for name in ("offset", "size")
    }
    well_formed = all(
        len(values) == 1 and _INTEGER.fullmatch(values[0]) for values in numbers.values()
    )
    if not base_url or "#" in base_url or not well_formed:
        raise ValueError(
            f"not the URL of a spilled object: {url_with_offset!r}. Expected "
            "'<file>?offset=<bytes>&size=<bytes>', as spill_objects returned it."
        )
    return ParsedURL(base_url, int(numbers["offset"][0]), int(numbers["size"][0]))
