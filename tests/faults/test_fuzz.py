"""Whatever comes in - bytes at rest, URLs, configurations - one of few things comes out."""

from __future__ import annotations

import json
import struct
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import fsspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fsspill
from fsspill import (
    ConfigError,
    CorruptObjectError,
    ExternalStorage,
    FsspillError,
    InMemoryObjectStore,
    NullStorage,
    create_url_with_offset,
    parse_url_with_offset,
)
from fsspill.config import make_external_storage
from fsspill.format.compression import Compression, compress
from fsspill.format.frame import FrameHeader
from fsspill.testing.contract import decode_frame
from tests.format.urls import parse_compression

# How many examples: few in every run, many at night.
fuzz = pytest.mark.parametrize(
    "examples",
    [200, pytest.param(10_000, marks=[pytest.mark.nightly, pytest.mark.timeout(1800)])],
)


def examples_of(count: int) -> settings:
    return settings(max_examples=count, suppress_health_check=list(HealthCheck))


# Lengths that nearly fit, and such that overflow.
near = st.integers(0, 40) | st.sampled_from([2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1])
headers = st.builds(lambda *lengths: struct.pack("<3Q", *lengths), near, near, near)
at_rest = st.builds(bytes.__add__, headers, st.binary(max_size=60)) | st.binary(max_size=60)
# Numbers in a URL have up to 19 digits.
numbers = near.filter(lambda number: number < 10**19) | st.just(10**19 - 1)


@fuzz
def test_headers(examples: int) -> None:
    """Whatever the bytes: the lengths add up to the size, or the object is corrupt."""

    @examples_of(examples)
    @given(data=at_rest, size=numbers)
    def check(data: bytes, size: int) -> None:
        try:
            header = FrameHeader.unpack(data, size=size, url="u")
        except CorruptObjectError:
            assert len(data) < 24 or 24 + sum(struct.unpack("<3Q", data[:24])) != size
        else:
            assert 24 + sum(header) == header.frame_length == size
            assert header.pack() == data[:24]

    check()


@fuzz
def test_bytes_at_rest_on_this_node(examples: int, tmp_path: Path) -> None:
    """Whatever the bytes of a file and the numbers of a URL: the frame there, or it is corrupt."""
    storage, store = local_storage(tmp_path)
    [url] = spill(storage, store)
    base_url = url.partition("?")[0]

    @examples_of(examples)
    @given(data=at_rest, offset=numbers, size=numbers)
    def check(data: bytes, offset: int, size: int) -> None:
        Path(base_url).write_bytes(data)
        named = create_url_with_offset(url=base_url, offset=offset, size=size)
        try:
            count = storage.restore_spilled_objects([b"back"], [named])
        except CorruptObjectError:
            assert b"back" not in store
        else:
            _, _, buffer = decode_frame(data[offset : offset + size])
            assert bytes(store.get(b"back")) == buffer
            assert count == len(buffer)
            store.delete(b"back")

    check()


def check_whatever_lies_there(
    storage: ExternalStorage, store: InMemoryObjectStore, url: str, content: bytes, examples: int
) -> None:
    """Put anything in place of a file: what was spilled comes back, or it is corrupt."""
    fs, path = fsspec.url_to_fs(url.partition("?")[0])
    right: bytes = fs.cat_file(path)
    part = st.sampled_from([right, right[:-1], right[1:], right[:24], content, b"", b"x"])
    anything = st.lists(part | at_rest, max_size=3).map(b"".join)

    @examples_of(examples)
    @given(data=anything | flipped(right))
    def check(data: bytes) -> None:
        fs.pipe_file(path, data)
        try:
            storage.restore_spilled_objects([b"back"], [url])
        except CorruptObjectError:
            assert b"back" not in store
            assert data[: len(right)] != right
        else:
            assert data[: len(right)] == right
            assert bytes(store.get(b"back")) == content
            store.delete(b"back")

    check()


@fuzz
@pytest.mark.parametrize("kind", ["memory", "shared"])
def test_bytes_at_rest_elsewhere(examples: int, kind: str, tmp_path: Path) -> None:
    """Whatever the bytes of a file: those that were spilled come back, or it is corrupt."""
    storage, store = make_storage(kind, tmp_path)
    [url] = spill(storage, store)
    check_whatever_lies_there(storage, store, url, CONTENT, examples)


