"""Secrets in a configuration, which Ray would show: rejected, with a safe place for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fsspill.errors import ConfigError
from fsspill.secrets import find_secrets
from fsspill.storage.connection import protocol_of

__all__ = ["reject_secret_options"]

_AWS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or a role of the machine"
_AZURE = "AZURE_STORAGE_ACCOUNT_KEY, AZURE_STORAGE_SAS_TOKEN or AZURE_STORAGE_CONNECTION_STRING"
_GOOGLE = "GOOGLE_APPLICATION_CREDENTIALS, or a role of the machine"

_VARIABLES = {
    "s3": _AWS,
    "s3a": _AWS,
    "abfs": _AZURE,
    "abfss": _AZURE,
    "az": _AZURE,
    "gcs": _GOOGLE,
    "gs": _GOOGLE,
}


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
    protocol = protocol_of(uri)
    names = find_secrets(storage_options, protocol)
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
    of_provider = _VARIABLES.get(protocol_of(uri))
    return ", ".join(plain + nested) + (f"; or {of_provider}" if of_provider else "")
