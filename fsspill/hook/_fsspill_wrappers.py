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
import logging
import os
import sys
import threading
import time

import _fsspill_startup
from _fsspill_config import (
    as_fsspec,
    from_environment,
    has_parameters,
    is_like_uri,
    is_marked,
    mark,
    names_directory,
    names_uri,
    setting_with_uri,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

logger = logging.getLogger("fsspill")

_NODE = "ray._private.node"

_FIRST_PAUSE, _LONGEST_PAUSE = 60.0, 600.0
"""Seconds between two messages of a process to the drivers: doubled from the first to the
longest."""

HOLD_SECONDS = 5.0
"""Seconds for which objects that cannot be spilled are kept from being spilled again. Ray falls
back to the node's own disk after 2 seconds without a spill in progress (``oom_grace_period_s``),
and asks again every 10 ms: where an answer takes as long, a spill would always be in progress."""

_LONGEST_CHAIN = 10

_LONGEST_ID = 12
"""Digits of a node's id in a message, as Ray's own tables show it."""

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
    if is_marked(original):
        return
    _expect_parameters(original, "config", "node_id", "session_name")
    _expect_use(original, "_external_storage")

    @functools.wraps(original)
    def setup_external_storage(
        config: Any, node_id: str, session_name: str, *args: Any, **kwargs: Any
    ) -> Any:
        if not names_uri(config):
            return original(config, node_id, session_name, *args, **kwargs)
        module._external_storage = storage = _set_up(config, node_id, session_name)
        return storage

    module.setup_external_storage = mark(setup_external_storage)


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
        raise mark(
            ImportError(
                f"cannot spill to a URI: expected to import fsspill in {sys.prefix}, found "
                f"{type(error).__name__}: {error}. Install it again, with its dependencies: "
                f"{sys.executable} -m pip install --force-reinstall fsspill"
            )
        ) from error


def _get_if_local(object_refs: Sequence[Any]) -> Sequence[Any]:
    """Return the objects that are in this node's memory, which Ray does not spill meanwhile."""
    import ray

    found: Sequence[Any] = ray._private.worker.global_worker.core_worker.get_if_local(object_refs)
    return found


class FailedStorage:
    """Storage of a process that could not set it up: every call reports why, and none blocks.

    Parameters
    ----------
    reason : Exception
        The error of the setup.
    notify : callable
        Tells the drivers a message, now and then.
    get_if_local : callable, optional
        Returns the objects of refs. Ray does not spill an object that this process refers to.
    """

    def __init__(
        self,
        reason: Exception,
        notify: Callable[[str], object],
        get_if_local: Callable[[Sequence[Any]], object] = _get_if_local,
    ) -> None:
        self._reason = reason
        self._notify = notify
        self._get_if_local = get_if_local
        self._held: list[tuple[float, object]] = []
        self._cannot_hold = False
        self._lock = threading.Lock()

    def spill_objects(self, object_refs: Any, owner_addresses: Any = None) -> list[bytes]:
        """Return no URLs, and tell the drivers why.

        Ray is given nothing to spill for some seconds, so that it falls back to the node's disk.
        """
        self._notify(f"{self._reason} This node cannot spill objects.")
        try:
            self._hold(self._get_if_local(object_refs))
        except Exception as error:
            if not self._cannot_hold:  # Ray calls again every 10 ms
                logger.warning("cannot keep objects from being spilled again at once: %s", error)
            self._cannot_hold = True
        return []

    def _hold(self, objects: object) -> None:
        with self._lock:
            if not self._held:
                self._release_later(HOLD_SECONDS)
            self._held.append((time.monotonic() + HOLD_SECONDS, objects))

    def _release_later(self, seconds: float) -> None:
        timer = threading.Timer(seconds, self._release_due)
        timer.daemon = True
        timer.start()

    def _release_due(self) -> None:
        with self._lock:
            now = time.monotonic()
            self._held = [each for each in self._held if each[0] > now]
            if self._held:
                self._release_later(self._held[0][0] - now)

    def restore_spilled_objects(self, object_refs: Any, url_with_offset_list: Any) -> int:
        """Raise the reason, and tell the drivers: other nodes may restore the object."""
        self._notify(f"{self._reason} This node cannot restore objects.")
        raise self._reason.with_traceback(None)

    def delete_spilled_objects(self, urls: Any) -> None:
        """Tell the drivers why."""
        self._notify(f"{self._reason} This node cannot delete spilled files.")

    def destroy_external_storage(self) -> None:
        """Log the reason: a process that spilled nothing has nothing to delete."""
        logger.warning("nothing to delete, external storage was never set up: %s", self._reason)


def _driver_notifier(node_id: str) -> Callable[[str], None]:
    """Return a function that logs a message and prints it on every driver, less and less often."""
    due, pause = 0.0, _FIRST_PAUSE

    def notify(message: str) -> None:
        nonlocal due, pause
        if time.monotonic() < due:
            return
        try:
            import ray
            from ray._private.utils import push_error_to_driver

            worker = ray._private.worker.global_worker
            if not worker.connected:
                return  # the next call is soon
            address = getattr(worker, "node_ip_address", "")
            where = f"{address} ({node_id[:_LONGEST_ID]})" if address else node_id
            push_error_to_driver(worker, "fsspill", f"fsspill on node {where}: {message}")
        except Exception as error:
            logger.debug("could not notify the drivers: %s", error)
        due, pause = time.monotonic() + pause, min(2 * pause, _LONGEST_PAUSE)
        logger.error("%s", message)

    return notify


def _wrap_node(module: Any) -> None:
    """Wrap Ray's start of a node, to accept a URI as spill directory and check it on the head."""
    node_class = module.Node
    get_config = node_class._get_object_spilling_config
    validate = node_class.validate_external_storage
    start = node_class.start_ray_processes
    if is_marked(start):
        return
    used = ("_get_object_spilling_config", "validate_external_storage", "start_ray_processes")
    _expect_use(node_class.__init__, "head", "_object_spilling_config", *used)
    _expect_use(validate, "_object_spilling_config", "setup_external_storage")

    @functools.wraps(get_config)
    def _get_object_spilling_config(self: Any, *args: Any, **kwargs: Any) -> Any:
        config = from_environment(self) or get_config(self, *args, **kwargs)
        return as_fsspec(config) if isinstance(config, (str, dict)) else config

    @functools.wraps(validate)
    def validate_external_storage(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not _spills_to_uri(self):
            return validate(self, *args, **kwargs)
        return _without_causes(
            lambda: _import("head").validate_external_storage(
                self, lambda node: validate(node, *args, **kwargs)
            )
        )

    @functools.wraps(start)
    def start_ray_processes(self: Any, *args: Any, **kwargs: Any) -> Any:
        named = names_directory(self) or has_parameters()
        if not getattr(self, "head", True) and named:
            _without_causes(lambda: _check_worker_node(self))
        result = start(self, *args, **kwargs)
        if getattr(self, "head", False) and _spills_to_uri(self):
            _import("head").on_head_started(self)
        elif not getattr(self, "head", True) and _joined_with_uri(self):
            _import("worker_node").on_worker_node_started(self)
        return result

    node_class._get_object_spilling_config = mark(_get_object_spilling_config)
    node_class.validate_external_storage = mark(validate_external_storage)
    node_class.start_ray_processes = mark(start_ray_processes)


def _without_causes(function: Callable[[], Any]) -> Any:
    """Call a function; its errors whose messages say all end with the message, after few frames.

    The frames of fsspill and of the filesystem are left out, and the errors that those raised.
    """
    try:
        return function()
    except Exception as error:
        if not _is_reported(error):
            raise
        logger.debug("%s (caused by %s)", error, ", ".join(_causes(error)))
        raise error.with_traceback(None) from None


def _causes(error: BaseException) -> list[str]:
    """Return the classes of its causes, without their messages, which may have secrets."""
    names: list[str] = []
    cause = error.__cause__ or error.__context__
    while cause is not None and len(names) < _LONGEST_CHAIN:
        names.append(type(cause).__name__)
        cause = cause.__cause__ or cause.__context__
    return names


def _is_reported(error: Exception) -> bool:
    """Return True for an error of a configuration or a storage, whose message says what to do."""
    return type(error).__module__ == "fsspill.errors" or is_marked(error)


def _joined_with_uri(node: Any) -> bool:
    """Return True if the head, whose configuration a node has from then on, spills to a URI."""
    given = getattr(node, "_config", None) or {}
    return '"fsspec"' in str(given.get("object_spilling_config"))


def _spills_to_uri(node: Any) -> bool:
    config = getattr(node, "_object_spilling_config", None)
    return isinstance(config, str) and '"fsspec"' in config


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
    if not is_wrapped(_NODE) and not is_marked(module.init):
        module.init = _refusing_uris(module.init)


def _wrap_command_line(module: Any) -> None:
    """Wrap ``ray start``: its errors are messages, and URIs are refused if Node is unexpected."""
    command = module.start
    if not is_marked(command.callback):
        command.callback = _reporting_errors(_refusing_uris(command.callback))
        command.parse_args = _refusing_option(command.parse_args)


def _refusing_option(parse_args: Any) -> Any:
    """Name the Ray that is too old to have the option, where its own message names another option.

    That is "No such option: --object-spilling-directory Did you mean --plasma-directory?".
    """

    @functools.wraps(parse_args)
    def parsing(context: Any, args: Any) -> Any:
        given = list(args)
        try:
            return parse_args(context, args)
        except Exception as error:
            option = "--object-spilling-directory"
            if getattr(error, "option_name", None) != option or not any(map(is_like_uri, given)):
                raise
            raise _click().ClickException(str(_refusal(option))) from None

    return parsing


def _reporting_errors(function: Any) -> Any:
    """Turn errors whose messages say all into those of the command line, with exit code 1."""

    @functools.wraps(function)
    def reporting(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            if not _is_reported(error):
                raise
            raise _click().ClickException(str(error)) from None

    return mark(reporting)


def _click() -> Any:
    return importlib.import_module("click")


def _refusing_uris(function: Any) -> Any:
    @functools.wraps(function)
    def refusing(*args: Any, **kwargs: Any) -> Any:
        setting = None if is_wrapped(_NODE) else setting_with_uri(kwargs)
        if setting:
            raise _refusal(setting)
        return function(*args, **kwargs)

    return mark(refusing)


def _refusal(setting: str) -> RuntimeError:
    """Return the error for a URI where Ray cannot be told that it is one."""
    error: RuntimeError = mark(
        RuntimeError(
            f"cannot spill to the URI in {setting}: {explanation()} Or name a directory without "
            "scheme."
        )
    )
    return error


def explanation() -> str:
    """Return what is not as expected in the Ray of this process, and what to do."""
    version = getattr(sys.modules.get("ray"), "__version__", "of an unknown version")
    reason = "; ".join(_reasons.values()) or f"{_NODE} was not imported where the hook saw it"
    return (
        f"expected a Ray that fsspill supports, found Ray {version} ({reason}). Use Ray 2.45 or "
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


_WRAPPERS: dict[str, Any] = {
    "ray._private.external_storage": _wrap_external_storage,
    "ray._private.node": _wrap_node,
    "ray": _wrap_ray,
    "ray.scripts.scripts": _wrap_command_line,
}
