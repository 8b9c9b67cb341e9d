"""Checks of options that a filesystem would take without a word, and ignore or misunderstand."""

from __future__ import annotations

import importlib
import inspect
import os
import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from fsspill.errors import ConfigError
from fsspill.storage.protocols import ProtocolTraits

__all__ = ["check_options", "parse_environment"]

_OF_FSSPEC = frozenset(
    {"listings_expiry_time", "max_paths", "skip_instance_cache", "use_listings_cache"}
)
"""Options of every filesystem, which no signature names."""

_OTHER_BOOLEANS = frozenset({"anon", "verify"})
"""Booleans whose default is None, or which may also be a path."""

_WORDS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}

_CREDENTIALS = ("key", "secret", "account_key", "sas_token", "credential", "client_secret")

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
        A name that the filesystem ignores, a string in place of a boolean, credentials that are not
        to be used, or an account other than that of the URI.
    """
    if traits.ignores_unknown_options:
        _check_names(uri, cls, options)
    if traits.client == "s3":
        _check_names_of_s3(uri, cls, options)
    _check_booleans(uri, _booleans(cls), options)
    given = [name for name in _CREDENTIALS if options.get(name)]
    if options.get("anon") and given:
        raise ConfigError(
            f"cannot spill to {uri}: storage_options have anon, and {', '.join(given)}, which "
            "would not be used. Expected one or the other."
        )
    if traits.obstore == "azure":
        _check_account(uri, options)


def _check_names(uri: str, cls: type, options: Mapping[str, Any]) -> None:
    known = {*_parameters(cls), *_OF_FSSPEC}
    for name in options.keys() - known:
        near = get_close_matches(str(name), known, 1, 0.6)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise ConfigError(
            f"cannot spill to {uri}: {cls.__name__} has no option {name!r}, and would ignore it. "
            f"{hint}Expected some of {', '.join(sorted(known))}."
        )


def _check_names_of_s3(uri: str, cls: type, options: Mapping[str, Any]) -> None:
    """Check names that s3fs hands to botocore, which refuses others with its first request.

    Only those that are nearly one that exists: which others do depends on the versions.
    """
    session = importlib.import_module("aiobotocore.session").AioSession
    create = getattr(session, "_create_client", None)
    config = importlib.import_module("botocore.config").Config
    known = {
        "": {*_parameters(cls), *_OF_FSSPEC, *_parameters(session)},
        "client_kwargs": {*(inspect.signature(create).parameters if create else ())},
        "config_kwargs": {*getattr(config, "OPTION_DEFAULTS", ())},
    }
    for holder, names in known.items():
        given = options.get(holder) or {} if holder else options
        for name in given.keys() - names if isinstance(given, Mapping) else ():
            nearness = 0.7 if holder == "client_kwargs" else 0.85  # region is for region_name
            if near := get_close_matches(str(name), names, 1, nearness):
                where = holder or "storage_options"
                raise ConfigError(
                    f"cannot spill to {uri}: found {name!r} in {where}, which s3fs does not know. "
                    f"Did you mean {near[0]!r}?"
                )


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
    parameters = _parameters(cls).items()
    return _OTHER_BOOLEANS | {name for name, default in parameters if isinstance(default, bool)}


def _parameters(cls: type) -> dict[str, Any]:
    """Return the named parameters of a filesystem's constructors, with their defaults."""
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__[:-1]):
        if "__init__" in vars(base):
            for name, parameter in inspect.signature(vars(base)["__init__"]).parameters.items():
                if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                    found[name] = parameter.default
    found.pop("self", None)
    return found
