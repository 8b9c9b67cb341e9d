"""The hook that runs at every start of Python."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping

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


def test_it_is_light() -> None:
    """At a start of Python nothing but the hook is imported, in well under a millisecond."""
    imported = python("-X", "importtime", "-c", "pass")
    names = set(re.findall(r"\|\s+(\S+)$", imported, re.MULTILINE))
    assert "_fsspill_startup" in names
    assert not [n for n in names if n.split(".")[0] in ("fsspill", "fsspec", "ray", "typing")]
    # Processor time, because the machine may be busy; the best of five is the work itself.
    assert min(int(python(HOOK, "show_import_time")) for _ in range(5)) < 1_000_000


@pytest.mark.parametrize(("value", "armed"), [("0", False), ("1", True), ("", True)])
def test_the_environment_switches_it_off(value: str, armed: bool) -> None:
    """FSSPILL_HOOK=0 leaves Python as it is."""
    text = "import sys; print([type(f).__name__ for f in sys.meta_path])"
    printed = python("-c", text, environment={"FSSPILL_HOOK": value})
    assert ("RayHook" in printed) is armed


def test_without_ray_it_is_silent() -> None:
    """An import of Ray's modules where there is no Ray fails as it would without the hook."""
    assert python(HOOK, "import_ray_where_there_is_none").strip() == "ray._private"


def test_ray_imports_nothing_of_fsspill_without_a_uri() -> None:
    """A cluster that does not spill to a URI never imports the package."""
    pytest.importorskip("ray")
    assert python(HOOK, "set_up_without_uri").strip().splitlines()[-1] == "[]"


def test_importing_fsspill_is_light() -> None:
    """`import fsspill` brings in neither Ray nor a cloud package nor the command line's.

    The same holds for `import fsspill.ray`, which must work where Ray is not installed.
    """
    heavy = ("ray", "s3fs", "gcsfs", "adlfs", "botocore", "aiobotocore", "moto", "rich", "numpy")
    for name in ("fsspill", "fsspill.ray"):
        text = f"import sys, {name}; print([name for name in {heavy!r} if name in sys.modules])"
        assert python("-c", text).strip() == "[]"
    # Over fsspec itself, in process time, since the machine may be busy: the best of three.
    times = [float(python(HOOK, "show_import_time_of_fsspill")) for _ in range(3)]
    assert min(times) < 0.1
