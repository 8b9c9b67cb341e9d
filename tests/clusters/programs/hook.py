"""Inspect the hook from inside a process that it runs in. Imports nothing by itself but sys.

Usage: hook.py FUNCTION
"""

import sys


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


globals()[sys.argv[1]]()
