"""Packages that do not fit together are named, with the command that mends it."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import fsspec
import pytest
from fsspec.registry import _registry

from fsspill import ConfigError, ExternalStorage, MissingPackageError
from fsspill.storage.packages import describe_conflicts, import_failure
from fsspill.storage.uri import check_uri, filesystem_class

pytest.importorskip("packaging")
pytest.importorskip("s3fs")

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Return a function that makes a package seem to have a version and requirements."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(name: str, version: str, *requirements: str) -> None:
        directory = tmp_path / f"{name}-{version}.dist-info"
        directory.mkdir()
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        lines += [f"Requires-Dist: {requirement}" for requirement in requirements]
        (directory / "METADATA").write_text("\n".join(lines) + "\n")
        importlib.invalidate_caches()

    return install


@pytest.mark.parametrize("protocol", ["ocilake", "box", "gs"])
def test_a_missing_package_is_asked_for_once(
    protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message of fsspec says it too, where there is no extra."""
    error = ImportError(f"Install the package of {protocol}")
    monkeypatch.setattr("fsspill.storage.packages._version", lambda package: None)
    text = str(import_failure(f"{protocol}://x", error))
    assert text.count("nstall ") == (
        2 if protocol == "gs" else 1
    )  # "Install it ...: pip install ..."
    assert "Install it on every node: Install" not in text


def test_these_packages_fit_together() -> None:
    """So nothing is reported in an environment that an installer has resolved."""
    assert [describe_conflicts(extra) for extra in ("s3", "gcs", "azure", "sftp", None)] == [""] * 5


@pytest.mark.parametrize(
    ("package", "version", "requirement", "expected"),
    [
        ("s3fs", "2026.9.0", "fsspec<2020,>=2019", "s3fs 2026.9.0 needs fsspec<2020,>=2019, found"),
        ("s3fs", "2026.9.0", "aiobotocore>=99", "s3fs 2026.9.0 needs aiobotocore>=99, found"),
        ("aiobotocore", "3.10", "botocore<1", "aiobotocore 3.10 needs botocore<1, found"),
        ("boto3", "1.29.7", "botocore<1", "boto3 1.29.7 needs botocore<1, found"),
    ],
)
def test_releases_of_different_days_are_named(
    install: Install, package: str, version: str, requirement: str, expected: str
) -> None:
    """Each with what it needs, and what is there."""
    install(package, version, requirement, "nonsense>=3")
    assert expected in describe_conflicts("s3")


def test_a_package_below_the_floor_is_named(install: Install) -> None:
    """The floors are those of fsspill's own extras."""
    install("obstore", "0.4.0")
    assert "needs obstore>=0.11, found 0.4.0" in describe_conflicts("s3")
    assert "needs obstore>=0.11, found 0.4.0" in describe_conflicts("gcs")
    assert describe_conflicts("sftp") == ""


def test_a_requirement_of_another_extra_or_python_does_not_count(install: Install) -> None:
    """Markers are evaluated."""
    install("s3fs", "2026.9.0", 'fsspec<1; extra == "x"', 'fsspec<1; python_version < "3"')
    assert "fsspec<1" not in describe_conflicts("s3")


