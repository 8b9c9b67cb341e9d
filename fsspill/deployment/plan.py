"""A plan of a deployment: the URIs, all settings, and the credentials."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fsspill.deployment.choices import Choice, choose_parameters, choose_ray_settings
from fsspill.deployment.credentials import (
    Credentials,
    Source,
    choose_source,
    credentials_of,
    plain_variables,
)
from fsspill.settings import MIB, Settings
from fsspill.storage.uri import check_shared_by_processes

__all__ = ["COPY_BYTES", "COPY_DIRECTORY", "Plan", "make_plan"]

COPY_DIRECTORY = "/mnt/fsspill"
"""Mount point of the volume for local copies in a pod."""

COPY_BYTES = 20 * 1024 * MIB
"""Bytes of the local copies of a node, unless the user says."""


@dataclass(frozen=True)
class Plan:
    """A deployment, before it takes any form.

    Attributes
    ----------
    settings : Settings
        The parameters of fsspill, checked.
    object_size : int or None
        Bytes of most objects.
    roles, secrets : tuple of Credentials
        The credentials that pods get from a role of their service account, and from a secret.
    variables : mapping
        Environment variables that every node needs; None where the value is a secret.
    """

    settings: Settings
    object_size: int | None
    roles: tuple[Credentials, ...]
    secrets: tuple[Credentials, ...]
    variables: Mapping[str, str | None]

    @property
    def parameters(self) -> Sequence[Choice]:
        """The parameters of fsspill besides the URI."""
        return choose_parameters(self.settings, self.object_size)

    @property
    def ray_settings(self) -> Sequence[Choice]:
        """The settings of Ray."""
        return choose_ray_settings(self.settings, self.object_size)

    @property
    def uri(self) -> str | list[str]:
        """The URI, or a list of several."""
        uris = list(self.settings.uri)
        return uris[0] if len(uris) == 1 else uris

    def environment(self) -> Iterator[Choice]:
        """Yield variables of the environment; the reason is empty where the name says it."""
        yield Choice("FSSPILL_URI", _text(self.uri), "")
        for each in self.parameters:
            yield each._replace(name=f"FSSPILL_{each.name.upper()}", value=_text(each.value))
        for each in self.ray_settings:
            yield each._replace(name=f"RAY_{each.name}", value=_text(each.value))
        yield from self.variables_from_here()

    def variables_from_here(self) -> Iterator[Choice]:
        """Yield the variables that were found in the environment of this process."""
        for name, value in self.variables.items():
            if value is None:
                reason = "Set here, with a password: put it where the other secrets are."
                yield Choice(name, "...", reason, optional=True)
            else:
                yield Choice(name, value, "As in the environment of 'fsspill config'.")


def _text(value: Any) -> str:
    """Return a value as a variable of the environment has it: texts as they are, all else JSON."""
    return value if isinstance(value, str) else json.dumps(value)


def make_plan(
    uris: Sequence[str],
    *,
    kubernetes: bool = False,
    shared: bool = False,
    object_size: int | None = None,
    cache_dir: str | None = None,
    cache_max_bytes: int | None = None,
    source: Source | None = None,
) -> Plan:
    """Return a plan that can work.

    Parameters
    ----------
    uris : sequence of str
        URIs to spill to.
    kubernetes : bool, optional
        True for pods, which keep local copies in a volume unless `cache_max_bytes` is 0.
    shared : bool, optional
        True if ``file://`` directories are mounted on every node.
    object_size : int, optional
        Bytes of most objects.
    cache_dir, cache_max_bytes
        The local copy; of `COPY_BYTES` if only the directory is given.
    source : str, optional
        Where pods get their credentials from; as is usual for the storage if not given.

    Raises
    ------
    FsspillError
        A URI or a parameter cannot work; the message says why.

    Notes
    -----
    Makes no request. The packages of the URIs must be installed.
    """
    settings = Settings.of(list(uris), shared=shared)
    for uri in settings.uri:
        check_shared_by_processes(uri)
    if kubernetes and not settings.local:
        cache_dir = cache_dir or COPY_DIRECTORY
    if cache_max_bytes is None:
        cache_max_bytes = COPY_BYTES if cache_dir else None
    elif not cache_max_bytes:
        cache_dir = cache_max_bytes = None
    settings = Settings.of(settings, cache_dir=cache_dir, cache_max_bytes=cache_max_bytes)
    found = {credentials_of(uri): choose_source(uri, source) for uri in settings.uri}
    return Plan(
        settings,
        object_size,
        tuple(each for each, chosen in found.items() if chosen == "role"),
        tuple(each for each, chosen in found.items() if chosen == "secret"),
        {name: value for uri in settings.uri for name, value in plain_variables(uri).items()},
    )
