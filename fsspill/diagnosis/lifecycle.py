"""Lifecycle rules of S3, and what they do to spilled files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fsspill.diagnosis.verdict import Finding, ok, warning

__all__ = ["judge_rules"]

_SHORTEST = 7
"""Days within which a rule is likely to delete files of a session that lives."""

_FROZEN = frozenset({"GLACIER", "DEEP_ARCHIVE"})
"""Storage classes from which nothing is read at once."""


def judge_rules(rules: Sequence[Mapping[str, Any]], prefix: str) -> Finding:
    """Return what the lifecycle rules of a bucket mean for the files under a prefix.

    Parameters
    ----------
    rules : sequence of mapping
        As S3 describes them.
    prefix : str
        Beginning of the keys of all spilled files.
    """
    found = [rule for rule in rules if _applies(rule, prefix)]
    effects = [effect for rule in found for effect in _effects(rule)]
    if not effects:
        return ok("no rule for these files")
    text = "; ".join(text for text, _ in effects)
    if any(is_harmful for _, is_harmful in effects):
        return warning(
            text,
            "Objects of a session that lives longer are lost: exclude this prefix, or give the "
            "rule more days than any session lives.",
        )
    return ok(text)


def _applies(rule: Mapping[str, Any], prefix: str) -> bool:
    """Return True if a rule is about files under a prefix, or about some of them."""
    conditions = rule.get("Filter") or {}
    conditions = {**conditions, **(conditions.get("And") or {})}
    # Spilled files have no tags.
    if rule.get("Status") != "Enabled" or conditions.get("Tag") or conditions.get("Tags"):
        return False
    own = conditions.get("Prefix") or rule.get("Prefix") or ""
    return bool(prefix.startswith(own) or own.startswith(prefix))


def _effects(rule: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """Yield each effect of a rule, and True if it makes objects unreadable that are needed."""
    expiration = rule.get("Expiration") or {}
    if days := expiration.get("Days"):
        yield f"deletes files after {_days(days)}", days < _SHORTEST
    if date := expiration.get("Date"):
        yield f"deletes files that are older than {date:%Y-%m-%d}", True
    for transition in rule.get("Transitions") or []:
        target, days = transition.get("StorageClass"), transition.get("Days") or 0
        yield f"moves files to {target} after {_days(days)}", target in _FROZEN
    if days := (rule.get("NoncurrentVersionExpiration") or {}).get("NoncurrentDays"):
        yield f"deletes old versions after {_days(days)}", False
    if days := (rule.get("AbortIncompleteMultipartUpload") or {}).get("DaysAfterInitiation"):
        yield f"ends incomplete uploads after {_days(days)}", False


def _days(count: int) -> str:
    return f"{count:,} day{'s' * (count != 1)}"
