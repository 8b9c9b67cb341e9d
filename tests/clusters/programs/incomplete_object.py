"""Put an object whose bytes cannot be read, as an IO worker does when the storage goes away."""

from types import SimpleNamespace
from typing import Any

from fsspill.ray.core_worker import CoreWorkerStore


class CoreWorker:
    """Fills objects as Ray's core worker does."""

    def put_file_like_object(
        self, metadata: bytes, size: int, file_like: Any, ref: Any, owner: bytes
    ) -> None:
        view = memoryview(bytearray(size))
        filled = 0
        while filled < size:
            filled += file_like.readinto(view[filled:])


class Broken:
    def readinto(self, buffer: memoryview) -> int:
        raise OSError("the storage went away")


def main() -> None:
    worker = SimpleNamespace(core_worker=CoreWorker())
    store = CoreWorkerStore(lambda error: print(error, flush=True), lambda: worker)
    store.put_file_like_object(b"", 1, Broken(), b"r", b"")


main()
