"""Synthetic data of the kinds in Ray programs: arrays, tables, pickled records."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow

from fsspill.settings import MIB

__all__ = ["KINDS", "make"]

_PERIOD = 40 * MIB
"""Bytes after which a sample repeats: more than the window of any codec."""

_TEXT = """
pending shipped returned customer order invoice paris london berlin tokyo the quick brown fox jumps
over a lazy dog while it rains error warning info debug request response timeout
"""
_WORDS = _TEXT.split()


def make(kind: str, nbytes: int) -> memoryview:
    """Return `nbytes` bytes of one of `KINDS`, the same in every call."""
    made = KINDS[kind](np.random.default_rng(0))
    data = memoryview(bytearray(nbytes))
    for start in range(0, nbytes, len(made)):
        data[start : start + len(made)] = made[: nbytes - start]
    return data.toreadonly()


def _normals(dtype: Any) -> Callable[[np.random.Generator], bytes]:
    """Return a generator of model weights, or noise: only their exponents repeat."""

    def make_normals(rng: np.random.Generator) -> bytes:
        return _bytes_of(rng.standard_normal(_PERIOD // 8).astype(dtype))

    return make_normals


def _walk(rng: np.random.Generator) -> bytes:
    """Return sums of random steps, as of a sensor or a price."""
    steps = rng.standard_normal(_PERIOD // 8)
    return _bytes_of(np.cumsum(steps))


def _counts(rng: np.random.Generator) -> bytes:
    """Return small numbers in 64 bits: labels, ids, counts."""
    return _bytes_of(rng.integers(0, 1000, _PERIOD // 8))


def _image(rng: np.random.Generator) -> bytes:
    """Return a photograph: a smooth surface with the noise of a sensor, in 8 bits."""
    y, x, channel = np.mgrid[0:2048, 0:2048, 0:3]
    surface = 128 + 60 * np.sin(x / 300 + channel) + 50 * np.cos(y / 200)
    return _bytes_of((surface + rng.normal(0, 2, surface.shape)).astype(np.uint8))


def _table(rng: np.random.Generator) -> bytes:
    """Return an Arrow table in IPC format: ids, times, categories, notes, amounts."""
    rows, words = 500_000, pyarrow.array(_WORDS)

    def pick() -> Any:
        return words.take(pyarrow.array(rng.integers(0, len(_WORDS), rows)))

    table = pyarrow.table(
        {
            "id": np.arange(rows),
            "time": (1_700_000_000_000 + np.cumsum(rng.integers(1, 2000, rows))).astype("M8[ms]"),
            "status": pick(),
            "note": pyarrow.compute.binary_join_element_wise(*(pick() for _ in range(5)), " "),
            "amount": np.round(rng.gamma(2, 30, rows), 2),
            "active": rng.random(rows) < 0.9,
        }
    )
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=50_000)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _records(rng: np.random.Generator) -> bytes:
    """Return a list of dictionaries, pickled with protocol 5."""
    chosen = random.Random(0)
    records = [
        {
            "id": number,
            "name": f"user-{number:06d}",
            "tags": chosen.sample(_WORDS, 3),
            "score": chosen.random(),
        }
        for number in range(200_000)
    ]
    return pickle.dumps(records, protocol=5)


def _bytes_of(array: Any) -> bytes:
    data: bytes = array.tobytes()
    return data


KINDS: Mapping[str, Callable[[np.random.Generator], bytes]] = {
    "normals, float32": _normals(np.float32),
    "normals, float64": _normals(np.float64),
    "random walk, float64": _walk,
    "0 to 999, int64": _counts,
    "image, uint8": _image,
    "Arrow table": _table,
    "pickled records": _records,
}
"""Generators of some tens of MiB of each kind."""
