"""Names of options that filesystems know."""

from __future__ import annotations

import importlib

import pytest
from fsspec import get_filesystem_class

from fsspill.storage.option_names import KnownNames, known_names
from fsspill.storage.protocols import PROTOCOLS


def of(protocol: str, *place: str) -> KnownNames:
    """Return the names that a protocol knows in one place."""
    found = known_names(get_filesystem_class(protocol), PROTOCOLS[protocol])
    [names] = [names for names in found if names.place == place]
    return names


def test_those_of_botocores_settings_are_all_known() -> None:
    """A release that has more of them makes this fail, and they are added."""
    pytest.importorskip("s3fs")
    settings = importlib.import_module("botocore.configprovider")
    assert set(of("s3", "config_kwargs", "s3").names) >= set(settings.DEFAULT_S3_CONFIG_VARS)
    proxies = set(of("s3", "config_kwargs", "proxies_config").names)
    assert proxies >= set(settings.DEFAULT_PROXIES_CONFIG_VARS)


def test_those_of_aiobotocores_connector_are_all_known() -> None:
    """Its class names them only for type checkers."""
    config = pytest.importorskip("aiobotocore.config")
    typed = getattr(config, "_ConnectorArgs", None)
    if typed is None:
        pytest.skip("this release names them nowhere")
    assert set(of("s3", "config_kwargs", "connector_args").names) >= set(typed.__annotations__)


def test_parameters_of_requests_are_those_of_all_of_them() -> None:
    """A name that only some requests have is known; one with another case is not."""
    pytest.importorskip("s3fs")
    names = of("s3", "s3_additional_kwargs")
    assert names.is_complete
    for name in ("ServerSideEncryption", "RequestPayer", "BypassGovernanceRetention", "ACL", "acl"):
        assert name in names.names
    assert "serverSideEncryption" not in names.names
    assert len(names.names) == len(list(names.names))


@pytest.mark.parametrize(
    ("protocol", "package", "some"),
    [
        ("gs", "gcsfs", {"token", "requester_pays", "use_listings_cache"}),
        ("abfs", "adlfs", {"account_name", "credential", "skip_instance_cache"}),
        ("ftp", "fsspec", {"host", "username", "timeout"}),
        ("sftp", "paramiko", {"host", "password", "key_filename", "temppath"}),
    ],
)
def test_names_are_those_of_signatures(protocol: str, package: str, some: set[str]) -> None:
    """Those of the class, its bases, fsspec, and the calls that get the others."""
    pytest.importorskip(package)
    assert set(of(protocol).names) >= some


def test_who_knows_no_names_yields_none() -> None:
    """A filesystem that may hand on any name is left to itself."""
    assert not list(known_names(get_filesystem_class("file"), PROTOCOLS["file"]))
