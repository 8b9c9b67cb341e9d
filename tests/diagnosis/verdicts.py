"""Verdicts by the names of their checks."""

from __future__ import annotations

from typing import Any

from fsspill.diagnosis.run import diagnose
from fsspill.diagnosis.verdict import Verdict


def check(uri: str, *, speed: bool = False, **params: Any) -> dict[str, Verdict]:
    """Return the verdicts on a URI and this machine, by the names of their checks."""
    config = {"type": "fsspec", "params": {"uri": uri, **params}}
    return {verdict.name: verdict for verdict in diagnose(config, speed=speed).verdicts}


def outcomes(verdicts: dict[str, Verdict], *names: str) -> list[str]:
    """Return the outcomes of some checks."""
    return [verdicts[name].outcome for name in names]
