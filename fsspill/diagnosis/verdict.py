"""Verdicts of checks, and the list in which the checks of one subject enter theirs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, TypeAlias

from fsspill.errors import FsspillError, is_transient, translate
from fsspill.progress import Progress, ignore_progress

__all__ = [
    "NOT_OF_THIS_STORAGE",
    "Checklist",
    "Finding",
    "Outcome",
    "Verdict",
    "failed",
    "ok",
    "skipped",
    "warning",
]

Outcome: TypeAlias = Literal["ok", "warning", "failed", "skipped"]
"""``failed`` keeps this machine from spilling; a ``warning`` does not."""


class Finding(NamedTuple):
    """The result of a check.

    Attributes
    ----------
    outcome : Outcome
        The judgement.
    found : str
        The facts behind it.
    advice : str
        The action to take; empty if there is none.
    """

    outcome: Outcome
    found: str
    advice: str = ""


class Verdict(NamedTuple):
    """The finding of a named check.

    Attributes
    ----------
    uri : str
        The URI that was checked; empty for the machine itself.
    name : str
        The check.
    outcome, found, advice
        As in `Finding`.
    """

    uri: str
    name: str
    outcome: Outcome
    found: str
    advice: str = ""


def ok(found: str) -> Finding:
    """Return the finding of a check that found nothing wrong."""
    return Finding("ok", found)


def warning(found: str, advice: str) -> Finding:
    """Return the finding of something that costs time, money or safety."""
    return Finding("warning", found, advice)


def failed(found: str, advice: str) -> Finding:
    """Return the finding of something that keeps this machine from spilling."""
    return Finding("failed", found, advice)


def skipped(reason: str) -> Finding:
    """Return the finding of a check that was not made."""
    return Finding("skipped", reason)


NOT_OF_THIS_STORAGE = skipped("not of this storage")


class Checklist:
    """The verdicts on one URI, or on the machine, in the order of the checks.

    Parameters
    ----------
    uri : str
        The URI; empty for the machine.
    progress : callable, optional
        Receives the name of each check as it begins.

    Attributes
    ----------
    verdicts : list of Verdict
        The verdicts so far.
    """

    def __init__(self, uri: str = "", progress: Progress = ignore_progress) -> None:
        self.verdicts: list[Verdict] = []
        self._uri = uri
        self._progress = progress
        self._is_silent = False

    def run(
        self,
        name: str,
        check: Callable[[], Finding],
        *,
        needs: Sequence[str] = (),
        otherwise: Outcome = "failed",
    ) -> None:
        """Make a check, and enter its verdict.

        Parameters
        ----------
        name : str
            The check.
        check : callable
            Makes it. Whatever it raises is a verdict too; only what ends the process passes.
        needs : sequence of str
            Checks that must have succeeded. It is skipped unless they have, and also once the
            storage did not answer another one: each would wait as long.
        otherwise : Outcome
            The outcome if it raises.
        """
        self._progress(name, 0, 0)
        reason = self._obstacle(needs)
        finding = skipped(f"not tried: {reason}") if reason else self._make(name, check, otherwise)
        self.verdicts.append(Verdict(self._uri, name, *finding))

    def _obstacle(self, needs: Sequence[str]) -> str:
        if self._is_silent:
            return "the storage does not answer"
        outcomes = {verdict.name: verdict.outcome for verdict in self.verdicts}
        lacking = [need for need in needs if outcomes.get(need) not in ("ok", "warning")]
        return f"it needs {lacking[0]}" if lacking else ""

    def _make(self, name: str, check: Callable[[], Finding], otherwise: Outcome) -> Finding:
        try:
            return check()
        except Exception as error:
            failure = translate(error, "cannot check", f"{name} {self._uri}".strip())
            self._is_silent = failure is error and is_transient(failure)
            found, advice = _split(failure)
            return Finding(otherwise, found, "" if otherwise == "skipped" else advice)


def _split(error: FsspillError) -> tuple[str, str]:
    """Return what an error says of its cause, and what it says to do."""
    cause, expected, advice = str(error).partition(" Expected ")
    return cause, f"{expected}{advice}".strip()
