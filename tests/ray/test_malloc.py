"""Memory that a process keeps when buffers are freed."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from tests.running import PROGRAMS

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")


def run(*arguments: str, **environment: str) -> list[str]:
    variables = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC", "GLIBC"))}
    command = [sys.executable, str(PROGRAMS / "page_faults.py"), *arguments]
    return subprocess.check_output(command, env=variables | environment, text=True).split()


@glibc
def test_freed_memory_is_reused_without_page_faults() -> None:
    """Buffers of 16 MiB in all, freed and allocated again, fault once and not every time."""
    [faults] = run()
    kept, fewer = run("keep")
    assert kept == "True"
    assert int(fewer) < int(faults) / 5


@glibc
def test_settings_of_the_environment_are_kept() -> None:
    """Thresholds that are set by glibc's own variables are not overruled."""
    kept, _ = run("keep", MALLOC_TRIM_THRESHOLD_="1000000")
    assert kept == "False"