@fuzz
@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_compressed_bytes_at_rest(examples: int, codec: str, tmp_path: Path) -> None:
    """Whatever the bytes of a file: those that were spilled come back, or it is corrupt."""
    packages()
    store = InMemoryObjectStore()
    storage = ExternalStorage(
        f"file://{tmp_path}", shared=True, compression=codec, object_store=store
    )
    store.put(b"one", COMPRESSIBLE)
    [url] = storage.spill_objects([b"one"])
    assert Path(url.decode().partition("?")[0]).stat().st_size < len(COMPRESSIBLE)
    check_whatever_lies_there(storage, store, url.decode(), COMPRESSIBLE, examples)


@fuzz
@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_bytes_that_are_decompressed(examples: int, codec: str) -> None:
    """Whatever passed for the right bytes: as many as planned come out, or it is corrupt."""
    packages()
    right = compress(codec, [COMPRESSIBLE])
    lengths = st.integers(1, 2**20) | st.just(len(COMPRESSIBLE))

    @examples_of(examples)
    @given(data=flipped(right) | st.binary(min_size=1) | near_bytes(right), length=lengths)
    def check(data: bytes, length: int) -> None:
        try:
            found = Compression(codec, length, (len(data),)).decompress(0, [data], "u")
        except CorruptObjectError:
            assert (data, length) != (right, len(COMPRESSIBLE))
        else:
            assert len(found) == length

    check()


@fuzz
def test_parameters_of_compression(examples: int) -> None:
    """Whatever a URL says: numbers that fit together and say the same again, or it is corrupt."""
    packages()
    made = Compression("zstd", 20 * 2**20, (5, 6, 7)).parameter()
    sizes = st.integers(-1, 20) | st.sampled_from([18, 2**23, 2**63, 10**19])
    built = st.lists(sizes, max_size=5).map(lambda found: "lz4=" + ".".join(map(str, found)))

    @examples_of(examples)
    @given(parameter=near_to(made) | built | strings, blocks=st.integers(0, 4))
    def check(parameter: str, blocks: int) -> None:
        try:
            found = parse_compression(f"{parameter}&x=1", size=18, blocks=blocks)
        except ValueError:  # a CorruptObjectError, or a second offset
            return
        if found is None:
            assert not [i for i in parameter.split("&") if i.partition("=")[0] in ("lz4", "zstd")]
        else:
            assert sum(found.sizes) == 18
            assert len(found.sizes) == blocks
            assert found.length <= blocks * 9 * 2**20
            assert found.parameter() in parameter.split("&")

    check()


def packages() -> None:
    pytest.importorskip("lz4")
    pytest.importorskip("zstandard")


COMPRESSIBLE = b"".join(b"%d, " % (number * number) for number in range(1500))


def near_bytes(data: bytes) -> st.SearchStrategy[bytes]:
    """Return strategy for `data` with something else in the place of a part of it."""
    return st.builds(
        lambda start, length, new: data[:start] + new + data[start + length :] or b"x",
        st.integers(0, len(data)),
        st.integers(0, 40),
        st.binary(max_size=8),
    )


def flipped(data: bytes) -> st.SearchStrategy[bytes]:
    """Return strategy for `data` with one bit the other way."""

    def flip(bit: int) -> bytes:
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        return bytes(changed)

    return st.integers(0, 8 * len(data) - 1).map(flip)


PARTS_OF_URLS = "? & = # / offset= size= offset ?offset=1&size=2 0 7 -1 %3F +1 1_0 0x1 s3://b"
tokens = st.sampled_from(
    [*PARTS_OF_URLS.split(), "9" * 19, "9" * 20, "\u0661", "\uff11", " ", "\n", "\0"]
)
strings = st.lists(tokens | st.text(max_size=5), max_size=12).map("".join)


