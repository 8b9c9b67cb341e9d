"""Make fsspill known to Ray in every Python process, without a line of the user's code.

Ray knows only its own storage types. This module is installed next to the package, as
``_fsspill_startup``, and a ``.pth`` file calls its `start` at every start of Python. It arms an
import hook and does nothing else: standard library only, well under a millisecond, silent
whatever fails. Once Ray's own modules are imported, ``_fsspill_wrappers`` wraps functions in
them, and `fsspill` is imported only when a URI or a configuration of type ``fsspec`` arrives.

``FSSPILL_HOOK=0`` in the environment switches it off.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # as a type checker reads it; importing typing costs 5 ms
if TYPE_CHECKING:
    from typing import Any

MODULES = ("ray._private.external_storage", "ray._private.node", "ray", "ray.scripts.scripts")
"""Modules of Ray that are wrapped, in this order if they have been imported already."""


class RayHook:
    """Finder on `sys.meta_path` that wraps functions of Ray's modules after their import."""

    def __init__(self) -> None:
        self._finding: set[str] = set()

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Return the spec of the other finders, with the wrapping added, for modules of Ray."""
        if sys.meta_path[0] is not self:
            self._move_to_front()
        if name in MODULES:
            return self._find_others(name, path, target)
        if "ray" in sys.modules:
            wrap_imported()
        return None

    def _move_to_front(self) -> None:
        """Be asked before finders that came later, which may find Ray's modules by themselves."""
        # One assignment: another thread that iterates over the list misses none of them.
        sys.meta_path[:] = [self, *(finder for finder in sys.meta_path if finder is not self)]

    def _find_others(self, name: str, path: Any, target: Any) -> Any:
        if name in self._finding:
            return None  # asked by a finder that asks all others, which was asked here
        self._finding.add(name)
        try:
            for finder in list(sys.meta_path):
                find_spec = None if finder is self else getattr(finder, "find_spec", None)
                spec = find_spec and find_spec(name, path, target)
                if spec:
                    if hasattr(spec.loader, "exec_module"):
                        spec.loader = _WrappingLoader(spec.loader)
                    return spec
            return None
        finally:
            self._finding.discard(name)


class _WrappingLoader:
    """A loader in front of another one, which may load other modules too and is not changed."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: Any) -> Any:
        create_module = getattr(self._loader, "create_module", None)
        return create_module and create_module(spec)

    def exec_module(self, module: Any) -> None:
        module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        _wrap(module)


def wrap_imported() -> None:
    """Wrap the modules of Ray that have been imported, also past the hook, unless they are."""
    for name in MODULES:
        module = sys.modules.get(name)
        spec = getattr(module, "__spec__", None)
        is_ready = spec and not getattr(spec, "_initializing", False)
        if is_ready and not getattr(module, "__fsspill__", False):
            _wrap(module)


def _wrap(module: Any) -> None:
    try:
        # The mark keeps `wrap_imported` from trying again; a module that is reloaded is wrapped.
        module.__fsspill__ = True
        import _fsspill_wrappers

        _fsspill_wrappers.wrap(module)
    except Exception:
        pass  # Ray works as it does without fsspill


def arm() -> None:
    """Wrap Ray's modules when they are imported, or now if they have been."""
    # By its name: this module may have been loaded twice.
    if not any(type(finder).__name__ == "RayHook" for finder in sys.meta_path):
        sys.meta_path.insert(0, RayHook())
    wrap_imported()


def start() -> None:
    """Arm the hook, unless the environment switches it off. Called at every start of Python."""
    if os.environ.get("FSSPILL_HOOK") != "0":
        arm()