def test_the_check_warns_of_what_may_fail_elsewhere(
    install: Install, s3_bucket: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A boto3 that was broken by another installation does not concern fsspill: one line."""
    install("boto3", "1.29.7", "botocore<1")
    with caplog.at_level(logging.WARNING):
        ExternalStorage(f"s3://{s3_bucket}/x").check()
    [line] = [record.getMessage() for record in caplog.records]
    assert "boto3 1.29.7 needs botocore<1, found" in line
    assert f'{sys.executable} -m pip install "fsspill[s3]"' in line


def test_the_check_blames_packages_before_options(
    install: Install, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever goes wrong with packages that do not fit, the message begins with them."""
    install("s3fs", "2026.9.0", "fsspec<1")
    message = r"^cannot spill to s3://\S+ s3fs 2026.9.0 needs fsspec<1, found .* -m pip install"

    async def call(self: object, method: str, *arguments: object, **options: object) -> None:
        raise TypeError("unexpected keyword argument")

    monkeypatch.setattr("s3fs.core.S3FileSystem._call_s3", call)
    with pytest.raises(ConfigError, match=message):
        ExternalStorage(f"s3://{s3_bucket}/x").check()


@pytest.mark.parametrize("error", [ImportError, AttributeError, TypeError])
def test_a_filesystem_that_cannot_be_imported_is_no_traceback(
    error: type[Exception], install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package is there, so it is not said to be missing."""

    def fail(protocol: str) -> None:
        try:
            raise error("cannot import name 'x'\nfrom 'y'")
        except error as cause:
            raise ImportError("Install s3fs to access S3") from cause

    monkeypatch.setattr("fsspill.storage.uri.get_filesystem_class", fail)
    with pytest.raises(MissingPackageError) as found:
        filesystem_class("s3://bucket")
    text = str(found.value)
    assert "is installed and cannot be imported" in text
    assert f"({error.__name__}: cannot import name 'x' from 'y')" in text
    assert text.endswith(f"-m pip install --force-reinstall --no-deps s3fs=={version('s3fs')}")
    install("s3fs", "2026.9.0", "fsspec<1")
    with pytest.raises(MissingPackageError, match=f"needs fsspec<1, found {fsspec.__version__}"):
        filesystem_class("s3://bucket")


@pytest.mark.parametrize(
    ("module", "command"),
    [
        ("async_timeout_", '"fsspill[s3]"'),  # of no package that is installed
        ("azure.nothing", '"fsspill[s3]"'),  # in a namespace that several share
        ("s3fs.core", "--force-reinstall --no-deps s3fs=={}"),
        ("aiobotocore.session", "--force-reinstall --no-deps aiobotocore=={}"),
    ],
)
def test_a_missing_module_is_installed_by_what_installs_it(
    module: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package that is not there comes with the extra; one that lacks files, with itself again.

    In its version: the newest need not suit what is installed beside it.
    """
    pytest.importorskip("azure.storage.blob")

    def fail(protocol: str) -> None:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.setattr("fsspill.storage.uri.get_filesystem_class", fail)
    with pytest.raises(MissingPackageError) as found:
        filesystem_class("s3://bucket")
    if "{}" in command:
        command = command.format(version(module.partition(".")[0]))
    assert str(found.value).endswith(f"-m pip install {command}")


def test_nothing_is_said_where_it_cannot_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package ``packaging``, which Ray brings."""
    monkeypatch.setitem(sys.modules, "packaging.requirements", None)
    assert describe_conflicts("s3") == ""


def test_the_module_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its filesystems cannot import, fsspec has one advice.

    dbfs:// asks for requests, although that is installed and another module is not. Which others it
    imports depends on the release of fsspec; base64 is one in all of them.
    """
    pytest.importorskip("requests")
    monkeypatch.delitem(sys.modules, "fsspec.implementations.dbfs", raising=False)
    monkeypatch.delitem(_registry, "dbfs", raising=False)  # it keeps classes
    monkeypatch.setitem(sys.modules, "base64", None)
    with pytest.raises(MissingPackageError) as caught:
        check_uri("dbfs:///x")
    assert "base64" in str(caught.value)
    assert "Found: Install the requests package" in str(caught.value)


def test_a_module_that_is_missing_when_a_filesystem_is_made_is_no_outage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Filesystems import some of their modules only then."""

    def fail(uri: str, **options: object) -> None:
        raise ModuleNotFoundError("No module named 'azure.identity'", name="azure.identity")

    monkeypatch.setattr("fsspec.core.url_to_fs", fail)
    with pytest.raises(MissingPackageError, match=r"No module named 'azure\.identity'"):
        ExternalStorage("s3://bucket/x").check()
