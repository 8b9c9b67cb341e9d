"""The package: what is public, and what its extras install."""

from __future__ import annotations

import importlib.metadata
import re
import types

import fsspill


def test_the_public_names_are_those_that_are_visible() -> None:
    """`__all__` is complete, and holds nothing else."""
    visible = {
        name
        for name, value in vars(fsspill).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert visible | {"__version__"} == set(fsspill.__all__)


def test_the_contract_is_importable_from_the_top() -> None:
    """Ray's names, in one place."""
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


def test_the_extras() -> None:
    """They are called what a user says, and the core needs fsspec and a hash."""
    metadata = importlib.metadata.metadata("fsspill")
    extras = set(metadata.get_all("Provides-Extra") or [])
    assert extras >= {"s3", "gcs", "azure", "ray", "cli", "compression", "all", "test"}
    requirements = importlib.metadata.requires("fsspill") or []
    core = [line for line in requirements if "extra ==" not in line]
    assert [re.match(r"[\w-]+", line)[0] for line in core] == ["fsspec", "xxhash"]  # type: ignore[index]


def test_versions_agree() -> None:
    """The package and its metadata tell the same version."""
    assert importlib.metadata.version("fsspill") == fsspill.__version__
