"""Wrappers of functions of Ray, and what happens where they cannot be wrapped.

Standard library only, imported with the first module of Ray. A program that spills to no URI gets
what Ray does without fsspill, whatever is missing here. Where Ray is not as expected its Node stays
as it is, and a URI is refused in the process that would start the cluster, before Ray takes it for
the name of a directory. Where fsspill cannot be imported, IO workers get `FailedStorage`: an
exception would end them, and ``ray.put`` would be blocked forever.
"""

from __future__ import annotations

import functools
import importlib
import json
import logging
import os
import re
import sys
import time

import _fsspill_startup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

logger = logging.getLogger("fsspill")

_NODE = "ray._private.node"

_NOTIFY_INTERVAL = 60.0
"""Seconds between two messages of a process to the drivers."""

_reasons: dict[str, str] = {}
"""Why modules of Ray could not be wrapped."""


def wrap(module: Any) -> None:
    """Wrap the functions of a module of Ray, or none of them if it is not as expected."""
    name = module.__spec__.name
    _reasons.pop(name, None)
    try:
        _WRAPPERS[name](module)
    except Exception as error:
        _reasons[name] = f"{name} is not as expected: {error}"


def is_wrapped(name: str) -> bool:
    """Return True if an imported module of Ray knows fsspill."""
    module = sys.modules.get(name)
    return bool(getattr(module, "__fsspill__", False)) and name not in _reasons


def _wrap_external_storage(module: Any) -> None:
    """Wrap Ray's setup of storage, to add type ``fsspec``."""
    original = module.setup_external_storage
    if _is_marked(original):
        return
    _expect_parameters(original, "config", "node_id", "session_name")
    _expect_use(original, "_external_storage")

    @functools.wraps(original)
    def setup_external_storage(
        config: Any, node_id: str, session_name: str, *args: Any, **kwargs: Any
    ) -> Any:
        if not _names_uri(config):
            return original(config, node_id, session_name, *args, **kwargs)
        module._external_storage = storage = _set_up(config, node_id, session_name)
        return storage

    module.setup_external_storage = _mark(setup_external_storage)


def _names_uri(config: Any) -> bool:
    """Return True if a configuration is fsspill's, or has a URI where Ray expects a directory."""
    if not isinstance(config, dict):
        return False
    params = config.get("params")
    directories = params.get("directory_path") if isinstance(params, dict) else None
    listed = directories if isinstance(directories, list) else [directories]
    is_uri = any(_is_like_uri(directory) for directory in listed)
    return config.get("type") == "fsspec" or (config.get("type") == "filesystem" and is_uri)


def _is_like_uri(directory: Any) -> bool:
    """Return True for a URI, and for what was meant as one; see `fsspill.storage.spellings`."""
    text = str(directory)
    return bool(re.match(r"\s*[\"']?[A-Za-z][\w+.-]+:", text)) or "://" in text


def _set_up(config: dict[str, Any], node_id: str, session_name: str) -> Any:
    unchecked = config["type"] == "filesystem"  # a Node that knows fsspill converts it
    is_io_worker = os.path.basename((getattr(sys, "argv", None) or [""])[0]) == "default_worker.py"
    if not is_io_worker and (unchecked or not is_wrapped(_NODE)):
        raise _refusal("the configuration")
    try:
        if unchecked:
            raise RuntimeError(
                "cannot spill to a URI: the head of the cluster takes it for a directory. Install "
                "fsspill on the head too, with a Ray that it supports."
            )
        return _import("setup").setup_external_storage(config, node_id, session_name)
    except Exception as error:
        return FailedStorage(error, _driver_notifier(node_id))


def _import(name: str) -> Any:
    try:
        return importlib.import_module(f"fsspill.ray.{name}")
    except Exception as error:
        raise ImportError(
            f"cannot spill to a URI: expected to import fsspill in {sys.prefix}, found "
            f"{type(error).__name__}: {error}. Install it again, with its dependencies: "
            f"{sys.executable} -m pip install --force-reinstall fsspill"
        ) from error


