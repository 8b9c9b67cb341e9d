"""The URL that Ray keeps for every spilled object: ``<file>?offset=<int>&size=<int>``.

Ray's raylet reads the files of node-local storage itself and matches exactly that form. For other
storage it uses only the part before the ``?``, so more parameters may follow: the digests of the
frame's blocks (`fsspill.format.digest`) and, for a compressed frame, the codec and the sizes of its
blocks (`fsspill.format.compression`)::

    <file>?offset=<int>&size=<int>[&<codec>=<sizes>]&<algorithm>=<digests>[&version=<version>]
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import quote, unquote

from fsspill.errors import CorruptObjectError, InvalidArgumentError
from fsspill.format.compression import CODECS, Compression, check_codec
from fsspill.format.digest import ALGORITHMS, Digests

__all__ = [
    "ParsedURL",
    "SpillURL",
    "create_url_with_offset",
    "decode_url",
    "parse_url_with_offset",
    "version_parameter",
]

VERSION = "version"
"""Parameter with the version of the file."""

_INTEGER = re.compile(r"[0-9]{1,19}")
_LIMIT = 10**19


class ParsedURL(NamedTuple):
    """The place of one spilled object, as Ray names it.

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
        """The URL with offset, without further parameters: for messages."""
        return create_url_with_offset(url=self.base_url, offset=self.offset, size=self.size)


class SpillURL(NamedTuple):
    """The URL of a spilled object, split once.

    Attributes
    ----------
    text : str
        The given URL, for messages.
    base_url : str
        The fused file.
    offset : int
        First byte of the object's frame in that file.
    size : int
        Bytes of the frame at rest, header included.
    parameters : list of (str, str)
        Names and values of all parameters, in order.
    """

    text: str
    base_url: str
    offset: int
    size: int
    parameters: list[tuple[str, str]]

    @classmethod
    def parse(cls, url: bytes | str) -> SpillURL:
        """Split a URL that `spill_objects` returned.

        Raises
        ------
        InvalidArgumentError
            Not a URL with offset.
        """
        text = decode_url(url)
        parameters = _split_query(text)
        return cls(text, *_parse(text, parameters), parameters)

    @property
    def version(self) -> str:
        """The version of the file, which its deletion names; "" if the storage keeps none."""
        return next((unquote(value) for name, value in self.parameters if name == VERSION), "")

    def digests(self) -> Digests:
        """Return the digests of the frame's blocks at rest.

        Raises
        ------
        CorruptObjectError
            It carries none, or malformed ones: the frame could not be verified.
        """
        found = [parameter for parameter in self.parameters if parameter[0] in ALGORITHMS]
        if len(found) == 1 and (digests := Digests.from_parameter(*found[0])):
            return digests
        raise CorruptObjectError(
            f"cannot restore {self.text}: expected a URL that carries the digest of its "
            f"object ({' or '.join(ALGORITHMS)}), as spill_objects returned it."
        )

    def compression(self, blocks: int) -> Compression | None:
        """Return codec and block sizes of a compressed frame; None if it is stored raw.

        Parameters
        ----------
        blocks : int
            Number of digests that the URL carries.

        Raises
        ------
        CorruptObjectError
            Numbers that are not those of such a frame: malformed, of other sums, more or fewer
            blocks.
        MissingPackageError
            The package of its codec is not installed.
        """
        found = [parameter for parameter in self.parameters if parameter[0] in CODECS]
        if not found:
            return None
        codec, value = found[0]
        fits = Compression.from_parameter(codec, value, size=self.size, blocks=blocks)
        if len(found) == 1 and fits:
            check_codec(codec, self.base_url)
            return fits
        raise CorruptObjectError(
            f"cannot restore {self.text}: expected one parameter {codec} with the length of "
            f"the frame and those of its {blocks} blocks, {self.size} bytes in all, as "
            "spill_objects returned it."
        )


def decode_url(url: bytes | str) -> str:
    """Return a URL as a text.

    Raises
    ------
    InvalidArgumentError
        It is of another type, or not UTF-8.
    """
    try:
        text = url.decode() if isinstance(url, bytes) else url
    except UnicodeDecodeError as error:
        raise _not_a_url(url) from error
    if not isinstance(text, str):
        raise _not_a_url(text)
    return text


def version_parameter(version: str) -> list[str]:
    """Return the parameters of a URL that name the version of its file."""
    return [f"{VERSION}={quote(version, safe='')}"] if version else []


def create_url_with_offset(*, url: str, offset: int, size: int) -> str:
    """Return the URL of the frame of `size` bytes at `offset` of the fused file `url`.

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
    InvalidArgumentError
        `url` or one of the numbers cannot be part of such a URL.
    """
    if not url or "?" in url or "#" in url:
        raise InvalidArgumentError(
            f"cannot make a URL with offset of {url!r}: expected the name of a file without '?' "
            "and '#', because Ray splits URLs there."
        )
    if not 0 <= offset < _LIMIT or not 0 <= size < _LIMIT:
        raise InvalidArgumentError(
            f"cannot make a URL with offset of {url!r}: expected offset and size of 0 or more "
            f"bytes, below 10**19, found offset {offset} and size {size}."
        )
    return f"{url}?offset={offset}&size={size}"


def parse_url_with_offset(url_with_offset: str) -> ParsedURL:
    """Parse a URL that `create_url_with_offset` made, ignoring further parameters.

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
    InvalidArgumentError
        Not such a URL. Nothing is guessed: each of the two numbers must occur once.
    """
    return _parse(url_with_offset, _split_query(url_with_offset))


def _split_query(url_with_offset: str) -> list[tuple[str, str]]:
    items = [item.partition("=") for item in url_with_offset.partition("?")[2].split("&")]
    return [(name, value) for name, _, value in items]


def _parse(url_with_offset: str, parameters: Sequence[tuple[str, str]]) -> ParsedURL:
    base_url = url_with_offset.partition("?")[0]
    offsets = [value for name, value in parameters if name == "offset"]
    sizes = [value for name, value in parameters if name == "size"]
    once = len(offsets) == len(sizes) == 1
    if not base_url or "#" in base_url or not once or not _all_integers(offsets + sizes):
        raise _not_a_url(url_with_offset)
    return ParsedURL(base_url, int(offsets[0]), int(sizes[0]))


def _not_a_url(found: object) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"not the URL of a spilled object: {found!r}. Expected "
        "'<file>?offset=<bytes>&size=<bytes>', as spill_objects returned it."
    )


def _all_integers(values: Sequence[str]) -> bool:
    return all(_INTEGER.fullmatch(value) for value in values)
