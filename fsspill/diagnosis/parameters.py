"""Parameters that are in effect on a machine, and the place that each comes from."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any, Literal, NamedTuple, TypeAlias

from fsspill.config import make_settings
from fsspill.environment import variable_of, with_environment
from fsspill.secrets import redact_options
from fsspill.settings import Settings
from fsspill.storage.protocols import traits_of

__all__ = ["Parameter", "Scope", "parameters_in_effect", "settings_in_effect"]

Scope: TypeAlias = Literal["cluster", "node"]


class Parameter(NamedTuple):
    """A parameter that is in effect.

    Attributes
    ----------
    name : str
        As in `Settings`.
    value
        Its value, without secrets, as JSON takes it.
    source : str
        The place that it comes from.
    """

    name: str
    value: Any
    source: str


def settings_in_effect(
    config: Mapping[str, Any], scopes: Collection[Scope], without: Collection[str] = ()
) -> Settings:
    """Return the settings of a configuration, completed by the environment of this process.

    Parameters
    ----------
    config : mapping
        ``{"type": "fsspec", "params": {...}}``.
    scopes : collection of str
        The parameters that the environment may set, as for `with_environment`.
    without : collection of str
        Parameters to leave out.

    Raises
    ------
    ConfigError
        They cannot work.
    """
    for scope in scopes:
        config = with_environment(config, scope, without)
    return make_settings(config)


def parameters_in_effect(
    settings: Settings, config: Mapping[str, Any], source: str
) -> list[Parameter]:
    """Return every parameter, with its place.

    Parameters
    ----------
    settings : Settings
        The settings that a configuration and the environment gave.
    config : mapping
        That configuration.
    source : str
        The name of the place that it is from.
    """
    return [
        Parameter(
            name := parameter.name,
            _shown(settings, name),
            _source(name, getattr(settings, name) == parameter.default, config, source),
        )
        for parameter in fields(settings)
    ]


def _shown(settings: Settings, name: str) -> Any:
    value = getattr(settings, name)
    if isinstance(value, Mapping):
        for uri in settings.uri:
            value = redact_options(value, traits_of(uri).key_is_an_id)
    return list(value) if isinstance(value, tuple) else value


def _source(name: str, is_default: bool, config: Mapping[str, Any], source: str) -> str:
    if name in (config.get("params") or {}):
        return source
    # A variable that could not work is left out, and the default is in effect.
    set_by_variable = os.environ.get(variable_of(name)) and not is_default
    return variable_of(name) if set_by_variable else "default"
