"""Configurations with comments."""

from __future__ import annotations

import ast
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fsspill.deployment.commented import comment, to_python, to_yaml, without_comments

NESTED = {
    "# A comment.": None,
    "name": "value",
    "empty": {},
    "list": [
        "# Of an item.",
        {"# Of its first field.": None, "a": 1, "# Of its second.": None, "b": ["x", "z"]},
        "plain",
    ],
    "deep": {"deeper": {"# Why.": None, "at": True}},
}
PLAIN = {
    "name": "value",
    "empty": {},
    "list": [{"a": 1, "b": ["x", "z"]}, "plain"],
    "deep": {"deeper": {"at": True}},
}


def fits(text: str) -> bool:
    """Return False for a text that YAML cannot have: both of these in one."""
    return text.isprintable() or max(text, default="") < "𐀀"


NAMES = st.text("abcdefgh", min_size=1, max_size=5)
CHARACTERS = st.one_of(st.characters(max_codepoint=0xFFFF), st.sampled_from("\"'#:{}[]- 𐀀"))
TEXTS = st.text(CHARACTERS, max_size=12).filter(lambda text: text[:1] != "#" and fits(text))
SCALARS = st.one_of(st.integers(), st.booleans(), TEXTS)


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    items = st.one_of(SCALARS, st.dictionaries(NAMES, inner, min_size=1, max_size=3))
    return st.one_of(st.lists(items, max_size=3), st.dictionaries(NAMES, inner, max_size=3))


VALUES = st.recursive(SCALARS, nested, max_leaves=10)


def test_comments_stand_before_what_they_are_about() -> None:
    """In YAML as Kubernetes writes it."""
    assert to_yaml(NESTED).splitlines() == [
        "# A comment.",
        "name: value",
        "empty: {}",
        "list:",
        "# Of an item.",
        "# Of its first field.",
        "- a: 1",
        "  # Of its second.",
        "  b:",
        "  - x",
        "  - z",
        "- plain",
        "deep:",
        "  deeper:",
        "    # Why.",
        "    at: true",
    ]


def test_without_comments_the_configuration_is_left() -> None:
    """For programs."""
    assert without_comments(NESTED) == PLAIN
    assert yaml.safe_load(to_yaml(NESTED)) == PLAIN


@pytest.mark.parametrize(
    "text", ["yes", "No", "null", "~", "5", "1e3", "a: b", "", " x", "'\"", "-"]
)
def test_texts_stay_texts(text: str) -> None:
    """Whatever YAML would make of them."""
    assert yaml.safe_load(to_yaml({"x": text, "y": [text]})) == {"x": text, "y": [text]}


@given(st.dictionaries(NAMES, VALUES, min_size=1, max_size=4))
def test_yaml_loads_as_it_was(value: Any) -> None:
    """Any configuration."""
    assert yaml.safe_load(to_yaml(value)) == value


def test_a_literal_of_python_evaluates_to_the_configuration() -> None:
    """Nested mappings, lists and numbers."""
    value = {"# Why.": None, "a": {"b": ["x", "y"], "# Later.": None}, "c": True, "d": 5, "e": '"𐀀'}
    text = to_python(value)
    assert ast.literal_eval(text) == without_comments(value)
    assert "    # Why.\n" in text
    assert "        # Later.\n" in text


def test_a_comment_is_wrapped_between_words() -> None:
    """Not between a number and its unit; an indented paragraph stays indented."""
    lines = comment("word " * 11 + "5 MiB\n  a command \\\n\nlast", 2)
    assert lines == [
        "  # " + " ".join(["word"] * 11),
        "  # 5 MiB",
        "  #   a command \\",
        "  #",
        "  # last",
    ]
    assert all(len(line) <= 60 for line in lines)