@fuzz
def test_strings_as_urls(examples: int) -> None:
    """Whatever the string: a URL that says the same when it is made again, or a ValueError."""

    @examples_of(examples)
    @given(string=strings | strings.map(lambda base: f"{base}?offset=1&size=2"))
    def check(string: str) -> None:
        try:
            parsed = parse_url_with_offset(string)
        except ValueError:
            return
        assert string.startswith(f"{parsed.base_url}?")
        again = create_url_with_offset(url=parsed.base_url, offset=parsed.offset, size=parsed.size)
        assert parse_url_with_offset(again) == parsed
        query = string[len(parsed.base_url) + 1 :].split("&")
        assert [int(item[7:]) for item in query if item.startswith("offset=")] == [parsed.offset]
        assert [int(item[5:]) for item in query if item.startswith("size=")] == [parsed.size]

    check()


CONTENT = b"some content"


def make_storage(kind: str, directory: Path) -> tuple[ExternalStorage, InMemoryObjectStore]:
    if kind != "memory":
        return local_storage(directory, shared=kind == "shared")
    store = InMemoryObjectStore()
    return ExternalStorage(
        f"memory://{uuid.uuid4().hex}/uri", node_id="n", session_name="s", object_store=store
    ), store


def local_storage(
    directory: Path, shared: bool = False
) -> tuple[ExternalStorage, InMemoryObjectStore]:
    store = InMemoryObjectStore()
    uri = f"file://{directory}/uri"
    return ExternalStorage(
        uri, shared=shared, node_id="n", session_name="s", object_store=store
    ), store


def spill(storage: ExternalStorage, store: InMemoryObjectStore) -> list[str]:
    """Spill one object of `CONTENT` and return its URL."""
    store.put(b"one", CONTENT)
    urls = storage.spill_objects([b"one"])
    store.delete(b"one")
    return [url.decode() for url in urls]


class Place:
    """A spilled file, with copies of it all around that fsspill must not touch.

    The copies are good frames: reading one would succeed, so that it cannot go unnoticed.
    """

    def __init__(self, kind: str, directory: Path) -> None:
        self.storage, self.store = make_storage(kind, directory)
        [self.url] = spill(self.storage, self.store)
        self.base_url, _, self.query = self.url.partition("?")
        [uri] = self.storage.uris
        self.root = uri if kind == "memory" else uri.partition("://")[2]
        self.relative = self.base_url[len(self.root) :]
        self._fs, self._path = fsspec.url_to_fs(self.base_url)
        self._bytes: bytes = self._fs.cat_file(self._path)
        self.outside = list(self._urls_outside())
        for url in self.outside:
            self._copy(url)
        self._everything = self._find()

    def _urls_outside(self) -> Iterator[str]:
        parent, _, name = self.root.rpartition("/")
        file = self.relative.rpartition("/")[2]
        yield f"{parent}/canary"
        yield f"{parent}/{name}2{self.relative}"
        yield f"{parent}/other{self.relative}"
        yield f"{parent}{self.relative}"
        yield f"{self.root}/canary"
        yield f"{self.root}/a/b/{file}"
        yield f"{self.root}/a/d/e/{file}"

    def _copy(self, url: str) -> None:
        path = self._fs._strip_protocol(url)
        self._fs.makedirs(self._fs._parent(path), exist_ok=True)
        self._fs.pipe_file(path, self._bytes)

    def _find(self) -> dict[str, bytes]:
        top = self._fs._strip_protocol(self.root.rpartition("/")[0])
        return {path: self._fs.cat_file(path) for path in self._fs.find(top)}

    def is_whole(self, *, but_for_the_file: bool = False) -> bool:
        """Whether all is there as it was made."""
        expected = dict(self._everything)
        if but_for_the_file:
            del expected[self._path]
        return self._find() == expected

    def put_back(self) -> None:
        self._fs.pipe_file(self._path, self._bytes)


STEPS = ". .. %2e%2e %2E. ..%2f ..\\ \u2025 ~ * ** [a-z] uri canary other s"


