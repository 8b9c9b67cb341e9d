"""Spill and restore far more than may be in flight, and print the private memory it took.

Usage: memory.py URI LIMIT COUNT SIZE [CODEC]

With a codec the objects are such that they shrink to a half. The directory COPIES in the
environment gets local copies.
"""

import os
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fsspill import ExternalStorage
from fsspill.ray.malloc import raise_trim_threshold


class OneObject:
    """An object store in which all objects are the same, and restored ones share one place."""

    def __init__(self, size: int, *, is_compressible: bool) -> None:
        pattern = (
            random.Random(0).randbytes(2**19) + bytes(2**19) if is_compressible else b"x" * 2**20
        )
        self.data = bytearray(pattern) * (size // len(pattern))
        self.target = bytearray(b"y") * size

    def get_if_local(self, refs: Sequence[Any], /) -> list[tuple[bytearray, bytes]]:
        return [(self.data, b"m")] * len(refs)

    def put_file_like_object(self, metadata, size, file_like, ref, owner) -> None:  # type: ignore[no-untyped-def]
        view = memoryview(self.target)
        filled = 0
        while filled < size:
            filled += file_like.readinto(view[filled:])
        assert self.target == self.data


def peak() -> int:
    # Not getrusage: its maximum begins with the memory of the process that started this one.
    lines = Path("/proc/self/status").read_text().splitlines()
    kib = next(line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return int(kib) * 1024


def main() -> None:
    uri, (limit, count, size) = sys.argv[1], map(int, sys.argv[2:5])
    codec = sys.argv[5] if sys.argv[5:] else None
    store = OneObject(size, is_compressible=codec is not None)
    directory = os.environ.get("COPIES")
    storage = ExternalStorage(
        uri,
        object_store=store,
        max_bytes_in_flight=limit,
        compression=codec,
        cache_dir=directory,
        cache_max_bytes=2**32 if directory else None,
    )
    storage.check()
    raise_trim_threshold()  # as an IO worker does
    before = peak()
    refs = [b"%d" % number for number in range(count)]
    urls = storage.spill_objects(refs)
    spilled = peak()
    for ref, url in zip(refs, urls, strict=True):
        storage.restore_spilled_objects([ref], [url])
    storage.delete_spilled_objects(urls)
    print(f"peak {spilled - before} {peak() - before}", flush=True)


main()