class FailedStorage:
    """Storage of a process that could not set it up: every call reports why, and none blocks.

    Parameters
    ----------
    reason : Exception
        The error of the setup.
    notify : callable
        Tells the drivers a message, now and then.
    """

    def __init__(self, reason: Exception, notify: Callable[[str], object]) -> None:
        self._reason = reason
        self._notify = notify

    def spill_objects(self, object_refs: Any, owner_addresses: Any = None) -> list[bytes]:
        """Return no URLs, and tell the drivers why."""
        self._notify(f"{self._reason} This node cannot spill objects.")
        return []

    def restore_spilled_objects(self, object_refs: Any, url_with_offset_list: Any) -> int:
        """Raise the reason, and tell the drivers: other nodes may restore the object."""
        self._notify(f"{self._reason} This node cannot restore objects.")
        raise self._reason.with_traceback(None)

    def delete_spilled_objects(self, urls: Any) -> None:
        """Log the reason."""
        logger.warning("cannot delete %d files: %s", len(urls), self._reason)

    def destroy_external_storage(self) -> None:
        """Log the reason: a process that spilled nothing has nothing to delete."""
        logger.warning("nothing to delete, external storage was never set up: %s", self._reason)


def _driver_notifier(node_id: str) -> Callable[[str], None]:
    """Return a function that logs a message and prints it on every driver, once a minute."""
    last = [-_NOTIFY_INTERVAL]

    def notify(message: str) -> None:
        if time.monotonic() - last[0] < _NOTIFY_INTERVAL:
            return
        try:
            import ray
            from ray._private.utils import push_error_to_driver

            worker = ray._private.worker.global_worker
            if not worker.connected:
                return  # the next call is soon
            push_error_to_driver(worker, "fsspill", f"fsspill on node {node_id}: {message}")
        except Exception as error:
            logger.debug("could not notify the drivers: %s", error)
        last[0] = time.monotonic()
        logger.error("%s", message)

    return notify


