"""Check an installed wheel: the hook is active, the command is there, and one object spills."""

import importlib.metadata
import os
import subprocess
import sys
import tempfile

import fsspill
import fsspill.ray


def main() -> None:
    """Raise an error if anything is missing."""
    assert "site-packages" in fsspill.__file__, f"not the installed package: {fsspill.__file__}"
    assert any(type(finder).__name__ == "RayHook" for finder in sys.meta_path), "no hook"
    assert fsspill.ray.is_installed()
    assert importlib.metadata.version("fsspill") == fsspill.__version__
    store = fsspill.InMemoryObjectStore()
    store.put(b"a", b"some data")
    with tempfile.TemporaryDirectory() as directory:
        storage = fsspill.ExternalStorage(f"file://{directory}", object_store=store)
        urls = storage.spill_objects([b"a"])
        store.delete(b"a")
        assert storage.restore_spilled_objects([b"a"], urls) == 9
        assert bytes(store.get(b"a")) == b"some data"
        storage.delete_spilled_objects(urls)
        assert storage.list_spilled_files() == []
        fsspill_command = os.path.join(os.path.dirname(sys.executable), "fsspill")
        for command in ("ls", "clean"):
            subprocess.run([fsspill_command, command, f"file://{directory}"], check=True)
    print("the wheel works")  # noqa: T201


main()
