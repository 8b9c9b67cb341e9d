"""Lifecycle rules."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from fsspill.diagnosis.lifecycle import judge_rules


def rule(**parts: Any) -> dict[str, Any]:
    return {"Status": "Enabled", "Filter": {"Prefix": ""}, **parts}


EXPIRATION = {"Expiration": {"Days": 1}}


@pytest.mark.parametrize(
    ("parts", "outcome", "found"),
    [
        (EXPIRATION, "warning", "deletes files after 1 day"),
        ({"Expiration": {"Days": 30}}, "ok", "deletes files after 30 days"),
        (
            {"Expiration": {"Date": datetime(2026, 1, 2)}},
            "warning",
            "deletes files that are older than 2026-01-02",
        ),
        (
            {"Transitions": [{"Days": 2, "StorageClass": "GLACIER"}]},
            "warning",
            "moves files to GLACIER after 2 days",
        ),
        (
            {"Transitions": [{"Days": 30, "StorageClass": "STANDARD_IA"}]},
            "ok",
            "moves files to STANDARD_IA after 30 days",
        ),
        (
            {"NoncurrentVersionExpiration": {"NoncurrentDays": 1}},
            "ok",
            "deletes old versions after 1 day",
        ),
        (
            {"AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 3}},
            "ok",
            "ends incomplete uploads after 3 days",
        ),
        ({"Expiration": {"ExpiredObjectDeleteMarker": True}}, "ok", "no rule for these files"),
        ({**EXPIRATION, "Status": "Disabled"}, "ok", "no rule for these files"),
    ],
)
def test_the_effect_of_a_rule_is_told(parts: dict[str, Any], outcome: str, found: str) -> None:
    """It is a warning if objects may be needed by then."""
    finding = judge_rules([rule(**parts)], "x/")
    assert (finding.outcome, finding.found) == (outcome, found)
    assert bool(finding.advice) == (outcome == "warning")


@pytest.mark.parametrize(
    ("place", "applies"),
    [
        ({"Filter": {"Prefix": "x"}}, True),
        ({"Filter": {"Prefix": "x/session_1/"}}, True),
        ({"Filter": {"Prefix": "y/"}}, False),
        ({"Filter": {"And": {"Prefix": "x/", "Tags": [{"Key": "k", "Value": "v"}]}}}, False),
        ({"Filter": {"And": {"Prefix": "x/", "ObjectSizeGreaterThan": 3}}}, True),
        ({"Filter": {"Tag": {"Key": "k", "Value": "v"}}}, False),
        ({"Filter": {}}, True),
        ({"Filter": None, "Prefix": "y/"}, False),
    ],
)
def test_a_rule_counts_if_it_is_about_spilled_files(place: dict[str, Any], applies: bool) -> None:
    """Those under the prefix, which have no tags."""
    finding = judge_rules([rule(**EXPIRATION, **place)], "x/")
    assert (finding.outcome == "warning") == applies


def test_effects_of_several_rules_are_listed() -> None:
    """One that is harmful makes it a warning."""
    rules = [rule(Expiration={"Days": 30}), rule(**EXPIRATION)]
    finding = judge_rules(rules, "x/")
    assert finding.found == "deletes files after 30 days; deletes files after 1 day"
    assert finding.outcome == "warning"
