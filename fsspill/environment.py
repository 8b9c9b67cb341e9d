"""Parameters that are set in the environment, as ``FSSPILL_<NAME>``."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from dataclasses import Field, fields
from difflib import get_close_matches
from typing import Any, Literal

from fsspill.errors import ConfigError
from fsspill.secrets import redact_options
from fsspill.settings import Settings

__all__ = ["require_same_parameters", "variable_of", "with_environment"]

_PREFIX = "FSSPILL_"
_NO_PARAMETERS = ("FSSPILL_HOOK",)


def with_environment(
    config: Mapping[str, Any],
    scope: Literal["cluster", "node"],
    without: Collection[str] = (),
) -> Mapping[str, Any]:
    """Return a configuration with the parameters that only the environment sets.

    Parameters
    ----------
    config : mapping
        Its parameters win over those of the environment.
    scope : {"cluster", "node"}
        Parameters to look for: those that all nodes have in common, which the head distributes, or
        those that each may have for itself.
    without : collection of str
        Parameters to leave out, wherever they are set.

    Raises
    ------
    ConfigError
        A variable has a value that cannot work, or nearly the name of a parameter.
    """
    params = config.get("params")
    if config.get("type") != "fsspec" or not isinstance(params, Mapping):
        return config
    _check_variables()
    found = {
        parameter.name: _value(parameter)
        for parameter in fields(Settings)
        if parameter.metadata["scope"] == scope
        and os.environ.get(variable_of(parameter.name))
        and parameter.name not in without
    }
    given = {name: value for name, value in params.items() if name not in without}
    return {**config, "params": {**found, **given}}


def require_same_parameters(config: Mapping[str, Any]) -> None:
    """Check that the environment of this node agrees with the configuration of its cluster.

    Parameters
    ----------
    config : mapping
        The configuration that the head has distributed, of type ``fsspec``.

    Raises
    ------
    ConfigError
        A variable sets a parameter that all nodes have in common, but for the URI, to another
        value; the message has both. Or it has a value that cannot work.
    """
    _check_variables()
    params = config.get("params") or {}
    for parameter in fields(Settings):
        variable = variable_of(parameter.name)
        common = parameter.metadata["scope"] == "cluster" and parameter.name != "uri"
        if not common or not os.environ.get(variable):
            continue
        own = _value(parameter)
        given = params.get(parameter.name, parameter.default)
        checked = parameter.metadata["check"](parameter.name, given)
        if own != checked:
            raise ConfigError(
                f"cannot start this node with {variable}={_shown(own)}: the head of the cluster "
                f"has {parameter.name}={_shown(checked)}, which all nodes have in common. Leave "
                f"{variable} out here, or set it for the head."
            )


def _shown(value: Any) -> str:
    return repr(redact_options(value, False) if isinstance(value, Mapping) else value)


def variable_of(name: str) -> str:
    """Return the variable that sets a parameter."""
    return _PREFIX + name.upper()


def _value(parameter: Field[Any]) -> Any:
    """Return a value of the type of its parameter; texts are as they are, all else is JSON."""
    variable = variable_of(parameter.name)
    text = os.environ[variable]
    is_text = str(parameter.type).startswith("str")
    value = text if is_text and not text.startswith("[") else _parsed(text)
    return parameter.metadata["check"](variable, value)


def _parsed(text: str) -> Any:
    """Return the value of JSON, also with Python's True and False; other texts as they are."""
    try:
        return json.loads(text.lower() if text.lower() in ("true", "false") else text)
    except ValueError:
        return text


def _check_variables() -> None:
    """Raise ConfigError for a variable whose name is nearly that of a parameter."""
    known = [variable_of(parameter.name) for parameter in fields(Settings)]
    for variable in os.environ:
        if variable.startswith(_PREFIX) and variable not in (*known, *_NO_PARAMETERS):
            nearest = get_close_matches(variable, known, n=1, cutoff=0.85)
            if nearest:
                raise ConfigError(
                    f"cannot use {variable} in the environment: there is no such parameter. Did "
                    f"you mean {nearest[0]}?"
                )
