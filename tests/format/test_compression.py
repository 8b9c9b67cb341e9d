"""Compressed objects: what their URLs say, what lies at rest, and what is refused."""

from __future__ import annotations

import random
import sys
import tracemalloc
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsspill import (
    ConfigError,
    CorruptObjectError,
    ExternalStorage,
    InMemoryObjectStore,
    StorageNotFoundError,
)
from fsspill.errors import MissingPackageError
from fsspill.format import encoding as packing
from fsspill.format.compression import CODECS, Compression, compress, is_compressible
from fsspill.format.digest import Digests
from fsspill.format.planning import count_blocks
from fsspill.storage.layout import SpillLocation
from fsspill.testing.contract import split_url
from tests.at_rest import files, keys

lz4_block = pytest.importorskip("lz4.block")
zstandard = pytest.importorskip("zstandard")

KIB, MIB = 2**10, 2**20
URL = "s3://bucket/session/ray_spilled_objects_1/file?offset=0&size=24"

codecs = pytest.mark.parametrize("codec", sorted(CODECS))


def noise(nbytes: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(nbytes)


def half_noise(nbytes: int, seed: int = 0) -> bytes:
    """Return bytes that shrink to about a half, wherever one looks."""
    made = random.Random(seed)
    return b"".join(made.randbytes(500) + bytes(500) for _ in range(nbytes // 1000 + 1))[:nbytes]


@pytest.fixture
def store() -> InMemoryObjectStore:
    return InMemoryObjectStore()


@pytest.fixture
def uri() -> Iterator[str]:
    yield f"memory://{uuid.uuid4().hex}"
    fsspec.filesystem("memory").store.clear()


def spill(storage: ExternalStorage, *objects: bytes) -> list[str]:
    """Spill objects called 0, 1, ... and forget them; return their URLs."""
    store = storage.object_store
    assert isinstance(store, InMemoryObjectStore)
    for ref, data in enumerate(objects):
        store.put(ref, data)
    urls = storage.spill_objects(range(len(objects)))
    assert len(urls) == len(objects)
    for ref in range(len(objects)):
        store.delete(ref)
    return [url.decode() for url in urls]


def restore(storage: ExternalStorage, url: str) -> bytes:
    store = InMemoryObjectStore()
    storage.object_store = store
    storage.restore_spilled_objects([b"back"], [url])
    return bytes(store.get(b"back"))


def parameter(url: str, codec: str) -> list[int]:
    """Return the numbers of the URL's parameter; none if it has no such parameter."""
    found = [item.partition("=")[2] for item in url.split("&") if item.startswith(f"{codec}=")]
    return [int(number) for value in found for number in value.split(".")]


@given(
    st.sampled_from(sorted(CODECS)),
    st.lists(st.binary(max_size=200) | st.just(bytes(5000)), min_size=1, max_size=4),
)
def test_a_block_comes_back(codec: str, buffers: list[bytes]) -> None:
    """Whatever its bytes, and however they are cut before or at rest."""
    data = b"".join(buffers) or b"x"
    at_rest = compress(codec, [memoryview(data)])
    assert compress(codec, [data[:3], data[3:]]) == at_rest
    compression = Compression(codec, len(data), (len(at_rest),))
    assert compression.decompress(0, [at_rest], URL) == data
    assert compression.decompress(0, [at_rest[:5], memoryview(at_rest)[5:]], URL) == data


@given(st.sampled_from(sorted(CODECS)), st.integers(1, 2**35), st.data())
def test_a_url_carries_lengths(codec: str, length: int, data: st.DataObject) -> None:
    """What the parameter says is read back, and the blocks at rest follow one another."""
    count = count_blocks(length)
    sizes = (data.draw(st.integers(1, 10**7)),) * count
    compression = Compression(codec, length, sizes)
    url = f"{URL}&{compression.parameter()}"
    assert Compression.of_url(url, size=sum(sizes), blocks=count) == compression
    plan = compression.plan(7)
    assert [stop - start for start, stop in plan] == list(sizes)
    assert [start for start, _ in plan] == [7, *(stop for _, stop in plan[:-1])]


def test_a_url_without_a_codec_is_of_bytes_as_they_are() -> None:
    """Other parameters are not looked at."""
    assert Compression.of_url(f"{URL}&brotli=1.1&xxh3_128=abc", size=24, blocks=1) is None


@pytest.mark.parametrize(
    "parameters",
    [
        "zstd=",
        "zstd",
        "zstd=100",
        "zstd=100.",
        "zstd=100.24.",
        "zstd=100..24",
        "zstd=100.23",
        "zstd=100.25",
        "zstd=100.12.12",
        "zstd=100.024",
        "zstd=0.24",
        "zstd=100.24.0",
        "zstd=-100.24",
        "zstd=+100.24",
        "zstd=1_0.24",
        "zstd=100.2\u0664",
        "zstd=10000000.24",
        "zstd=9999999999999999999.24",
        "zstd=" + "9" * 5000 + ".24",
        "zstd=100.24&zstd=100.24",
        "zstd=100.24&lz4=100.24",
    ],
)
def test_a_malformed_parameter_is_refused(parameters: str) -> None:
    """Numbers that are missing, written otherwise, of other sums, too many, or absurd."""
    assert Compression.of_url(f"{URL}&zstd=100.24", size=24, blocks=1)
    with pytest.raises(CorruptObjectError, match="expected one parameter zstd"):
        Compression.of_url(f"{URL}&{parameters}", size=24, blocks=1)


def test_as_many_blocks_as_digests() -> None:
    """A block that nothing could be checked against is refused."""
    url = f"{URL}&zstd={10 * MIB}.10.14"
    assert Compression.of_url(url, size=24, blocks=2)
    with pytest.raises(CorruptObjectError, match="of its 1 blocks"):
        Compression.of_url(url, size=24, blocks=1)


def without_length(data: bytes) -> bytes:
    """Compress with zstd without saying to how many bytes it decompresses."""
    context = zstandard.ZstdCompressor().compressobj()
    compressed: bytes = context.compress(data) + context.flush()
    return compressed


def block(data: bytes) -> bytes:
    compressed: bytes = lz4_block.compress(data, store_size=False)
    return compressed


@pytest.mark.parametrize(
    ("codec", "make"), [("lz4", block), ("zstd", zstandard.compress), ("zstd", without_length)]
)
@pytest.mark.parametrize("length", [64 * MIB, 999, 1001])
def test_a_bomb_takes_no_memory(codec: str, make: Callable[[bytes], bytes], length: int) -> None:
    """A block of more bytes than planned, or fewer, is corrupt; no more memory is taken."""
    at_rest = make(bytes(length))
    compression = Compression(codec, 1000, (len(at_rest),))
    tracemalloc.start()
    try:
        with pytest.raises(CorruptObjectError, match=r"decompress .* to 1000 bytes"):
            compression.decompress(0, [at_rest], URL)
        assert tracemalloc.get_traced_memory()[1] < MIB
    finally:
        tracemalloc.stop()


@codecs
def test_bytes_behind_a_block_are_refused(codec: str) -> None:
    """A block is all of its bytes."""
    at_rest = compress(codec, [bytes(1000)]) + b"x"
    with pytest.raises(CorruptObjectError, match="decompress"):
        Compression(codec, 1000, (len(at_rest),)).decompress(0, [at_rest], URL)


@codecs
@pytest.mark.parametrize("size", [4 * KIB, 100 * KIB, 20 * MIB])
def test_samples_tell_what_shrinks(codec: str, size: int) -> None:
    """Noise does not, and what does shrink is seen though head and tail are noise."""
    assert not is_compressible(codec, memoryview(noise(size)))
    assert is_compressible(codec, memoryview(half_noise(size)))
    edge = noise(size // 16)
    assert is_compressible(codec, memoryview(edge + bytes(size - 2 * len(edge)) + edge))


@codecs
def test_what_is_small_is_not_worth_it(codec: str) -> None:
    """Below 4 KiB nothing is compressed."""
    assert not is_compressible(codec, memoryview(bytes(4 * KIB - 1)))
    assert not is_compressible(codec, memoryview(b""))


@codecs
def test_objects_of_one_file_are_compressed_or_not(
    uri: str, store: InMemoryObjectStore, codec: str
) -> None:
    """Each for itself: what does not shrink lies as it is between others; all come back."""
    storage = ExternalStorage(uri, object_store=store, compression=codec)
    objects = [half_noise(MIB), noise(100 * KIB), b"", b"small", half_noise(5 * KIB, 1)]
    urls = spill(storage, *objects)
    assert len({split_url(url.encode())[0] for url in urls}) == 1
    assert [bool(parameter(url, codec)) for url in urls] == [True, False, False, False, True]
    for url, data in zip(urls, objects, strict=True):
        assert parameter(url, codec)[:1] in ([], [24 + len(data)])
        assert restore(storage, url) == data
    ends = [offset + size for _, offset, size in (split_url(url.encode()) for url in urls)]
    assert [split_url(url.encode())[1] for url in urls] == [0, *ends[:-1]]
    [file] = fsspec.filesystem("memory").find(uri.partition("://")[2])
    assert fsspec.filesystem("memory").size(file) == ends[-1] < 0.7 * sum(map(len, objects))


@codecs
@pytest.mark.parametrize("kind", ["memory", "shared"])
def test_restoring_does_not_depend_on_the_parameter(
    uri: str, store: InMemoryObjectStore, codec: str, kind: str, tmp_path: Path
) -> None:
    """Storages without compression, or with another codec, restore what was compressed."""
    arguments: dict[str, Any] = {"shared": True} if kind == "shared" else {}
    place = f"file://{tmp_path}" if kind == "shared" else uri
    spilling = ExternalStorage(place, object_store=store, compression=codec, **arguments)
    data = half_noise(20 * MIB)
    [url] = spill(spilling, data)
    assert parameter(url, codec)
    for other in (None, *CODECS):
        assert restore(ExternalStorage(place, compression=other, **arguments), url) == data


@codecs
def test_noise_lies_as_it_is(tmp_path: Path, store: InMemoryObjectStore, codec: str) -> None:
    """A large object that does not shrink is the same at rest, byte for byte, as without codec."""
    data = noise(20 * MIB)
    directories = tmp_path / "with", tmp_path / "without"
    with_codec, without = (
        ExternalStorage(f"file://{directory}", object_store=store, shared=True, compression=name)
        for directory, name in zip(directories, (codec, None), strict=True)
    )
    [url], [expected] = spill(with_codec, data), spill(without, data)
    assert url.partition("?")[2] == expected.partition("?")[2]
    [found], [as_it_is] = (files(directory) for directory in directories)
    assert found.read_bytes() == as_it_is.read_bytes()


def test_the_name_of_a_file_has_its_length_before(uri: str, store: InMemoryObjectStore) -> None:
    """What max_bytes counts is an upper bound: known before the file is compressed."""
    storage = ExternalStorage(uri, object_store=store, compression="zstd")
    [url] = spill(storage, half_noise(MIB))
    base, _, size = split_url(url.encode())
    assert SpillLocation.size_of(base) == MIB + 24 > 1.5 * size


@pytest.mark.parametrize("protocol", ["memory", "file", "s3"])
@codecs
def test_a_large_object_goes_up_part_by_part(
    protocol: str, codec: str, s3_bucket: str, store: InMemoryObjectStore, tmp_path: Path
) -> None:
    """40 MiB lie at rest in half of the bytes, in blocks of up to 8.5 MiB, and come back."""
    place = {"memory": uuid.uuid4().hex, "file": str(tmp_path), "s3": s3_bucket}[protocol]
    uri, shared = f"{protocol}://{place}", protocol == "file"
    storage = ExternalStorage(uri, object_store=store, compression=codec, shared=shared)
    data = half_noise(MIB) * 40
    [url] = spill(storage, data)
    length, *sizes = parameter(url, codec)
    assert (length, len(sizes)) == (40 * MIB + 24, 5)
    base, offset, size = split_url(url.encode())
    assert (offset, size) == (0, sum(sizes))
    assert fsspec.url_to_fs(base)[0].size(base) == size < 0.7 * 40 * MIB
    assert restore(storage, url) == data
    storage.destroy_external_storage()


def test_parts_are_as_large_as_s3_wants_them(
    s3_bucket: str, store: InMemoryObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but the last have 5 MiB or more, though blocks shrink to less; none has two blocks more.

    Some blocks shrink to nearly nothing, which ends one upload exactly with its last block.
    """
    storage = ExternalStorage(f"s3://{s3_bucket}", object_store=store, compression="lz4")
    sent: list[int] = []
    fs = fsspec.filesystem("s3")
    call = type(fs)._call_s3

    async def record(self: Any, operation: str, **arguments: Any) -> Any:
        if operation == "upload_part":
            sent.append(len(arguments["Body"]))
        return await call(self, operation, **arguments)

    monkeypatch.setattr(type(fs), "_call_s3", record)
    for data in (
        half_noise(MIB) * 48,
        bytes(24 * MIB) + noise(8 * MIB) + half_noise(8 * MIB),
        half_noise(12 * MIB) + noise(MIB) * 16,
    ):
        sent.clear()
        [url] = spill(storage, data)
        assert parameter(url, "lz4")
        assert sum(sent) == split_url(url.encode())[2]
        assert all(5 * MIB <= size <= 15 * MIB for size in sent[:-1])
        assert restore(storage, url) == data


@pytest.mark.parametrize("shared", [True, False])
def test_a_flipped_bit_is_found_before_a_byte_is_decompressed(
    uri: str,
    store: InMemoryObjectStore,
    shared: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is checked are the bytes at rest."""
    place = f"file://{tmp_path}" if shared else uri
    storage = ExternalStorage(place, object_store=store, shared=shared, compression="zstd")
    [url] = spill(storage, half_noise(MIB))
    fs, path = fsspec.url_to_fs(split_url(url.encode())[0])
    data = bytearray(fs.cat_file(path))
    data[len(data) // 2] ^= 1
    fs.pipe_file(path, bytes(data))
    monkeypatch.setattr(Compression, "decompress", lambda *arguments: pytest.fail("decompressed"))
    with pytest.raises(CorruptObjectError, match="found others in 3 reads"):
        restore(storage, url)


@pytest.mark.parametrize("shared", [True, False])
def test_a_frame_that_the_limits_let_be_held_is_right_before_the_object_is_made(
    uri: str, shared: bool, tmp_path: Path
) -> None:
    """Its last block was checked and decompressed: the bytes before compression are what counts."""

    class Recording(InMemoryObjectStore):
        made = 0

        def put_file_like_object(self, *arguments: Any) -> None:
            self.made += 1
            super().put_file_like_object(*arguments)

    store = Recording()
    place = f"file://{tmp_path}" if shared else uri
    arguments: dict[str, Any] = {"shared": shared, "max_bytes_in_flight": 32 * MIB}
    storage = ExternalStorage(place, object_store=store, compression="zstd", **arguments)
    [url] = spill(storage, half_noise(MIB) * 20)
    storage.restore_spilled_objects([0], [url])
    assert store.made == 1
    fs, path = fsspec.url_to_fs(split_url(url.encode())[0])
    data = bytearray(fs.cat_file(path))
    data[-1] ^= 1
    fs.pipe_file(path, bytes(data))
    with pytest.raises(CorruptObjectError):
        storage.restore_spilled_objects([1], [url])
    assert store.made == 1


@codecs
def test_another_codec_or_length_is_refused(
    uri: str, store: InMemoryObjectStore, codec: str
) -> None:
    """The right bytes at rest with a wrong parameter are corrupt, and restore nothing."""
    storage = ExternalStorage(uri, object_store=store, compression=codec)
    [url] = spill(storage, half_noise(MIB))
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


def test_the_digest_is_of_the_bytes_at_rest(uri: str, store: InMemoryObjectStore) -> None:
    """Sha256 of a compressed object is that of its bytes in the file."""
    storage = ExternalStorage(uri, object_store=store, compression="lz4", digest="sha256")
    [url] = spill(storage, half_noise(MIB))
    base, offset, size = split_url(url.encode())
    fs, path = fsspec.url_to_fs(base)
    at_rest = fs.cat_file(path)[offset : offset + size]
    assert Digests.of_url(url) == Digests.of("sha256", [[at_rest]])


def test_a_file_that_one_uri_refuses_is_compressed_for_the_next(
    s3_bucket: str, store: InMemoryObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small files and those in parts lie compressed where there was a place for them."""
    monkeypatch.setattr("fsspill.placement.placement.randrange", lambda n: 0)
    uris = ["s3://no-such-bucket/bad", f"s3://{s3_bucket}/good"]
    storage = ExternalStorage(uris, object_store=store, compression="lz4")
    objects = [half_noise(MIB) * 20, half_noise(MIB)]
    urls = spill(storage, *objects)
    assert all(url.startswith(uris[1]) and parameter(url, "lz4") for url in urls)
    assert [restore(storage, url) for url in urls] == objects
    storage.destroy_external_storage()


@pytest.mark.parametrize("size", [5 * MIB, 40 * MIB])
def test_a_failed_spill_lets_go_of_the_objects(
    s3_bucket: str, store: InMemoryObjectStore, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing pins them, not even a pass that was not finished or a thread that goes on."""
    storage = ExternalStorage(f"s3://{s3_bucket}", object_store=store, compression="zstd")
    fs = fsspec.filesystem("s3")
    call = type(fs)._call_s3

    async def refuse(self: Any, operation: str, **arguments: Any) -> Any:
        if operation in ("upload_part", "put_object"):
            raise PermissionError("refused")
        return await call(self, operation, **arguments)

    monkeypatch.setattr(type(fs), "_call_s3", refuse)
    data = bytearray(half_noise(MIB) * (size // MIB))
    store.put(0, data)
    with pytest.raises(PermissionError) as caught:
        storage.spill_objects([0])
    store.delete(0)
    data.append(0)  # raises BufferError while anybody holds a view
    assert caught.value is not None
    assert keys(s3_bucket) == []
    storage.destroy_external_storage()


def test_nothing_is_compressed_for_a_place_that_failed(
    s3_bucket: str, store: InMemoryObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the first file was refused the others of the batch cost no more, but those begun."""
    calls = []

    def count(codec: str, block: Any) -> bytes:
        calls.append(codec)
        return compress(codec, block)

    monkeypatch.setattr(packing, "compress", count)
    storage = ExternalStorage(
        "s3://no-such-bucket",
        object_store=store,
        compression="lz4",
        file_size=1,
        max_requests_in_flight=1,
    )
    with pytest.raises(StorageNotFoundError):
        spill(storage, *[half_noise(10 * KIB)] * 40)
    storage.destroy_external_storage()
    assert 0 < len(calls) < 10


def test_a_node_local_uri_takes_none(tmp_path: Path) -> None:
    """The raylet reads those files itself."""
    with pytest.raises(ConfigError, match="raylet reads the files of a node's own disk"):
        ExternalStorage(f"file://{tmp_path}", compression="zstd")


@pytest.mark.parametrize("codec", ["gzip", "", 1, True, ["zstd"], {"zstd": 1}])
def test_an_unknown_codec_is_refused(uri: str, codec: Any) -> None:
    """The error names those that there are."""
    with pytest.raises(ConfigError, match="expected one of lz4, zstd, or None"):
        ExternalStorage(uri, compression=codec)


@codecs
def test_a_missing_package_is_named(
    uri: str, store: InMemoryObjectStore, codec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a storage is made with the codec, and when one without restores what another spilled."""
    [url] = spill(ExternalStorage(uri, object_store=store, compression=codec), half_noise(MIB))
    for module in ("lz4", "lz4.block", "zstandard"):
        monkeypatch.setitem(sys.modules, module, None)
    without = ExternalStorage(uri)
    install = r'pip install "fsspill\[compression\]"'
    with pytest.raises(MissingPackageError, match=f"{uri} with compression {codec}.*{install}"):
        ExternalStorage(uri, compression=codec)
    with pytest.raises(MissingPackageError, match=f"{uri}.* with compression {codec}.*{install}"):
        restore(without, url)
