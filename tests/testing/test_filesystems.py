"""The package of filesystems: registration on call, examples, and use without pytest."""

from __future__ import annotations

import doctest
import subprocess
import sys
from importlib import import_module

import fsspec
import pytest

from fsspill.testing.filesystems import (
    CountingFileSystem,
    FaultyFileSystem,
    LatencyFileSystem,
    register,
)
from tests.testing.wrappers import PROTOCOLS


def run(program: str) -> None:
    """Run a program in another process, which must succeed."""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=300)


def test_register_registers_the_three_protocols() -> None:
    """Each protocol is that of its class."""
    classes = [fsspec.get_filesystem_class(protocol) for protocol in PROTOCOLS]
    assert classes == [CountingFileSystem, LatencyFileSystem, FaultyFileSystem]


def test_register_is_idempotent() -> None:
    """A further call changes nothing: cached filesystems and their counts stay."""
    fs = fsspec.filesystem("counting", target_protocol="memory")
    fs.pipe_file("a", b"x")
    before = dict(fsspec.registry)
    register()
    assert dict(fsspec.registry) == before
    assert fsspec.filesystem("counting", target_protocol="memory") is fs
    assert fs.counts == {"pipe_file": 1}


def test_register_refuses_to_replace_another_class(monkeypatch: pytest.MonkeyPatch) -> None:
    """A protocol that is registered for another class stays with it."""
    taken = type("Taken", (), {})
    monkeypatch.setitem(sys.modules["fsspec.registry"]._registry, "slow", taken)
    with pytest.raises(ValueError, match="slow"):
        register()
    assert fsspec.registry["slow"] is taken


def test_importing_registers_nothing() -> None:
    """Fsspec knows the protocols only once `register` has been called."""
    run(
        "from fsspec.registry import known_implementations, registry\n"
        "import fsspill.testing.filesystems, fsspill.testing.contract\n"
        "protocols = {'counting', 'slow', 'faulty'}\n"
        "assert not protocols & {*registry, *known_implementations}\n"
        "fsspill.testing.filesystems.register()\n"
        "assert protocols <= set(registry)\n"
    )


def test_importing_the_testing_package_imports_no_submodule() -> None:
    """Users of one submodule need not have the packages of another."""
    run(
        "import sys, fsspill.testing\n"
        "assert not [name for name in sys.modules if name.startswith('fsspill.testing.')]\n"
    )


def test_the_filesystems_do_not_need_pytest() -> None:
    """A program that is not a test can count as well; `fsspill.testing.contract` needs pytest."""
    run(
        "import sys; sys.modules['pytest'] = None\n"
        "import fsspec, fsspill.testing.filesystems\n"
        "fsspill.testing.filesystems.register()\n"
        "fs = fsspec.filesystem('counting', target_protocol='memory')\n"
        "fs.pipe_file('a', b'x')\n"
        "assert fs.counts == {'pipe_file': 1}\n"
    )


@pytest.mark.parametrize("name", ["filesystems", "filesystems.faulty"])
def test_the_examples_run(name: str) -> None:
    """The examples of the docstrings print the documented output."""
    results = doctest.testmod(import_module(f"fsspill.testing.{name}"))
    assert results.attempted > 0
    assert results.failed == 0
