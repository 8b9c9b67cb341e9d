"""The hook that runs at every start of Python."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "fsspill"


def python(*arguments: str, environment: Mapping[str, str] | None = None) -> str:
    """Run Python elsewhere, and return what it printed to both outputs."""
    ended = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout + ended.stderr


def program(text: str) -> str:
    return textwrap.dedent(text)


def calls_of(statement: str, after: str) -> int:
    """Return how many functions a statement calls in a new process: the same on every machine.

    Of several processes the least, since the first one may compile modules.
    """
    text = f"""
        import sys
        {after}
        calls = 0
        def count(frame, event, argument):
            global calls
            calls += event in ("call", "c_call")
        sys.setprofile(count)
        {statement}
        sys.setprofile(None)
        print(calls)
    """
    return min(int(python("-c", program(text))) for _ in range(3))


def test_it_is_light() -> None:
    """At a start of Python nothing but the hook is imported, with few function calls."""
    imported = python("-X", "importtime", "-c", "pass")
    names = set(re.findall(r"\|\s+(\S+)$", imported, re.MULTILINE))
    assert "_fsspill_startup" in names
    assert not [n for n in names if n.split(".")[0] in ("fsspill", "fsspec", "ray", "typing")]
    # Measured: 335 calls, 0.15 ms of processor time.
    removed = "import sys; del sys.modules['_fsspill_startup']"
    assert calls_of("import _fsspill_startup", after=removed) < 1000


@pytest.mark.parametrize(("value", "armed"), [("0", False), ("1", True), ("", True)])
def test_the_environment_switches_it_off(value: str, armed: bool) -> None:
    """FSSPILL_HOOK=0 leaves Python as it is."""
    text = "import sys; print([type(f).__name__ for f in sys.meta_path])"
    printed = python("-c", text, environment={"FSSPILL_HOOK": value})
    assert ("RayHook" in printed) is armed


def test_without_ray_it_is_silent() -> None:
    """Looking for Ray's modules where there is no Ray fails as it would without the hook."""
    text = """
        import sys
        sys.modules["ray"] = None
        try:
            import ray._private.node
        except ImportError as error:
            print(error.name)
    """
    assert python("-c", program(text)).strip() == "ray._private"


def test_ray_imports_nothing_of_fsspill_without_a_uri() -> None:
    """Whoever does not spill to a URI never imports the package."""
    pytest.importorskip("ray")
    text = """
        import sys
        import ray._private.node, ray._private.external_storage as external_storage
        storage = external_storage.setup_external_storage({}, "node", "session")
        assert type(storage).__name__ == "NullStorage"
        assert external_storage.setup_external_storage.__fsspill__
        print([name for name in sys.modules if name.split(".")[0] in ("fsspill", "fsspec")])
    """
    assert python("-c", program(text)).strip().splitlines()[-1] == "[]"


def test_importing_fsspill_is_light() -> None:
    """`import fsspill` brings in neither Ray nor a cloud package nor the command line's."""
    heavy = ("ray", "s3fs", "gcsfs", "adlfs", "botocore", "aiobotocore", "moto", "rich", "numpy")
    text = f"import sys, fsspill; print([name for name in {heavy!r} if name in sys.modules])"
    assert python("-c", text).strip() == "[]"
    # Over fsspec itself. Measured: 29,000 calls, 45 ms of processor time.
    assert calls_of("import fsspill", after="import fsspec, fsspec.asyn") < 100_000


def test_install_hands_the_hook_to_child_processes(tmp_path: Path) -> None:
    """Where .pth files are not run, install() reaches this process and those it starts.

    The user's own sitecustomize still has its turn there.
    """
    (tmp_path / "sitecustomize.py").write_text("print('the own one')")
    text = """
        import subprocess, sys
        import fsspill.ray
        assert not fsspill.ray.is_installed()
        fsspill.ray.install()
        assert fsspill.ray.is_installed()
        child = "import sys; print([type(f).__name__ for f in sys.meta_path])"
        subprocess.run([sys.executable, "-c", child], check=True)
    """
    path = [str(tmp_path), *(entry for entry in sys.path if entry)]
    environment = {"FSSPILL_HOOK": "", "PYTHONPATH": os.pathsep.join(path)}
    printed = python("-S", "-c", program(text), environment=environment)
    assert "the own one" in printed
    assert printed.count("'RayHook'") == 1


def test_install_where_ray_is_imported_already() -> None:
    """Modules of Ray that are there already are wrapped too."""
    pytest.importorskip("ray")
    text = """
        import ray._private.node, ray._private.external_storage, fsspill.ray
        assert not fsspill.ray.is_installed()
        fsspill.ray.install()
        assert fsspill.ray.is_installed()
        assert ray._private.node.Node.validate_external_storage.__fsspill__
    """
    python("-c", program(text), environment={"FSSPILL_HOOK": "0"})
