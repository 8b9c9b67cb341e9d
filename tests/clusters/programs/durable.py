"""Time from the creation of an object until it is stored; the last line has the results as JSON.

Usage: durable.py SYSTEM_CONFIG RATE SIZE SECONDS

Tasks on a node of their own make RATE objects of SIZE bytes a second for SECONDS. The driver drops
each object once it is stored, or 30 seconds after the last one.
"""

import json
import sys
import time
from typing import Any

import numpy as np
import ray
from ray.cluster_utils import Cluster
from ray.experimental import get_object_locations

RATE, SIZE, SECONDS = (float(text) for text in sys.argv[2:])
STORE = 500_000_000
LAST = 30.0


@ray.remote(num_cpus=0, resources={"maker": 0.001})
class Maker:
    def make(self) -> np.ndarray:
        return np.random.default_rng(1).integers(0, 256, int(SIZE), dtype=np.uint8)


def main() -> None:
    cluster = Cluster()
    cluster.add_node(num_cpus=1, object_store_memory=STORE, _system_config=json.loads(sys.argv[1]))
    cluster.add_node(num_cpus=1, resources={"maker": 1}, object_store_memory=STORE)
    ray.init(address=cluster.address, log_to_driver=False)
    maker = Maker.remote()  # type: ignore[attr-defined]
    ray.get(maker.make.remote())
    made, seconds = measure(maker)
    print(f"measured {json.dumps({'made': made, 'seconds': sorted(seconds)})}", flush=True)
    ray.shutdown()
    cluster.shutdown()


def measure(maker: Any) -> tuple[int, list[float]]:
    """Return how many objects were made, and for each that was stored how long that took."""
    began = time.monotonic()
    asked = 0
    coming: list[ray.ObjectRef] = []
    created: dict[ray.ObjectRef, float] = {}
    seconds = []
    while coming or created or asked < RATE * SECONDS:
        now = time.monotonic()
        if now > began + SECONDS + LAST:
            break
        while asked < min(RATE * (now - began), RATE * SECONDS):
            coming.append(maker.make.remote())
            asked += 1
        if coming:
            ready, coming = ray.wait(coming, num_returns=len(coming), timeout=0, fetch_local=False)
            created |= dict.fromkeys(ready, time.monotonic())
        if created:
            locations = get_object_locations(list(created))
            stored = [ref for ref in created if locations[ref]["did_spill"]]
            seconds += [time.monotonic() - created.pop(ref) for ref in stored]
        time.sleep(0.005)
    return asked, seconds


main()
