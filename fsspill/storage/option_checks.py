"""Checks of options that a filesystem would take without a word, and ignore or misunderstand."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from fsspill.errors import ConfigError
from fsspill.storage.option_names import KnownNames, known_names, parameters
from fsspill.storage.protocols import ProtocolTraits

__all__ = ["check_options", "parse_environment"]

_OTHER_BOOLEANS = frozenset({"anon", "verify"})
"""Booleans whose default is None, or which may also be a path."""

_WORDS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}

_CREDENTIALS = ("key", "secret", "account_key", "sas_token", "credential", "client_secret")

_KEYS = ("anon", "key", "username", "profile", "session", "aws_access_key_id")
_VARIABLES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "s3": {
        "AWS_ACCESS_KEY_ID": _KEYS,
        "AWS_SECRET_ACCESS_KEY": _KEYS,
        "AWS_SESSION_TOKEN": _KEYS,
        "AWS_DEFAULT_REGION": ("region_name",),
        "AWS_ENDPOINT_URL": ("endpoint_url",),
        "AWS_ENDPOINT_URL_S3": ("endpoint_url",),
        "AWS_PROFILE": _KEYS,
    },
    "gcs": {
        "GOOGLE_APPLICATION_CREDENTIALS": ("token",),
        "STORAGE_EMULATOR_HOST": ("endpoint_url",),
    },
    "azure": {
        f"AZURE_STORAGE_{name.upper()}": (name, "anon", "credential")
        for name in (
            "account_name", "account_key", "client_id", "client_secret", "connection_string",
            "sas_token", "tenant_id",
        )
    },
}  # fmt: skip
"""By kind of store, environment variables without spaces, and the options that take their place."""

_ACCOUNT = re.compile(r"(?:^|;)\s*AccountName=([^;]+)", re.IGNORECASE)


def parse_environment(cls: type, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of fsspec's own configuration, whose environment variables are all strings.

    Words such as "false" become booleans, where the filesystem takes a boolean.
    """
    booleans = _booleans(cls)
    return {
        name: _WORDS.get(str(value).lower(), value) if name in booleans else value
        for name, value in options.items()
    }


def check_options(uri: str, cls: type, traits: ProtocolTraits, options: Mapping[str, Any]) -> None:
    """Check the options for a filesystem as far as it does not check them itself.

    Parameters
    ----------
    uri : str
        The checked URI.
    cls : type
        fsspec's class for it.
    traits : ProtocolTraits
        The row of the table of protocols.
    options : mapping
        All options, those of fsspec's configuration included.

    Raises
    ------
    ConfigError
        A name that the filesystem ignores, a string in place of a boolean, a line break at the end
        of a credential, credentials that are not to be used, or an account other than that of the
        URI.
    """
    places = list(known_names(cls, traits))
    for known in places:
        _check_names(uri, known, places, options)
    _check_booleans(uri, _booleans(cls), options)
    given = [name for name in _CREDENTIALS if options.get(name)]
    if options.get("anon") and given:
        raise ConfigError(
            f"cannot spill to {uri}: storage_options have anon, and {', '.join(given)}, which "
            "would not be used. Expected one or the other."
        )
    if traits.obstore:
        _check_spaces(uri, _VARIABLES[traits.obstore], options)
    if traits.obstore == "azure":
        _check_account(uri, options)


def _check_names(
    uri: str, known: KnownNames, places: Collection[KnownNames], options: Mapping[str, Any]
) -> None:
    """Check the names in one place."""
    given: Any = options
    for holder in known.place:
        given = given.get(holder) if isinstance(given, Mapping) else None
    where = " ".join(["storage_options", ".".join(known.place)]).rstrip()
    if given and not isinstance(given, Mapping):
        raise ConfigError(
            f"cannot spill to {uri}: found {where} of type {type(given).__name__}. Expected a "
            "mapping of names to values."
        )
    for name in [str(name) for name in given or () if name not in known.names]:
        meant = _meant(name, known, places)
        if meant or known.is_complete:
            expected = ", ".join(sorted(known.names))
            advice = f"Did you mean {meant!r}?" if meant else f"Expected some of {expected}."
            raise ConfigError(
                f"cannot spill to {uri}: found {name!r} in {where}, where {known.owner} has no "
                f"such name, and would refuse or ignore it. {advice}"
            )


def _meant(name: str, known: KnownNames, places: Collection[KnownNames]) -> str | None:
    """Return the same name in another place, or the nearest one in this.

    Where more may be known, it must be very near.
    """
    for other in places:
        if name in other.names:
            return ".".join([*other.place, name])
    forms = {_form(one): one for one in sorted(known.names)}
    near = get_close_matches(_form(name), forms, 1, 0.6 if known.is_complete else 0.85)
    return forms[near[0]] if near else None


def _form(name: str) -> str:
    """Return a name without what differs between the styles of names."""
    return name.lower().replace("_", "").replace("-", "")


def _check_booleans(uri: str, booleans: frozenset[str], options: Mapping[str, Any]) -> None:
    for name, value in options.items():
        if isinstance(value, Mapping):
            _check_booleans(uri, booleans, value)
        is_word = isinstance(value, str) and value.lower() in _WORDS
        if name in booleans and is_word:
            raise ConfigError(
                f"cannot spill to {uri}: found {name}={value!r}, a string, which counts as true "
                f"whatever it says. Expected {name}={_WORDS[value.lower()]}, without quotes."
            )


def _check_spaces(
    uri: str, variables: Mapping[str, tuple[str, ...]], options: Mapping[str, Any]
) -> None:
    """Check that no credential, region or endpoint has a line break at its end, as files have."""
    given = dict(_flat(options))
    names = {name for overrides in variables.values() for name in overrides}
    found: dict[str, Any] = {name: given.get(name) for name in sorted({*names, *_CREDENTIALS})}
    for variable, overrides in variables.items():
        if not any(given.get(name) for name in overrides):
            found[variable] = os.environ.get(variable)
    for name, value in found.items():
        if isinstance(value, str) and value != value.strip():
            raise ConfigError(
                f"cannot spill to {uri}: {name} begins or ends with a space or a line break. "
                "Expected it without: a file or a secret that it was read from has one."
            )


def _flat(options: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from _flat(value)
        else:
            yield name, value


def _check_account(uri: str, options: Mapping[str, Any]) -> None:
    """Check that no option names another account than a URI such as abfs://c@account.dfs.host."""
    container, at, host = uri.partition("://")[2].partition("/")[0].partition("@")
    own = host.partition(".")[0]
    if not at or not container or not own:
        return
    string = options.get("connection_string") or os.environ.get("AZURE_STORAGE_CONNECTION_STRING")
    found = _ACCOUNT.search(str(string or ""))
    sources = {
        "the connection string": found[1].strip() if found else None,
        "account_name": options.get("account_name"),
    }
    for source, account in sources.items():
        if account and str(account).lower() != own.lower():
            raise ConfigError(
                f"cannot spill to {uri}: {source} is for the account {account!r}, not for {own!r}, "
                "and would win. Expected one account in both, or none in the URI."
            )


def _booleans(cls: type) -> frozenset[str]:
    own = parameters(cls).items()
    return _OTHER_BOOLEANS | {name for name, default in own if isinstance(default, bool)}
