"""URLs with offset."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsspill import ParsedURL, create_url_with_offset, parse_url_with_offset

files = st.text(
    st.characters(exclude_characters="?#", exclude_categories=["Cs"]), min_size=1, max_size=80
)
counts = st.integers(0, 2**63)


@given(url=files, offset=counts, size=counts)
def test_parse_is_the_inverse_of_create(url: str, offset: int, size: int) -> None:
    """Any file, offset and size are parsed to the same values."""
    made = create_url_with_offset(url=url, offset=offset, size=size)
    assert parse_url_with_offset(made) == (url, offset, size)


@given(url=files, extra=st.from_regex(r"[a-z]{3,5}=[a-zA-Z0-9]{0,9}", fullmatch=True))
def test_unknown_parameters_are_ignored(url: str, extra: str) -> None:
    """A URL may carry more than Ray's two parameters."""
    made = create_url_with_offset(url=url, offset=1, size=2)
    assert parse_url_with_offset(f"{made}&{extra}") == (url, 1, 2)


def test_urls_have_the_form_that_ray_documents() -> None:
    r"""The raylet's pattern is ``^(.*)\?offset=(\d+)&size=(\d+)$``."""
    assert create_url_with_offset(url="/a/b", offset=3, size=40) == "/a/b?offset=3&size=40"
    assert parse_url_with_offset("s3://b/k?offset=3&size=40") == ParsedURL("s3://b/k", 3, 40)


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "/a",
        "/a?",
        "/a?offset=1",
        "/a?size=1",
        "/a?offset=&size=1",
        "/a?offset=-1&size=1",
        "/a?offset=1&size=1.5",
        "/a?offset=1&size=\u0661",
        "/a?offset=1&offset=2&size=1",
        "/a?offset=1 &size=1",
        "/a#b?offset=1&size=1",
        "?offset=1&size=1",
        "/a?offset=" + "9" * 5000 + "&size=1",
    ],
)
def test_malformed_urls_are_refused(bad: str) -> None:
    """No number is guessed; the message shows the URL and the form that was expected."""
    with pytest.raises(ValueError, match=r"Expected '<file>\?offset=<bytes>&size=<bytes>'"):
        parse_url_with_offset(bad)


@pytest.mark.parametrize(("url", "offset", "size"), [("", 0, 1), ("a?b", 0, 1), ("a#b", 0, 1)])
def test_file_names_that_ray_would_split_are_refused(url: str, offset: int, size: int) -> None:
    """Ray would drop what follows a ``?`` or ``#`` in the name of a file."""
    with pytest.raises(ValueError, match="without '\\?' and '#'"):
        create_url_with_offset(url=url, offset=offset, size=size)


@pytest.mark.parametrize(("offset", "size"), [(-1, 1), (0, -1)])
def test_negative_numbers_are_refused(offset: int, size: int) -> None:
    """Offset and size are 0 or more."""
    with pytest.raises(ValueError, match="0 or more"):
        create_url_with_offset(url="a", offset=offset, size=size)
