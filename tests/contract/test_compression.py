"""Compression as users see it: what is stored, what is restored, and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import fsspec
import pytest

from fsspill import ConfigError, CorruptObjectError, ExternalStorage, InMemoryObjectStore
from fsspill.errors import MissingPackageError
from fsspill.format.compression import CODECS, Compression
from fsspill.format.digest import Digests
from fsspill.format.url import SpillURL
from fsspill.testing.contract import split_url
from tests.samples import KIB, MIB, compressible_bytes, random_bytes
from tests.spilling import codecs, compression_numbers, restore, spill

pytest.importorskip("lz4.block")
pytest.importorskip("zstandard")


@pytest.fixture
def uri(memory_uri: str) -> str:
    return memory_uri


@codecs
def test_objects_of_one_file_are_compressed_individually(
    uri: str, store: InMemoryObjectStore, codec: str
) -> None:
    """Incompressible and small objects are stored raw between compressed ones; all are restored."""
    storage = ExternalStorage(uri, object_store=store, compression=codec)
    objects = [
        compressible_bytes(MIB),
        random_bytes(100 * KIB),
        b"",
        b"small",
        compressible_bytes(5 * KIB, 1),
    ]
    urls = spill(storage, *objects)
    assert len({split_url(url.encode())[0] for url in urls}) == 1
    assert [bool(compression_numbers(url, codec)) for url in urls] == [
        True,
        False,
        False,
        False,
        True,
    ]
    for url, data in zip(urls, objects, strict=True):
        assert compression_numbers(url, codec)[:1] in ([], [24 + len(data)])
        assert restore(storage, url) == data
    ends = [offset + size for _, offset, size in (split_url(url.encode()) for url in urls)]
    assert [split_url(url.encode())[1] for url in urls] == [0, *ends[:-1]]
    [file] = fsspec.filesystem("memory").find(uri.partition("://")[2])
    assert fsspec.filesystem("memory").size(file) == ends[-1] < 0.7 * sum(map(len, objects))


@codecs
@pytest.mark.parametrize("kind", ["memory", "shared"])
def test_restore_does_not_depend_on_the_setting(
    uri: str, store: InMemoryObjectStore, codec: str, kind: str, tmp_path: Path
) -> None:
    """Storages without compression, or with another codec, restore compressed objects."""
    arguments: dict[str, Any] = {"shared": True} if kind == "shared" else {}
    place = f"file://{tmp_path}" if kind == "shared" else uri
    spilling = ExternalStorage(place, object_store=store, compression=codec, **arguments)
    data = compressible_bytes(20 * MIB)
    [url] = spill(spilling, data)
    assert compression_numbers(url, codec)
    for other in (None, *CODECS):
        assert restore(ExternalStorage(place, compression=other, **arguments), url) == data


@pytest.mark.parametrize("shared", [True, False])
def test_flipped_bit_is_found_before_decompression(
    uri: str,
    store: InMemoryObjectStore,
    shared: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Digests are checked on the bytes at rest, before they reach the codec."""
    place = f"file://{tmp_path}" if shared else uri
    storage = ExternalStorage(place, object_store=store, shared=shared, compression="zstd")
    [url] = spill(storage, compressible_bytes(MIB))
    fs, path = fsspec.core.url_to_fs(split_url(url.encode())[0])
    data = bytearray(fs.cat_file(path))
    data[len(data) // 2] ^= 1
    fs.pipe_file(path, bytes(data))
    monkeypatch.setattr(Compression, "decompress", lambda *arguments: pytest.fail("decompressed"))
    with pytest.raises(CorruptObjectError, match="found others, the same in 3 reads"):
        restore(storage, url)


@pytest.mark.parametrize("shared", [True, False])
def test_frame_within_the_limits_is_verified_before_the_object_is_created(
    uri: str, shared: bool, tmp_path: Path
) -> None:
    """Its last block is verified and decompressed first; the limit counts uncompressed bytes."""

    class Recording(InMemoryObjectStore):
        made = 0

        def put_file_like_object(self, *arguments: Any) -> None:
            self.made += 1
            super().put_file_like_object(*arguments)

    store = Recording()
    place = f"file://{tmp_path}" if shared else uri
    arguments: dict[str, Any] = {"shared": shared, "max_bytes_in_flight": 32 * MIB}
    storage = ExternalStorage(place, object_store=store, compression="zstd", **arguments)
    [url] = spill(storage, compressible_bytes(MIB) * 20)
    storage.restore_spilled_objects([0], [url])
    assert store.made == 1
    fs, path = fsspec.core.url_to_fs(split_url(url.encode())[0])
    data = bytearray(fs.cat_file(path))
    data[-1] ^= 1
    fs.pipe_file(path, bytes(data))
    with pytest.raises(CorruptObjectError):
        storage.restore_spilled_objects([1], [url])
    assert store.made == 1


@codecs
def test_wrong_codec_or_length_is_corrupt(uri: str, store: InMemoryObjectStore, codec: str) -> None:
    """Correct bytes at rest with a wrong parameter are corrupt, and no object is created."""
    storage = ExternalStorage(uri, object_store=store, compression=codec)
    [url] = spill(storage, compressible_bytes(MIB))
    other = next(name for name in CODECS if name != codec)
    for wrong in (
        url.replace(f"&{codec}=", f"&{other}="),
        url.replace(f"&{codec}={MIB + 24}.", f"&{codec}={MIB + 23}."),
        url.replace(f"&{codec}={MIB + 24}.", f"&{codec}={MIB + 25}."),
        url.replace(f"&{codec}=", "&other="),
    ):
        assert wrong != url
        with pytest.raises(CorruptObjectError):
            restore(storage, wrong)
        assert len(storage.object_store) == 0  # type: ignore[arg-type]


def test_digest_covers_the_bytes_at_rest(uri: str, store: InMemoryObjectStore) -> None:
    """The sha256 of a compressed object is that of its bytes in the file."""
    storage = ExternalStorage(uri, object_store=store, compression="lz4", digest="sha256")
    [url] = spill(storage, compressible_bytes(MIB))
    base, offset, size = split_url(url.encode())
    fs, path = fsspec.core.url_to_fs(base)
    at_rest = fs.cat_file(path)[offset : offset + size]
    assert SpillURL.parse(url).digests() == Digests.of("sha256", [[at_rest]])


def test_node_local_uri_cannot_be_compressed(tmp_path: Path) -> None:
    """It is refused, because the raylet reads those files itself."""
    with pytest.raises(ConfigError, match="raylet reads the files of a node's own disk"):
        ExternalStorage(f"file://{tmp_path}", compression="zstd")


@pytest.mark.parametrize("codec", ["gzip", "", 1, True, ["zstd"], {"zstd": 1}])
def test_unknown_codec_is_refused(uri: str, codec: Any) -> None:
    """The error names the codecs that exist."""
    with pytest.raises(ConfigError, match="expected one of lz4, zstd, or None"):
        ExternalStorage(uri, compression=codec)


@codecs
def test_missing_package_is_named(
    uri: str, store: InMemoryObjectStore, codec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both a storage with the codec and a restore of compressed objects name what to install."""
    [url] = spill(
        ExternalStorage(uri, object_store=store, compression=codec), compressible_bytes(MIB)
    )
    for module in ("lz4", "lz4.block", "zstandard"):
        monkeypatch.setitem(sys.modules, module, None)
    without = ExternalStorage(uri)
    install = r'pip install "fsspill\[compression\]"'
    with pytest.raises(MissingPackageError, match=f"{uri} with compression {codec}.*{install}"):
        ExternalStorage(uri, compression=codec)
    with pytest.raises(MissingPackageError, match=f"{uri}.* with compression {codec}.*{install}"):
        restore(without, url)
