"""The table of backends: complete, in agreement with the code, and filled by runs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from fsspec.registry import known_implementations

from fsspill import ConfigError, MissingPackageError, errors
from fsspill.storage.spellings import describe_spelling
from fsspill.storage.uri import check_uri
from fsspill.testing.contract import ExternalStorageContract
from tests.contract import backends, test_contract, test_emulators
from tests.contract.backends import BACKENDS, Backend
from tests.installation.environments import ROOT, Environment, run
from tests.timeouts import SLOW

REFUSED = [
    name for row in BACKENDS if row.verdict == backends.NOT for name in row.protocols.split()
]
USED = {name for row in BACKENDS for name in row.protocols.split()} - set(REFUSED)
WITHOUT_SERVER = [row for row in BACKENDS if row.package]

CHECK = """
import json, sys
from fsspill import ExternalStorage, FsspillError, InMemoryObjectStore
uri, options, seconds = sys.argv[1], json.loads(sys.argv[2]), float(sys.argv[3])
try:
    ExternalStorage(
        uri, object_store=InMemoryObjectStore(), storage_options=options, stall_timeout=seconds
    ).check()
except FsspillError as error:
    print("raised", type(error).__name__, " ".join(str(error).split()), flush=True)
"""


def test_the_page_has_the_table() -> None:
    """The table of docs/backends.md is the one that the data makes."""
    assert backends.table() in backends.PAGE.read_text()


@pytest.mark.nightly
def test_every_protocol_is_in_the_table() -> None:
    """What fsspec knows is there, and each protocol in rows of one verdict, refused or not."""
    assert set(known_implementations) <= USED | set(REFUSED)
    assert not USED & set(REFUSED)


@pytest.mark.parametrize("protocol", REFUSED)
def test_what_does_not_work_is_refused(protocol: str) -> None:
    """Before any request, and before its package is asked for, with what to use instead."""
    with pytest.raises(ConfigError, match="expected a URI as fsspec spells it") as caught:
        check_uri(f"{protocol}://host/x")
    assert not isinstance(caught.value, MissingPackageError)


@pytest.mark.parametrize("protocol", sorted(USED))
def test_what_works_is_not_refused(protocol: str) -> None:
    """A URI of its form has the right spelling."""
    assert not describe_spelling(
        f"{protocol}:///x" if protocol in "file local" else f"{protocol}://x"
    )


def contract_of(row: Backend) -> type[ExternalStorageContract]:
    """Return the class of tests that a row names."""
    for module in (test_contract, test_emulators):
        if hasattr(module, row.contract):
            found: type[ExternalStorageContract] = getattr(module, row.contract)
            return found
    raise AssertionError(f"no contract {row.contract}")


@pytest.mark.parametrize("row", BACKENDS, ids=lambda row: row.name)
def test_what_works_has_run_the_contract(row: Backend) -> None:
    """Each verdict rests on a run: of the contract, or of a check; the rest is not tried."""
    assert bool(row.contract) == (row.verdict in (backends.WORKS, backends.BUT))
    assert bool(row.package) <= (row.verdict == backends.UNTRIED)
    if row.contract:
        assert issubclass(contract_of(row), ExternalStorageContract)


@pytest.fixture(scope="module")
def environments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory for environments."""
    return tmp_path_factory.mktemp("environments")


@pytest.mark.nightly
@pytest.mark.timeout(900)
@pytest.mark.parametrize("row", WITHOUT_SERVER, ids=lambda row: row.name)
def test_a_storage_that_does_not_answer_is_named(row: Backend, tmp_path: Path) -> None:
    """The check by the client from its package ends with an error that says where and why.

    So does the process, which no retry of the client keeps.
    """
    environment = Environment(tmp_path)
    environment.install("--quiet", str(ROOT), *row.package.split())
    check = (environment.python, "-c", CHECK, row.uri, json.dumps(row.options), str(SLOW))
    [raised] = re.findall(r"^raised .*", run(*check), re.MULTILINE)
    _, name, message = raised.split(maxsplit=2)
    assert issubclass(getattr(errors, name), errors.FsspillError)
    assert row.uri in message
    assert "Expected" in message
