"""Put several times what the object store holds, get all of it back, and say how long it took.

Knows nothing of fsspill. Prints, as JSON, the seconds to put and to get, counted from after
``ray.init``, and the bytes that Ray counted as spilled and restored.

Usage: larger.py '<arguments of ray.init as JSON>' COUNT SIZE [how many to get in one call]
"""

import json
import sys
import time

import numpy as np
import ray
from ray._private.internal_api import get_memory_info_reply, get_state_from_address


def counted() -> dict[str, int]:
    address = ray.get_runtime_context().gcs_address
    stats = get_memory_info_reply(get_state_from_address(address)).store_stats
    return {"spilled": stats.spilled_bytes_total, "restored": stats.restored_bytes_total}


def main() -> None:
    count, size, at_once = map(int, [*sys.argv[2:], "1"][:3])
    # Every object is another slice of the same bytes: to make and to compare them takes little.
    data = np.random.default_rng(0).integers(0, 256, size + count, dtype=np.uint8)
    ray.init(**json.loads(sys.argv[1]))
    began = time.monotonic()
    refs = [ray.put(data[number : number + size]) for number in range(count)]
    put = time.monotonic()
    for start in range(0, count, at_once):
        found = ray.get(refs[start : start + at_once])
        for number, array in enumerate(found, start):
            assert np.array_equal(array, data[number : number + size]), f"object {number} is wrong"
        del found, array  # or they would stay in the object store while others are restored
    got = time.monotonic()
    seconds = {"put_seconds": put - began, "get_seconds": got - put}
    print("took " + json.dumps({**seconds, **counted()}), flush=True)
    ray.shutdown()


main()
