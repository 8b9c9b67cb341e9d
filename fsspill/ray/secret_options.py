"""Secrets in a configuration, which Ray would show: rejected, with a safe place for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fsspill.errors import ConfigError
from fsspill.secrets import find_secrets
from fsspill.storage.protocols import protocol_of, traits_of

__all__ = ["reject_secret_options"]


def reject_secret_options(uri: str, storage_options: Mapping[str, Any]) -> None:
    """Reject options with secrets, for storage that is configured through Ray.

    Parameters
    ----------
    uri : str
        The URI that the options are for.
    storage_options : mapping
        The user's options for the filesystem.

    Raises
    ------
    ConfigError
        Some of them carry a secret (`fsspill.secrets.find_secrets`). The message names the options,
        never their values, and the environment variables that take them.
    """
    names = find_secrets(storage_options, traits_of(uri).key_is_an_id)
    if not names:
        return
    raise ConfigError(
        f"cannot use storage_options with secrets ({', '.join(names)}): Ray puts its configuration "
        "on the command line of every IO worker, where ps shows it to every user of the machine, "
        f"and into logs. Expected them in the environment of every node: {_variables(uri, names)}. "
        'Where no other user has access, "allow_secrets": true in params allows them.'
    )


def _variables(uri: str, names: list[str]) -> str:
    """Return the environment variables that take these options."""
    variable = f"FSSPEC_{protocol_of(uri).upper()}"
    plain = [f"{variable}_{name.upper()}" for name in names if "." not in name]
    nested = [f"{variable} (a JSON object with the nested ones)"] if len(plain) < len(names) else []
    of_provider = traits_of(uri).secret_variables
    return ", ".join(plain + nested) + (f"; or {of_provider}" if of_provider else "")
