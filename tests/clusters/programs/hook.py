"""Inspect the hook from inside a process that it runs in.

Imports nothing by itself but the standard library.

Usage: hook.py FUNCTION
"""

import importlib.util
import sys
from importlib.machinery import PathFinder, SourceFileLoader
from typing import Any


def import_ray_where_there_is_none() -> None:
    sys.modules["ray"] = None  # type: ignore[assignment]
    try:
        import ray._private.node  # noqa: F401
    except ImportError as error:
        print(error.name)


def set_up_without_uri() -> None:
    import ray._private.node  # noqa: F401
    from ray._private import external_storage

    storage = external_storage.setup_external_storage({}, "node", "session")
    assert type(storage).__name__ == "NullStorage"
    assert external_storage.setup_external_storage.__fsspill__
    print([name for name in sys.modules if name.split(".")[0] in ("fsspill", "fsspec")])


def install() -> None:
    import subprocess

    import fsspill.ray

    assert not fsspill.ray.is_installed()
    fsspill.ray.install()
    assert fsspill.ray.is_installed()
    child = "import sys; print([type(f).__name__ for f in sys.meta_path])"
    subprocess.run([sys.executable, "-c", child], check=True)


def install_after_ray() -> None:
    import ray._private.external_storage
    import ray._private.node

    import fsspill.ray

    assert not fsspill.ray.is_installed()
    fsspill.ray.install()
    assert fsspill.ray.is_installed()
    assert ray._private.node.Node.validate_external_storage.__fsspill__


class PathFirst:
    """Finds by itself whatever the path has, as pytest's assertion rewriting may."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> Any:
        return PathFinder.find_spec(name, path, target)


class Delegating:
    """Asks all other finders."""

    def __init__(self) -> None:
        self._finding: set[str] = set()

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name in self._finding:
            return None
        self._finding.add(name)
        try:
            return importlib.util.find_spec(name)
        finally:
            self._finding.discard(name)


class OneLoader(PathFirst):
    """Finds Ray's modules, with itself as the loader of all of them."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:  # type: ignore[override]
        spec = PathFinder.find_spec(name, path, target)
        if (
            not name.startswith("ray")
            or spec is None
            or not isinstance(spec.loader, SourceFileLoader)
        ):
            return None
        return importlib.util.spec_from_file_location(
            name,
            spec.origin,
            loader=self,  # type: ignore[arg-type]
            submodule_search_locations=spec.submodule_search_locations,
        )

    def create_module(self, spec: Any) -> None:
        return None

    def exec_module(self, module: Any) -> None:
        SourceFileLoader(module.__name__, module.__file__).exec_module(module)


def wrapped_once() -> None:
    """Import Ray past these finders: what the hook wraps calls Ray's own function, once."""
    import ray
    from ray._private import external_storage
    from ray._private.node import Node

    import fsspill.ray

    assert fsspill.ray.is_installed()
    functions = [
        external_storage.setup_external_storage,
        Node._get_object_spilling_config,
        Node.validate_external_storage,
        Node.start_ray_processes,
    ]
    for function in functions:
        assert function.__fsspill__
        assert not hasattr(function.__wrapped__, "__wrapped__")
    assert not hasattr(ray.init.__wrapped__, "__fsspill__")
    for name in ("ray", "ray._private.node"):
        spec = sys.modules[name].__spec__
        assert spec is not None
        assert "fsspill" not in type(spec.loader).__module__


def finder_in_front() -> None:
    sys.meta_path.insert(0, PathFirst())
    wrapped_once()


def finder_that_delegates() -> None:
    sys.meta_path.insert(1, Delegating())
    wrapped_once()


def finder_that_delegates_in_front() -> None:
    sys.meta_path.insert(0, Delegating())
    wrapped_once()


def loader_of_all_modules() -> None:
    sys.meta_path.insert(1, OneLoader())
    wrapped_once()


def loader_of_all_modules_in_front() -> None:
    sys.meta_path.insert(0, OneLoader())
    wrapped_once()


def hook_that_was_loaded_twice() -> None:
    del sys.modules["_fsspill_startup"]
    import _fsspill_startup

    _fsspill_startup.start()
    assert [type(finder).__name__ for finder in sys.meta_path].count("RayHook") == 1
    wrapped_once()


def reloaded() -> None:
    import ray._private.external_storage
    import ray._private.node

    importlib.reload(ray._private.external_storage)
    importlib.reload(ray._private.node)
    wrapped_once()


def hook_without_its_wrappers() -> None:
    sys.modules["_fsspill_wrappers"] = None  # type: ignore[assignment]
    import ray
    from ray._private.node import Node

    assert not hasattr(Node.validate_external_storage, "__fsspill__")
    assert ray.init


globals()[sys.argv[1]]()