def mutated_urls(place: Place) -> st.SearchStrategy[str]:
    """Return strategy for URLs that lie near that of a spilled file."""
    parent, _, name = place.root.rpartition("/")
    file = place.relative.rpartition("/")[2]
    steps = st.sampled_from([*STEPS.split(), "", "..\0", " ..", name, file])
    up = st.lists(steps, max_size=6).map(lambda found: "/".join(["", *found]))
    target = st.sampled_from([url[len(parent) :] for url in [*place.outside, place.base_url]])
    roots = st.sampled_from(["", "/", name, parent, place.root, place.root.upper()])
    other_roots = st.sampled_from(
        ["{}/", "{}2", "file://{}", "local://{}", "memory://{}", "s3://{}", "simplecache::{}"]
    ).map(lambda form: form.format(place.root))
    built = st.builds("{}{}{}".format, roots | other_roots, up, target)
    bases = st.sampled_from([place.base_url, *place.outside]) | built | near_to(place.base_url)
    queries = st.sampled_from(
        [
            "{}",
            "{}&x=1",
            "{}&offset=0",
            "{}&size=1",
            "{}#",
            "{}?{}",
            "/../canary?{}",
            "&{}",
            "{0}&{0}",
        ]
    ).map(lambda form: form.format(place.query, place.query))
    other_queries = st.sampled_from(
        ["", "offset=0", "size=36", "size=36&offset=0", "offset=0&size=0", "offset=-1&size=36"]
    )
    return st.builds("{}?{}".format, bases, queries | other_queries | near_to(place.query))


def near_to(text: str) -> st.SearchStrategy[str]:
    """Return strategy for `text` with something else in the place of a part of it."""
    instead = st.sampled_from(
        ["", "/", "//", "..", "/../", "\0", "\n", "é", "%2f", "x" * 5000, "#"]
    )
    place = st.integers(0, len(text))
    return st.builds(
        lambda start, length, new: text[:start] + new + text[start + length :],
        place,
        st.integers(0, 40),
        instead | st.text(max_size=4),
    )


@fuzz
@pytest.mark.parametrize("kind", ["memory", "shared", "node-local"])
def test_urls_to_restore_from(examples: int, kind: str, tmp_path: Path) -> None:
    """Whatever the URL: only the spilled file is read, or a ValueError or FsspillError raised."""
    place = Place(kind, tmp_path)

    @examples_of(examples)
    @given(url=mutated_urls(place))
    def check(url: str) -> None:
        try:
            place.storage.restore_spilled_objects([b"back"], [url])
        except (ValueError, FsspillError):
            assert b"back" not in place.store
        else:
            assert url.startswith(f"{place.base_url}?")
            assert bytes(place.store.get(b"back")) == CONTENT
            place.store.delete(b"back")

    check()
    assert place.is_whole()


@fuzz
@pytest.mark.parametrize("kind", ["memory", "shared", "node-local"])
def test_urls_to_delete(examples: int, kind: str, tmp_path: Path) -> None:
    """Whatever the URL: only the file that it names is deleted, and only a ValueError raised."""
    place = Place(kind, tmp_path)

    @examples_of(examples)
    @given(url=mutated_urls(place))
    def check(url: str) -> None:
        try:
            place.storage.delete_spilled_objects([url])
        except ValueError:
            assert place.is_whole()
        else:
            assert place.is_whole(but_for_the_file=url.startswith(f"{place.base_url}?"))
            place.put_back()

    check()


@fuzz
def test_bytes_as_urls(examples: int) -> None:
    """Whatever the bytes: what is no URL is a ValueError for both that take one."""
    storage, _ = make_storage("memory", Path())

    @examples_of(examples)
    @given(url=st.binary(max_size=40))
    def check(url: bytes) -> None:
        for call in (
            lambda: storage.restore_spilled_objects([b"x"], [url]),
            lambda: storage.delete_spilled_objects([url]),
        ):
            with pytest.raises(ValueError, match=r"URL|decode|refused"):
                call()

    check()


