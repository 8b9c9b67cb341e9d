"""Chains of errors, without secrets."""

from __future__ import annotations

import inspect
import pickle
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fsspill import ConfigError, ExternalStorage, cleanup
from fsspill.cli.main import main
from fsspill.error_chain import RedactedError, redact_chain, redact_errors

SECRET = "https://h/c?sv=1&sig=hunter2"


class CustomError(OSError):
    """Builds its text from an attribute, as errors of SDKs do."""

    def __str__(self) -> str:
        return f"refused {SECRET}"


def by_cause() -> None:
    try:
        raise CustomError
    except CustomError as error:
        raise ConfigError("cannot") from error


def by_context() -> None:
    try:
        raise OSError(SECRET)
    except OSError:
        raise ConfigError("cannot")  # noqa: B904 (the claim)


def suppressed() -> None:
    try:
        raise OSError(SECRET)
    except OSError:
        raise ConfigError("cannot") from None


def deep() -> None:
    try:
        by_context()
    except ConfigError as error:
        try:
            raise KeyError("harmless") from error
        except KeyError as other:
            raise ConfigError("cannot") from other


def in_a_circle() -> None:
    first, second = OSError(SECRET), OSError("harmless")
    first.__context__, second.__context__ = second, first
    raise ConfigError("cannot") from first


def in_a_group() -> None:
    if sys.version_info < (3, 11):
        pytest.skip("Python 3.10 has no exception groups")
    inner = ExceptionGroup("inner", [OSError(SECRET)])  # noqa: F821 (Python 3.11)
    raise ConfigError("cannot") from ExceptionGroup("outer", [inner, KeyError()])  # noqa: F821


def in_a_member() -> None:
    if sys.version_info < (3, 11):
        pytest.skip("Python 3.10 has no exception groups")
    member = OSError("harmless")
    member.__cause__ = OSError(SECRET)
    raise ConfigError("cannot") from ExceptionGroup("several", [member])  # noqa: F821


def in_notes() -> None:
    if sys.version_info < (3, 11):
        pytest.skip("Python 3.10 has no notes")
    cause, error = OSError("harmless"), ConfigError("cannot")
    cause.add_note(SECRET)
    error.add_note(SECRET)
    raise error from cause


def in_the_message() -> None:
    raise ConfigError(f"cannot {SECRET}")


RAISERS = [
    by_cause, by_context, suppressed, deep, in_a_circle, in_a_group, in_a_member, in_notes,
    in_the_message,
]  # fmt: skip


def links(error: BaseException | None, seen: set[int]) -> Iterator[BaseException]:
    if error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        for other in (error.__cause__, error.__context__, *getattr(error, "exceptions", ())):
            yield from links(other, seen)


@pytest.mark.parametrize("raiser", RAISERS)
def test_chain_shows_no_secret(raiser: Callable[[], None]) -> None:
    """No exception that can be reached shows one, nor does a traceback."""
    with pytest.raises(ConfigError, match="cannot") as caught:
        redact_errors(raiser)()
    for link in links(caught.value, set()):
        assert "hunter2" not in f"{link} {link!r} {getattr(link, '__notes__', '')}"
    shown = "".join(traceback.format_exception(caught.value))
    assert "hunter2" not in shown
    assert raiser.__name__ in shown


def test_causes_without_a_secret_stay() -> None:
    """So handlers find their class, and programs their attributes."""
    cause, context = OSError(5, "harmless"), KeyError("harmless")
    error = ConfigError("cannot")
    error.__context__, error.__cause__ = context, cause
    redact_chain(error)
    assert error.__cause__ is cause
    assert error.__context__ is context
    assert error.__suppress_context__


def test_a_context_that_was_shown_is_shown() -> None:
    """Class, text and the lines of the code remain of a cause with a secret."""
    with pytest.raises(ConfigError) as caught:
        redact_errors(by_context)()
    assert isinstance(caught.value.__context__, RedactedError)
    shown = "".join(traceback.format_exception(caught.value))
    assert "OSError: https://h/c?sv=1&sig=***" in shown
    assert "During handling of the above exception" in shown
    assert "raise OSError(SECRET)" in shown


def test_message_of_every_error_is_redacted() -> None:
    """Wherever it was made, and after it was pickled."""
    error = pickle.loads(pickle.dumps(ConfigError(f"cannot {SECRET}", 5)))
    assert error.args == ("cannot https://h/c?sv=1&sig=***", 5)


def public(owner: Any) -> Iterator[Any]:
    yield from (
        each for name, each in inspect.getmembers(owner, inspect.isfunction) if name[0] != "_"
    )


def test_every_public_function_that_makes_requests_redacts_its_errors() -> None:
    """A new one must be decorated too; destroying never raises, and stats makes no request."""
    functions = [*public(ExternalStorage), *public(cleanup), main]
    bare = {each.__name__ for each in functions if not hasattr(each, "__wrapped__")}
    assert bare == {"destroy_external_storage", "stats"}
