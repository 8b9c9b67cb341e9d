"""Parameters that are set in the environment, as ``FSSPILL_<NAME>``."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import Field, fields
from difflib import get_close_matches
from typing import Any, Literal

from fsspill.errors import ConfigError
from fsspill.settings import Settings

__all__ = ["with_environment"]

_PREFIX = "FSSPILL_"
_NO_PARAMETERS = ("FSSPILL_HOOK",)


def with_environment(
    config: Mapping[str, Any], scope: Literal["cluster", "node"]
) -> Mapping[str, Any]:
    """Return a configuration with the parameters that only the environment sets.

    Parameters
    ----------
    config : mapping
        Its parameters win over those of the environment.
    scope : {"cluster", "node"}
        Parameters to look for: those that all nodes have in common, which the head distributes, or
        those that each may have for itself.

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
        if parameter.metadata["scope"] == scope and os.environ.get(_variable(parameter.name))
    }
    return {**config, "params": {**found, **params}}


def _variable(name: str) -> str:
    return _PREFIX + name.upper()


def _value(parameter: Field[Any]) -> Any:
    """Return a value of the type of its parameter; texts are as they are, all else is JSON."""
    variable = _variable(parameter.name)
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
    known = [_variable(parameter.name) for parameter in fields(Settings)]
    for variable in os.environ:
        if variable.startswith(_PREFIX) and variable not in (*known, *_NO_PARAMETERS):
            nearest = get_close_matches(variable, known, n=1, cutoff=0.85)
            if nearest:
                raise ConfigError(
                    f"cannot use {variable} in the environment: there is no such parameter. Did "
                    f"you mean {nearest[0]}?"
                )
