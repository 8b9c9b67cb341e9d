"""All checks of a machine."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from fsspill.diagnosis.bucket import check_bucket
from fsspill.diagnosis.machine import check_machine, check_settings, installed_versions
from fsspill.diagnosis.parameters import (
    Parameter,
    Scope,
    parameters_in_effect,
    settings_in_effect,
)
from fsspill.diagnosis.permissions import check_permissions
from fsspill.diagnosis.speed import check_speed
from fsspill.diagnosis.trial import Trial
from fsspill.diagnosis.verdict import Checklist, Finding, Verdict, ok, warning
from fsspill.errors import ConfigError
from fsspill.progress import Progress, ignore_progress
from fsspill.settings import COPY_PARAMETERS, Settings
from fsspill.storage.protocols import traits_of

__all__ = ["Diagnosis", "diagnose"]


@dataclass
class Diagnosis:
    """The verdicts on one machine.

    Attributes
    ----------
    verdicts : list of Verdict
        Those on the machine, and on each URI.
    parameters : list of Parameter
        The parameters that are in effect; empty if they cannot work.
    versions : dict
        Installed packages.
    """

    verdicts: list[Verdict] = field(default_factory=list)
    parameters: list[Parameter] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=installed_versions)

    @property
    def can_spill(self) -> bool:
        """True if nothing keeps the machine from spilling."""
        return not any(verdict.outcome == "failed" for verdict in self.verdicts)

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        found = asdict(self)
        for name in ("verdicts", "parameters"):
            found[name] = [each._asdict() for each in getattr(self, name)]
        return {"can_spill": self.can_spill, **found}


def diagnose(
    config: Mapping[str, Any],
    *,
    source: str = "command line",
    scopes: Collection[Scope] = ("cluster", "node"),
    speed: bool = True,
    progress: Progress = ignore_progress,
) -> Diagnosis:
    """Check whether this machine can spill with a configuration.

    Parameters
    ----------
    config : mapping
        ``{"type": "fsspec", "params": {"uri": ..., ...}}``.
    source : str
        The place that it is from, as it is shown.
    scopes : collection of str
        The parameters that the environment of this process may set.
    speed : bool
        False to leave out the measurements.
    progress : callable, optional
        Receives the name of each check; see `fsspill.progress`.

    Returns
    -------
    Diagnosis
        The verdicts. Never raises for what is wrong with the machine, the configuration or the
        storage.

    Notes
    -----
    About 40 requests for each URI, and 150 to measure its speed; 10 seconds for each request that
    is not answered. All that it writes is removed, also after an exception such as
    KeyboardInterrupt.
    """
    found = Diagnosis()
    of_machine = Checklist(progress=progress)
    settings: Settings | None = None

    def configure() -> Finding:
        nonlocal settings
        settings, finding = _configure(config, scopes)
        return finding

    of_machine.run("configuration", configure)
    check_machine(_named_uris(config), of_machine)
    found.verdicts = of_machine.verdicts
    if settings:
        found.parameters = parameters_in_effect(settings, config, source)
        check_settings(settings, of_machine)
        for uri in settings.uri:
            found.verdicts += _check_uri(settings, uri, speed, progress)
    return found


def _configure(config: Mapping[str, Any], scopes: Collection[Scope]) -> tuple[Settings, Finding]:
    """Return the settings, without a local copy where that alone cannot work, as IO workers do."""
    try:
        return settings_in_effect(config, scopes), ok("the parameters can work")
    except ConfigError as error:
        settings = settings_in_effect(config, scopes, COPY_PARAMETERS)
        return settings, warning(f"no local copies: {error}", "Correct what is named.")


def _named_uris(config: Mapping[str, Any]) -> Sequence[str]:
    named = (config.get("params") or {}).get("uri") or []
    return [str(uri) for uri in ([named] if isinstance(named, str) else named)]


def _check_uri(settings: Settings, uri: str, speed: bool, progress: Progress) -> list[Verdict]:
    with Trial(settings, uri) as trial:
        checks = Checklist(trial.uri, progress)
        checks.run("filesystem", lambda: _open(trial))
        check_permissions(trial, checks)
        check_bucket(trial, checks)
        if speed:
            check_speed(trial, checks)
        checks.run("clean-up", lambda: _clean_up(trial), needs=["write"])
    return checks.verdicts


def _open(trial: Trial) -> Finding:
    fs = trial.open().connection.sync_fs
    found = f"{type(fs).__name__} of {type(fs).__module__.partition('.')[0]}"
    if traits_of(trial.uri).is_per_process:
        return warning(
            f"{found}: every process has a storage of its own, and Ray has many",
            "Use it as a library, or choose another URI for Ray.",
        )
    return ok(found)


def _clean_up(trial: Trial) -> Finding:
    trial.remove_files()
    if left := trial.count_left():
        named = (
            f"--node {trial.node_id}" if trial.location.node_local else f"--session {trial.session}"
        )
        return warning(
            f"{left} files of this check are left",
            f"Run 'fsspill clean {trial.uri} {named}' with the permission to delete.",
        )
    return ok("nothing is left")
