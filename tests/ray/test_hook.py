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

from tests.running import PROGRAMS

HOOK = str(PROGRAMS / "hook.py")


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
    return min(int(python("-c", textwrap.dedent(text))) for _ in range(3))


def test_a_start_of_python_imports_only_the_hook() -> None:
    """It takes few function calls."""
    imported = python("-X", "importtime", "-c", "pass")
    names = set(re.findall(r"\|\s+(\S+)$", imported, re.MULTILINE))
    assert "_fsspill_startup" in names
    assert not [n for n in names if n.split(".")[0] in ("fsspill", "fsspec", "ray", "typing")]
    assert "_fsspill_wrappers" not in names
    # Measured: 335 calls, 0.15 ms of processor time.
    removed = "import sys; del sys.modules['_fsspill_startup']"
    assert calls_of("import _fsspill_startup", after=removed) < 1000


@pytest.mark.parametrize(("value", "armed"), [("0", False), ("1", True), ("", True)])
def test_the_environment_switches_it_off(value: str, armed: bool) -> None:
    """FSSPILL_HOOK=0 leaves Python as it is."""
    text = "import sys; print([type(f).__name__ for f in sys.meta_path])"
    printed = python("-c", text, environment={"FSSPILL_HOOK": value})
    assert ("RayHook" in printed) is armed


def test_the_hook_is_silent_without_ray() -> None:
    """An import of Ray's modules where there is no Ray fails as it would without the hook."""
    assert python(HOOK, "import_ray_where_there_is_none").strip() == "ray._private"


def test_ray_imports_nothing_of_fsspill_without_a_uri() -> None:
    """A cluster that does not spill to a URI never imports the package."""
    pytest.importorskip("ray")
    assert python(HOOK, "set_up_without_uri").strip().splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "finders",
    [
        "finder_in_front",
        "finder_that_delegates",
        "finder_that_delegates_in_front",
        "loader_of_all_modules",
        "loader_of_all_modules_in_front",
        "hook_that_was_loaded_twice",
        "reloaded",
    ],
)
def test_other_import_hooks(finders: str) -> None:
    """Whatever finds and loads modules before or behind the hook, Ray is wrapped exactly once."""
    pytest.importorskip("ray")
    python(HOOK, finders)


@pytest.mark.nightly
def test_the_assertion_rewriting_of_pytest(tmp_path: Path) -> None:
    """It finds every module by itself where all files are test files, and the hook still works."""
    pytest.importorskip("ray")
    (tmp_path / "pytest.ini").write_text("[pytest]\npython_files = *.py\n")
    (tmp_path / "test_it.py").write_text(
        "def test_it():\n"
        "    import ray, fsspill.ray\n"
        "    assert fsspill.ray.is_installed()\n"
        "    assert ray._private.node.Node.start_ray_processes.__fsspill__\n"
    )
    arguments = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore", str(tmp_path))
    assert "1 passed" in python(*arguments)


def test_ray_works_without_the_wrappers() -> None:
    """A broken installation of the hook itself is silent, and leaves Ray as it is."""
    pytest.importorskip("ray")
    assert python(HOOK, "hook_without_its_wrappers") == ""


def test_importing_fsspill_imports_no_optional_package() -> None:
    """Neither Ray nor a cloud package nor those of the command line.

    The same holds for `import fsspill.ray`, which must work where Ray is not installed.
    """
    heavy = ("ray", "s3fs", "gcsfs", "adlfs", "botocore", "aiobotocore", "moto", "rich", "numpy")
    for name in ("fsspill", "fsspill.ray"):
        text = f"import sys, {name}; print([name for name in {heavy!r} if name in sys.modules])"
        assert python("-c", text).strip() == "[]"
    # Over fsspec itself. Measured: 37,000 calls.
    assert calls_of("import fsspill", after="import fsspec, fsspec.asyn") < 100_000
