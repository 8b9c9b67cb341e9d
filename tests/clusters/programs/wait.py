"""Wait for more objects than the object store holds, and print what that took.

Knows nothing of fsspill. Prints, as JSON, how many objects were ready, after how many seconds, and
the bytes that Ray counted as restored.

Usage: wait.py '<arguments of ray.init as JSON>' COUNT SIZE TIMEOUT FETCH_LOCAL
"""

import json
import sys
import time

import numpy as np
import ray
from ray._private.internal_api import get_memory_info_reply, get_state_from_address


@ray.remote
def made(size: int) -> "np.ndarray[tuple[int], np.dtype[np.uint8]]":
    return np.ones(size, np.uint8)


def main() -> None:
    count, size, timeout, fetch_local = map(int, sys.argv[2:])
    ray.init(**json.loads(sys.argv[1]))
    refs = [made.remote(size) for _ in range(count)]
    ray.wait(refs, num_returns=count, fetch_local=False)
    began = time.monotonic()
    ready, _ = ray.wait(refs, num_returns=count, timeout=timeout, fetch_local=bool(fetch_local))
    seconds = time.monotonic() - began
    address = ray.get_runtime_context().gcs_address
    stats = get_memory_info_reply(get_state_from_address(address)).store_stats
    took = {"ready": len(ready), "seconds": seconds, "restored": stats.restored_bytes_total}
    print("took " + json.dumps(took), flush=True)
    ray.shutdown()


main()
