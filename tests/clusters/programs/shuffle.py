"""Shuffle and sort a dataset of two and a half times the object store, and check the result.

Usage: shuffle.py URI
"""

import sys

import numpy as np
import ray
import ray.data
from ray._private.internal_api import get_memory_info_reply, get_state_from_address

ROWS, ROW_BYTES, STORE = 100_000, 2_500, 100_000_000


def payload(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    ids = batch["id"]
    data = np.repeat((ids % 251).astype(np.uint8)[:, None], ROW_BYTES, axis=1)
    return {"id": ids, "data": data}


def check(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    data = np.stack(list(batch["data"]))
    right = (data == (batch["id"] % 251)[:, None]).all(axis=1)
    return {"id": batch["id"], "right": right}


def main() -> None:
    ray.init(num_cpus=2, object_store_memory=STORE, object_spilling_directory=sys.argv[1])
    ray.data.DataContext.get_current().enable_progress_bars = False
    dataset = ray.data.range(ROWS, override_num_blocks=25).map_batches(payload)
    shuffled = dataset.random_shuffle(seed=1).materialize()
    print("every row was moved", flush=True)
    found = list(shuffled.map_batches(check).iter_rows())
    ids = [row["id"] for row in found]
    assert sorted(ids) == list(range(ROWS)), "rows were lost or doubled"
    assert ids != sorted(ids), "not shuffled"
    assert all(row["right"] for row in found), "bytes are wrong"
    address = ray.get_runtime_context().gcs_address
    stats = get_memory_info_reply(get_state_from_address(address)).store_stats
    print(f"shuffled with {stats.spilled_bytes_total} bytes spilled", flush=True)
    ray.shutdown()


main()
