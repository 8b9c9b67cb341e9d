"""Make fsspill known to Ray in every Python process, without a line of the user's code.

Ray knows only its own storage types. This module is installed next to the package, as
``_fsspill_startup``, and a ``.pth`` file calls its `start` at every start of Python. It arms an
import hook and does nothing else: standard library only, well under a millisecond, silent
whatever fails. Once Ray's own modules are imported it wraps four functions in them, and
`fsspill` itself is imported only when a URI or a configuration of type ``fsspec`` arrives.

``FSSPILL_HOOK=0`` in the environment switches it off.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # as a type checker reads it; importing typing costs 5 ms
if TYPE_CHECKING:
    from typing import Any


class RayHook:
    """Finder on `sys.meta_path` that wraps functions of Ray's modules after their import."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Return the spec of the other finders, with the wrapping added to its loader."""
        wrap = WRAPPERS.get(name)
        if wrap is None:
            return None
        for finder in sys.meta_path:
            find_spec = None if finder is self else getattr(finder, "find_spec", None)
            spec = find_spec and find_spec(name, path, target)
            if spec and spec.loader:
                _wrap_after(spec.loader, wrap)
                return spec
        return None


def _wrap_after(loader: Any, wrap: Any) -> None:
    execute = loader.exec_module

    def exec_module(module: Any) -> None:
        execute(module)
        wrap(module)

    loader.exec_module = exec_module


def wrap_external_storage(module: Any) -> None:
    """Wrap Ray's setup of storage, to add type ``fsspec``."""
    original = module.setup_external_storage

    def setup_external_storage(config: Any, node_id: str, session_name: str) -> Any:
        if not config or config.get("type") != "fsspec":
            return original(config, node_id, session_name)
        from fsspill.ray import setup

        storage = setup.setup_external_storage(config, node_id, session_name)
        module._external_storage = storage
        return storage

    module.setup_external_storage = _mark(setup_external_storage)


def wrap_node(module: Any) -> None:
    """Wrap Ray's start of a node, to accept a URI as spill directory and check it on the head."""
    node_class = module.Node
    get_config = node_class._get_object_spilling_config
    validate = node_class.validate_external_storage
    start = node_class.start_ray_processes

    def _get_object_spilling_config(self: Any) -> str:
        config: str = get_config(self)
        # Runs in every process of Ray, so the string is searched before it is parsed.
        return _as_fsspec(config) if "://" in config else config

    def validate_external_storage(self: Any) -> Any:
        if '"fsspec"' not in self._object_spilling_config:
            return validate(self)
        from fsspill.ray import head

        return head.validate_external_storage(self, validate)

    def start_ray_processes(self: Any) -> Any:
        if not self.head and _names_directory(self):
            from fsspill.ray import worker_node

            worker_node.check_worker_node(self)
        result = start(self)
        if self.head and '"fsspec"' in self._object_spilling_config:
            from fsspill.ray import head

            head.on_head_started(self)
        return result

    node_class._get_object_spilling_config = _mark(_get_object_spilling_config)
    node_class.validate_external_storage = _mark(validate_external_storage)
    node_class.start_ray_processes = _mark(start_ray_processes)


def _as_fsspec(config: str) -> str:
    """Convert Ray's configuration of a spill directory to fsspill's, if that is a URI."""
    import json

    parsed = json.loads(config)
    params = parsed.get("params") or {}
    directories = params.get("directory_path") or ""
    listed = [directories] if isinstance(directories, str) else directories
    if parsed.get("type") != "filesystem" or not any("://" in str(d) for d in listed):
        return config
    return json.dumps({"type": "fsspec", "params": {"uri": directories}})


def _names_directory(node: Any) -> bool:
    return bool(
        node._ray_params.object_spilling_directory
        or os.environ.get("RAY_object_spilling_directory")  # noqa: SIM112 (as Ray spells it)
    )


def _mark(function: Any) -> Any:
    function.__fsspill__ = True
    return function


WRAPPERS: dict[str, Any] = {
    "ray._private.external_storage": wrap_external_storage,
    "ray._private.node": wrap_node,
}


def arm() -> None:
    """Wrap Ray's modules when they are imported, or now if they have been."""
    if any(isinstance(finder, RayHook) for finder in sys.meta_path):
        return
    sys.meta_path.insert(0, RayHook())
    for name, wrap in WRAPPERS.items():
        if name in sys.modules:
            wrap(sys.modules[name])


def start() -> None:
    """Arm the hook, unless the environment switches it off. Called at every start of Python."""
    if os.environ.get("FSSPILL_HOOK") != "0":
        arm()
