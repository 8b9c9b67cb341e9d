"""The package: what is public, and what its extras install."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import types
from pathlib import Path

import fsspill

PACKAGE = Path(fsspill.__file__).parent
TESTS = Path(__file__).parent

LONG_ENOUGH = 40
"""Lines beyond which a module has a test module of its own."""

TESTED_ELSEWHERE = {
    "__init__": "names only: this module tests them",
    "hook/_fsspill_startup": "installed outside of the package: tests/ray/test_hook.py",
    "hook/_fsspill_config": "installed outside of the package: tests/ray/test_wrappers.py",
    "hook/_fsspill_wrappers": "installed outside of the package: tests/ray/test_hook.py",
    "testing/contract": "itself a test class, which tests/contract/test_contract.py runs",
}
"""Longer modules without a test module of the same name, and the reason."""


def test_all_lists_the_visible_names() -> None:
    """`__all__` is complete, and holds nothing else."""
    visible = {
        name
        for name, value in vars(fsspill).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert visible | {"__version__"} == set(fsspill.__all__)


def test_the_names_of_the_contract_are_public() -> None:
    """They are those of Ray."""
    for name in (
        "create_url_with_offset",
        "parse_url_with_offset",
        "ParsedURL",
        "Storage",
        "ExternalStorage",
        "NullStorage",
        "setup_external_storage",
        "reset_external_storage",
        "spill_objects",
        "restore_spilled_objects",
        "delete_spilled_objects",
        "InMemoryObjectStore",
        "ObjectStore",
    ):
        assert name in fsspill.__all__


def test_the_extras_are_those_of_the_documentation() -> None:
    """The core requires only fsspec, a hash, and what Ray's command line requires too."""
    metadata = importlib.metadata.metadata("fsspill")
    extras = set(metadata.get_all("Provides-Extra") or [])
    assert extras >= {"s3", "gcs", "azure", "ray", "cli", "compression", "all", "test"}
    requirements = importlib.metadata.requires("fsspill") or []
    core = [line for line in requirements if "extra ==" not in line]
    names = [re.match(r"[\w-]+", line)[0] for line in core]  # type: ignore[index]
    assert names == ["click", "fsspec", "xxhash"]


def test_versions_agree() -> None:
    """The package and its metadata have the same version."""
    assert importlib.metadata.version("fsspill") == fsspill.__version__


def has_tests(module: Path) -> bool:
    folder = module.relative_to(PACKAGE).parts[:-1][:1]
    # A package is tested by the module of its own name.
    name = module.parent.name if module.stem == "__init__" else module.stem
    return TESTS.joinpath(*folder, f"test_{name}.py").exists()


def test_every_module_has_a_test_module_of_its_name() -> None:
    """``fsspill/storage/uri.py`` is tested by ``tests/storage/test_uri.py``, and so on."""
    missing = {
        str(module.relative_to(PACKAGE).with_suffix(""))
        for module in PACKAGE.rglob("*.py")
        if len(module.read_text().splitlines()) > LONG_ENOUGH and not has_tests(module)
    }
    assert missing == set(TESTED_ELSEWHERE)


HEADLESS = re.compile(r"(What|Who|Whose|Whether|Let|How|Where|Why|Say|Look|Give)\b")
"""First words of a docstring that hides its noun in a clause, or its object in a phrase."""


def test_docstrings_begin_with_a_noun_or_an_imperative() -> None:
    """The first words name the thing, or the action of a function."""
    headless = [
        f"{module.relative_to(PACKAGE)}: {docstring.splitlines()[0]}"
        for module in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        and (docstring := ast.get_docstring(node))
        and HEADLESS.match(docstring)
    ]
    assert headless == []
