"""Freed memory stays with a process that does nothing but spill and restore."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
from fsspill.ray.malloc import raise_trim_threshold

if "keep" in sys.argv:
    print(raise_trim_threshold())

def take(nbytes):
    held = [bytearray(b"x") * 2**20 for _ in range(nbytes // 2**20)]

take(16 * 2**20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    take(16 * 2**20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")


def run(*arguments: str, **environment: str) -> list[str]:
    variables = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC", "GLIBC"))}
    command = [sys.executable, "-c", FAULTS, *arguments]
    return subprocess.check_output(command, env=variables | environment, text=True).split()


@glibc
def test_freed_memory_is_taken_again_without_a_page_fault() -> None:
    """Buffers of 16 MiB in all, freed and made anew, fault once and not every time."""
    [faults] = run()
    kept, fewer = run("keep")
    assert kept == "True"
    assert int(fewer) < int(faults) / 5


@glibc
def test_what_the_environment_sets_stays() -> None:
    """Who sets glibc's limits by its own variables is not overruled."""
    kept, _ = run("keep", MALLOC_TRIM_THRESHOLD_="1000000")
    assert kept == "False"
