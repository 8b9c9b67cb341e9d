"""URIs in Ray's configuration, and the mark of what is fsspill's own.

Standard library only, like all of the hook.
"""

from __future__ import annotations

import json
import os
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def names_uri(config: Any) -> bool:
    """Return True if a configuration is fsspill's, or has a URI where Ray expects a directory."""
    if not isinstance(config, dict):
        return False
    params = config.get("params")
    directories = params.get("directory_path") if isinstance(params, dict) else None
    listed = directories if isinstance(directories, list) else [directories]
    is_uri = any(is_like_uri(directory) for directory in listed)
    return config.get("type") == "fsspec" or (config.get("type") == "filesystem" and is_uri)


def is_like_uri(directory: Any) -> bool:
    """Return True for a URI, and for what was meant as one; see `fsspill.storage.spellings`."""
    text = str(directory)
    return bool(re.match(r"\s*[\"']?[A-Za-z][\w+.-]+:", text)) or "://" in text


def as_fsspec(config: Any) -> Any:
    """Convert Ray's configuration of a spill directory to fsspill's, if that is a URI.

    Ray's is a text in JSON. An object is accepted as well, since that text often stands in another.
    """
    parsed = _parsed(config)
    if parsed is None and "fsspec" in config:
        raise mark(
            ValueError(
                "cannot read the configuration of object spilling: expected JSON, as json.dumps "
                "makes it of {'type': 'fsspec', 'params': {'uri': 's3://bucket/prefix'}}, found "
                "something else. Or leave it out, and give the URI as object_spilling_directory."
            )
        )
    if not names_uri(parsed):
        return config
    if parsed["type"] != "fsspec":
        parsed = {"type": "fsspec", "params": {"uri": parsed["params"]["directory_path"]}}
    return json.dumps(parsed)


def from_environment(node: Any) -> Any:
    """Return the configuration of the URI in FSSPILL_URI, unless Ray has one of its own."""
    uri = os.environ.get("FSSPILL_URI")
    if not uri or names_directory(node) or _has_config(node):
        return None
    listed = _parsed(uri) if uri.startswith("[") else None
    return {"type": "fsspec", "params": {"uri": listed or uri}}


def _has_config(node: Any) -> bool:
    given = getattr(node, "_config", None) or {}
    settings = ("object_spilling_directory", "object_spilling_config")
    in_environment = os.environ.get("RAY_object_spilling_config")  # noqa: SIM112
    return bool(in_environment or any(given.get(name) for name in settings))


def names_directory(node: Any) -> bool:
    params = getattr(node, "_ray_params", None)
    return bool(
        getattr(params, "object_spilling_directory", None)
        or os.environ.get("RAY_object_spilling_directory")  # noqa: SIM112 (as Ray spells it)
    )


def has_parameters() -> bool:
    """Return True if the environment has parameters of fsspill."""
    return any(name.startswith("FSSPILL_") and name != "FSSPILL_HOOK" for name in os.environ)


def setting_with_uri(arguments: dict[str, Any]) -> str | None:
    """Return the name of the argument or variable that names a URI to spill to, if one does."""
    settings = {
        "object_spilling_directory": arguments.get("object_spilling_directory"),
        "RAY_object_spilling_directory": os.environ.get("RAY_object_spilling_directory"),  # noqa: SIM112
        "FSSPILL_URI": os.environ.get("FSSPILL_URI"),
    }
    configs = {
        "_system_config": arguments.get("_system_config") or arguments.get("system_config"),
        "RAY_object_spilling_config": os.environ.get("RAY_object_spilling_config"),  # noqa: SIM112
    }
    for name, value in settings.items():
        if is_like_uri(value):
            return name
    for name, value in configs.items():
        if "fsspec" in str(value) or _has_uri(value):
            return name
    return None


def _has_uri(system_config: Any) -> bool:
    """Return True if a configuration, or one of object spilling in it, names a URI."""
    parsed = _parsed(system_config)
    if not isinstance(parsed, dict):
        return False
    directory = parsed.get("object_spilling_directory")
    config = parsed.get("object_spilling_config")
    return names_uri(parsed) or is_like_uri(directory) or _has_uri(config)


def _parsed(config: Any) -> Any:
    """Return the object of a configuration in JSON, or None where it is not JSON."""
    try:
        return json.loads(config) if isinstance(config, str) else config
    except ValueError:
        return None


def mark(thing: Any) -> Any:
    """Mark a function or an error as fsspill's own."""
    thing.__fsspill__ = True
    return thing


def is_marked(thing: Any) -> bool:
    return bool(getattr(thing, "__fsspill__", False))
