"""docs/troubleshooting.md has every message of the package, and nothing else."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

import fsspill
from tests.contract.messages import Message, messages

PACKAGE = Path(fsspill.__file__).parent
PAGE = Path(__file__).parents[2] / "docs" / "troubleshooting.md"

OTHER_TEXTS = {
    "bench/": "what fsspill bench prints, and the text of its charts",
    "cli/": "help and results",
    "demo.py": "steps that are shown",
    "deployment/": "what fsspill config prints",
    "diagnosis/": "verdicts of fsspill check, in docs/commands.md",
    "http_answer.py": "patterns of the texts of servers",
    "inspection.py": "what is told of a file, in docs/commands.md",
    "metrics.py": "the meaning of each metric, in docs/metrics.md",
    "monitoring/alerts.py": "the text of alerts, which says what to do",
    "monitoring/expressions.py": "expressions of PromQL",
    "monitoring/panels.py": "titles of the dashboard",
    "ray/cluster_diagnosis.py": "verdicts of fsspill check, in docs/commands.md",
    "ray/internals.py": "what follows where Ray lacks an attribute, for developers",
    "ray_config.py": "the end of a message that is on the page: what to use instead of a parameter",
    "settings.py": "the meaning of each parameter, in the README",
    "storage/internals.py": "what follows where a library lacks an attribute, for developers",
    "storage/prices.py": "sources of prices",
    "storage/protocols.py": "the variables of credentials, in the README",
    "storage/spellings.py": "what is said of each spelling, in docs/uris.md",
    "system_error.py": "patterns of the texts of servers",
    "testing/contract.py": "patterns of messages, and reasons for skipping tests",
}
"""Files in which prose is no message, and what it is. What they raise or log still is."""

ROW = re.compile(r"^\| (`.*?`) \| (.+) \|$", re.MULTILINE)
SURROUNDING = " ….,:()"
LARGEST = 40_000


def rows() -> list[tuple[list[str], str]]:
    """Return the entries of each row, and what it says of them."""
    return [
        (re.findall(r"`([^`]+)`", first), rest) for first, rest in ROW.findall(PAGE.read_text())
    ]


ENTRIES = [entry for entries, _ in rows() for entry in entries]
MESSAGES = messages(PACKAGE, OTHER_TEXTS)
ALL_TEXTS = messages(PACKAGE, ())


def find_entry(text: str, entries: list[str]) -> str | None:
    """Return the longest entry with which a message begins, or which it is."""
    text = text.strip(SURROUNDING)
    found = [entry for entry in entries if text.startswith(entry.strip(SURROUNDING))]
    whole = [entry for entry in found if entry.strip(SURROUNDING) == text]
    return max(whole or found, key=len, default=None)


def compare(found: list[Message], entries: list[str]) -> list[str]:
    """Return what is wrong with a page that has these entries, a line for each."""
    texts: dict[str, dict[str, str]] = defaultdict(dict)
    wrong = []
    for message in found:
        entry = find_entry(message.text, entries)
        if entry is None:
            wrong.append(f"{message.place}: no entry for {message.text!r}")
        else:
            texts[entry].setdefault(message.text.strip(SURROUNDING), message.place)
    for entry in entries:
        if entry not in texts:
            wrong.append(f"no message begins with the entry {entry!r}")
        elif len(texts[entry]) > 1:
            longest, place = max(texts[entry].items(), key=lambda item: len(item[0]))
            wrong.append(f"{place}: the entry {entry!r} is of another message than {longest!r}")
    return wrong


def test_every_message_is_on_the_page_and_every_entry_is_in_the_code() -> None:
    """A row of the page begins with the message, or with enough of it to tell it from others."""
    wrong = compare(MESSAGES, ENTRIES)
    assert not wrong, (
        "docs/troubleshooting.md needs an entry for each new message, | `its beginning` | cause "
        "and what to do |, with … for what is put in, and none for others. If the texts of a "
        "module are no messages, say what they are in OTHER_TEXTS of this file.\n"
        + "\n".join(wrong)
    )


def test_every_row_says_what_to_do() -> None:
    """Each entry is there once, and the page stays one that people read."""
    assert len(set(ENTRIES)) == len(ENTRIES)
    assert all(len(rest.split()) > 1 for _, rest in rows())
    tables = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    assert len(tables) == len(rows())
    assert PAGE.stat().st_size < LARGEST


@pytest.mark.parametrize("name", OTHER_TEXTS)
def test_modules_with_other_texts_exist_and_have_some(name: str) -> None:
    """An exception for a module that needs none would hide what comes later."""
    others = set(ALL_TEXTS) - set(MESSAGES)
    assert any(text.place.startswith(f"{PACKAGE.name}/{name}") for text in others)


FOUND = [
    ('raise ValueError("the bucket is missing")', "the bucket is missing"),
    ('raise click.BadParameter("missing")', "missing"),
    ('raise ValueError(f"{uri!r}: {count} are missing")', "…: … are missing"),
    ('raise ValueError("the bucket " "is missing" + uri)', "the bucket is missing…"),
    ('raise ValueError("missing %s, %d" % (uri, 3))', "missing …, …"),
    ('raise ValueError("missing {}".format(uri))', "missing …"),
    ('raise ValueError("missing" if one else name)', "missing"),
    ('error = OSError(5, "missing")', "missing"),
    ('return cls(f"missing {uri}")', "missing …"),
    ('raise type(error)("missing")', "missing"),
    ('logger.warning("missing %s: %r", uri, error)', "missing …: …"),
    ('logger.error("missing")', "missing"),
    ('logger.log(level, "missing", extra=LIMITED)', "missing"),
    ('self._notifier.notify("topic", f"{error} Mend it.")', "… Mend it."),
    ('push_error_to_driver(worker, "fsspill", "is missing")', "is missing"),
    ('print("is missing", file=sys.stderr)', "is missing"),
    ('sys.stderr.write(f"is missing: {uri}")', "is missing: …"),
    ('click.echo("is missing", err=True)', "is missing"),
    ('parser.error("is missing")', "is missing"),
    ('sys.exit("is missing")', "is missing"),
    ('raise _bucket_error(uri, "gone")', "gone"),
    ('text = "gone"; raise ValueError(text)', "gone"),
    ('text: str = f"gone {uri}" if uri else ""; raise ValueError(text)', "gone …"),
    ('translate(error, "will not list", uri)', "will not list"),
    ('client.call(find, "cannot list", uri)', "cannot list"),
    ('_TEXT = "the bucket is missing"', "the bucket is missing"),
    (
        '_TABLE = {404: ("missing", "create it, or correct the URI")}',
        "create it, or correct the URI",
    ),
    ('return f"is missing on {node}, create it"', "is missing on …, create it"),
    ("x = f\"{'that is missing' if one else 3}\"", "that is missing"),
    ('x = "a" + f"{\'that is missing\' if one else 3}"', "that is missing"),
]


@pytest.mark.parametrize(("code", "text"), FOUND, ids=[code for code, _ in FOUND])
def test_a_message_is_found(code: str, text: str, tmp_path: Path) -> None:
    """Wherever it is made; and a page without it is wrong, in one line that names it."""
    (tmp_path / "new.py").write_text(f"def function():\n    '''Do it.'''\n    {code}\n")
    found = messages(tmp_path, ())
    assert Message(text, f"{tmp_path.name}/new.py:3") in found
    assert f"{tmp_path.name}/new.py:3: no entry for {text!r}" in compare(found, [])


@pytest.mark.parametrize(
    "code",
    [
        '"""Return what is missing here."""',
        'logger.debug("the bucket is missing: %s", uri)',
        'logger.info("the bucket is missing: %s", uri)',
        'pattern = re.compile("the bucket is missing")',
        'x: "the bucket is missing" = 3',
        "raise ValueError(uri)",
        'x = options.get("key", "a value")',
    ],
)
def test_other_strings_are_no_messages(code: str, tmp_path: Path) -> None:
    """Docstrings, patterns, names, and lines of the log that are only there if asked for."""
    (tmp_path / "new.py").write_text(f"def function():\n    {code}\n")
    ast.parse((tmp_path / "new.py").read_text())
    assert messages(tmp_path, ()) == []


def test_what_is_raised_is_a_message_in_modules_with_other_texts(tmp_path: Path) -> None:
    """Their prose is not."""
    (tmp_path / "new.py").write_text('x = "that is a text"\nraise ValueError("missing")\n')
    assert [message.text for message in messages(tmp_path, ["new.py"])] == ["missing"]


@pytest.mark.parametrize(
    ("text", "entries", "wrong"),
    [
        ("cannot list …: it is gone", ["cannot list …: it is gone"], 0),
        ("cannot list …: it is gone. Make it.", ["cannot list …: it is gone"], 0),
        ("… is gone.", ["is gone"], 0),
        ("cannot list …: it is gone", ["cannot list", "cannot list …: it is gone"], 1),
        ("cannot list …: it is gone", ["cannot read"], 2),
    ],
)
def test_the_comparison(text: str, entries: list[str], wrong: int) -> None:
    """An entry is the beginning of its message; one without a message is wrong."""
    assert len(compare([Message(text, "x.py:1")], entries)) == wrong


def test_an_entry_stands_for_one_message() -> None:
    """A new message that begins like another needs a row of its own."""
    found = [Message("cannot list: gone", "x.py:1"), Message("cannot list: refused", "y.py:2")]
    [line] = compare(found, ["cannot list"])
    assert line.startswith("y.py:2: ")
    assert compare([*found, *found], ["cannot list: gone", "cannot list: refused"]) == []