def _wrap_node(module: Any) -> None:
    """Wrap Ray's start of a node, to accept a URI as spill directory and check it on the head."""
    node_class = module.Node
    get_config = node_class._get_object_spilling_config
    validate = node_class.validate_external_storage
    start = node_class.start_ray_processes
    if _is_marked(start):
        return
    used = ("_get_object_spilling_config", "validate_external_storage", "start_ray_processes")
    _expect_use(node_class.__init__, "head", "_object_spilling_config", *used)
    _expect_use(validate, "_object_spilling_config", "setup_external_storage")

    @functools.wraps(get_config)
    def _get_object_spilling_config(self: Any, *args: Any, **kwargs: Any) -> Any:
        config = _from_environment(self) or get_config(self, *args, **kwargs)
        return _as_fsspec(config) if isinstance(config, (str, dict)) else config

    @functools.wraps(validate)
    def validate_external_storage(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not _spills_to_uri(self):
            return validate(self, *args, **kwargs)
        head = _import("head")
        return head.validate_external_storage(self, lambda node: validate(node, *args, **kwargs))

    @functools.wraps(start)
    def start_ray_processes(self: Any, *args: Any, **kwargs: Any) -> Any:
        named = _names_directory(self) or os.environ.get("FSSPILL_URI")
        if not getattr(self, "head", True) and named:
            _check_worker_node(self)
        result = start(self, *args, **kwargs)
        if getattr(self, "head", False) and _spills_to_uri(self):
            _import("head").on_head_started(self)
        return result

    node_class._get_object_spilling_config = _mark(_get_object_spilling_config)
    node_class.validate_external_storage = _mark(validate_external_storage)
    node_class.start_ray_processes = _mark(start_ray_processes)


def _from_environment(node: Any) -> Any:
    """Return the configuration of the URI in FSSPILL_URI, unless Ray has one of its own."""
    uri = os.environ.get("FSSPILL_URI")
    if not uri or _names_directory(node) or _has_config(node):
        return None
    listed = _parsed(uri) if uri.startswith("[") else None
    return {"type": "fsspec", "params": {"uri": listed or uri}}


def _has_config(node: Any) -> bool:
    given = getattr(node, "_config", None) or {}
    settings = ("object_spilling_directory", "object_spilling_config")
    in_environment = os.environ.get("RAY_object_spilling_config")  # noqa: SIM112
    return bool(in_environment or any(given.get(name) for name in settings))


def _as_fsspec(config: Any) -> Any:
    """Convert Ray's configuration of a spill directory to fsspill's, if that is a URI.

    Ray's is a text in JSON. An object is accepted as well, since that text often stands in another.
    """
    parsed = _parsed(config)
    if parsed is None and "fsspec" in config:
        raise ValueError(
            "cannot read the configuration of object spilling: expected JSON, as json.dumps makes "
            "it of {'type': 'fsspec', 'params': {'uri': 's3://bucket/prefix'}}, found something "
            "else. Or leave it out, and give the URI as object_spilling_directory."
        )
    if not _names_uri(parsed):
        return config
    if parsed["type"] != "fsspec":
        parsed = {"type": "fsspec", "params": {"uri": parsed["params"]["directory_path"]}}
    return json.dumps(parsed)


def _parsed(config: Any) -> Any:
    """Return the object of a configuration in JSON, or None where it is not JSON."""
    try:
        return json.loads(config) if isinstance(config, str) else config
    except ValueError:
        return None


def _spills_to_uri(node: Any) -> bool:
    config = getattr(node, "_object_spilling_config", None)
    return isinstance(config, str) and '"fsspec"' in config


def _names_directory(node: Any) -> bool:
    params = getattr(node, "_ray_params", None)
    return bool(
        getattr(params, "object_spilling_directory", None)
        or os.environ.get("RAY_object_spilling_directory")  # noqa: SIM112 (as Ray spells it)
    )


def _check_worker_node(node: Any) -> None:
    try:
        worker_node = _import("worker_node")
    except ImportError:
        if _spills_to_uri(node):
            raise
        return  # a directory of Ray's own, as without fsspill
    worker_node.check_worker_node(node)


def _wrap_ray(module: Any) -> None:
    """Wrap `ray.init` where Node is not as expected, to refuse URIs."""
    _fsspill_startup.wrap_imported()
    if not is_wrapped(_NODE) and not _is_marked(module.init):
        module.init = _refusing_uris(module.init)


def _wrap_command_line(module: Any) -> None:
    """Wrap ``ray start`` where Node is not as expected, to refuse URIs."""
    command = module.start
    if not is_wrapped(_NODE) and not _is_marked(command.callback):
        command.callback = _refusing_uris(command.callback)


def _refusing_uris(function: Any) -> Any:
    @functools.wraps(function)
    def refusing(*args: Any, **kwargs: Any) -> Any:
        setting = None if is_wrapped(_NODE) else _setting_with_uri(kwargs)
        if setting:
            raise _refusal(setting)
        return function(*args, **kwargs)

    return _mark(refusing)


def _setting_with_uri(arguments: dict[str, Any]) -> str | None:
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
        if _is_like_uri(value):
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
    return _names_uri(parsed) or _is_like_uri(directory) or _has_uri(config)


def _refusal(setting: str) -> RuntimeError:
    """Return the error for a URI where Ray cannot be told that it is one."""
    return RuntimeError(
        f"cannot spill to the URI in {setting}: {explanation()} Or name a directory without scheme."
    )


def explanation() -> str:
    """Return what is not as expected in the Ray of this process, and what to do."""
    version = getattr(sys.modules.get("ray"), "__version__", "of an unknown version")
    reason = "; ".join(_reasons.values()) or f"{_NODE} was not imported where the hook saw it"
    return (
        f"expected a Ray that fsspill supports, found Ray {version} ({reason}). Use Ray 2.50 or "
        "newer, and the newest fsspill."
    )


def _expect_parameters(function: Any, *names: str) -> None:
    code = _code(function)
    found = code.co_varnames[: code.co_argcount]
    if found[: len(names)] != names:
        raise TypeError(f"{function.__name__}{found} does not begin with {names}")


def _expect_use(function: Any, *names: str) -> None:
    """Raise an error unless a function calls or sets these: others may have taken its place."""
    code = _code(function)
    used = {*code.co_names, *code.co_varnames}
    missing = [name for name in names if name not in used]
    if missing:
        raise AttributeError(f"{function.__qualname__} does not use {', '.join(missing)}")


def _code(function: Any) -> Any:
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    return function.__code__


def _mark(function: Any) -> Any:
    function.__fsspill__ = True
    return function


def _is_marked(function: Any) -> bool:
    return bool(getattr(function, "__fsspill__", False))


_WRAPPERS: dict[str, Any] = {
    "ray._private.external_storage": _wrap_external_storage,
    "ray._private.node": _wrap_node,
    "ray": _wrap_ray,
    "ray.scripts.scripts": _wrap_command_line,
}