plain_values = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
json_values = st.recursive(
    plain_values,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
# Values that are nowhere else, so that they are found wherever they are shown.
marked = st.integers(0, 99).map(lambda number: f"m4rked-v4lue-{number:02d}")
marked_values = st.recursive(
    marked,
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2)
    ),
    max_leaves=4,
)
option_names = st.sampled_from(
    [
        "key",
        "secret",
        "token",
        "client_kwargs",
        "config_kwargs",
        "anon",
        "account_key",
        "auto_mkdir",
    ]
)
storage_options = st.dictionaries(option_names | st.text(max_size=4), marked_values, max_size=3)
URIS = """
s3://b/x s3://b s3://b/ s3:// s3:///x s3a://b//x s3://[b s3://b]/x s3://b:x/y s3://b@:1/y
s3://b/../x s3://b/%2e%2e/x gs://b abfs://c/x sftp://u@h/x http://h/x file:///a file:///a/../b
file://a local:///a memory://a memory:// memory://\ud800 simplecache::s3://b zip://a.zip
nonsense://b /a
"""
uris = st.sampled_from(URIS.split())
parameters: dict[str, st.SearchStrategy[Any]] = {
    "uri": uris | st.lists(uris | json_values, max_size=3) | near_to("s3://bucket/prefix"),
    "storage_options": storage_options | marked_values,
    "prefix": st.sampled_from(["", "a", "a/b", "/", "..", "a//b", "a?", "é"]),
    "shared": st.booleans(),
    "file_size": st.integers(-1, 2**28),
    "range_size": st.integers(-1, 2**28),
    "max_requests_in_flight": st.integers(-1, 100),
    "max_bytes_in_flight": st.integers(-1, 2**30),
    "stall_timeout": st.floats() | st.integers(-1, 100),
    "digest": st.sampled_from(["xxh3_128", "sha256", "md5"]),
    "compression": st.sampled_from([None, "lz4", "zstd", "gzip"]),
    "policy": st.sampled_from(["round_robin", "in_order", "x"]),
    "min_free_bytes": st.integers(-1, 100),
    "max_bytes": st.none() | st.integers(-1, 100),
    "directory_path": st.sampled_from(["/a", "a", "", ["/a", "b"]]),
    "buffer_size": st.integers(-1, 100),
    "override_transport_params": st.dictionaries(
        st.sampled_from(["min_part_size", "resource_kwargs", "client_kwargs", "defer_seek", "x"]),
        json_values | st.fixed_dictionaries({"S3.Client": json_values}),
    ),
}
one_wrong = st.builds(
    lambda uri, name, value: {"uri": uri, name: value},
    st.sampled_from(["s3://b/x", "memory://a", "file:///a"]),
    st.sampled_from([*parameters]),
    json_values,
)
params = (
    one_wrong
    | st.fixed_dictionaries({}, optional=parameters)
    | st.fixed_dictionaries(
        {}, optional={name: values | json_values for name, values in parameters.items()}
    )
)
kinds = st.sampled_from(["fsspec", "fsspec", "fsspec", "filesystem", "smart_open", "unstable_fs"])
configs = (
    json_values
    | st.fixed_dictionaries({"type": kinds | json_values, "params": params})
    | st.fixed_dictionaries(
        {"type": kinds, "params": params | json_values}, optional={"extra": marked}
    )
)


@fuzz
def test_configurations(examples: int) -> None:
    """Whatever the configuration: a storage, or a ConfigError that shows no value of an option."""

    @examples_of(examples)
    @given(config=configs)
    def check(config: Any) -> None:
        try:
            storage = fsspill.setup_external_storage(config)
        except ConfigError as error:
            message = str(error)
        else:
            message = ""
            assert isinstance(storage, ExternalStorage if config else NullStorage)
        assert [value for value in option_values(config) if value in message] == []

    try:
        check()
    finally:
        fsspill.reset_external_storage()


@fuzz
def test_configurations_survive_json(examples: int) -> None:
    """Ray hands the configuration on as JSON: what came out before comes out after it."""

    @examples_of(examples)
    @given(config=configs)
    def check(config: Any) -> None:
        assert outcome(json.loads(json.dumps(config))) == outcome(config)

    check()


def outcome(config: Any) -> Any:
    try:
        storage = make_external_storage(config, node_id="n", session_name="s")
    except ConfigError as error:
        return str(error)
    return storage.uris if isinstance(storage, ExternalStorage) else None


def option_values(config: Any) -> list[str]:
    """Return the marked values among the storage options of a configuration."""
    params = config.get("params") if isinstance(config, Mapping) else None
    options = params.get("storage_options") if isinstance(params, Mapping) else None
    return list(leaves(options))


def leaves(value: Any) -> Iterator[str]:
    if isinstance(value, str) and value.startswith("m4rked"):
        yield value
    elif isinstance(value, (list, Mapping)):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from leaves(inner)
