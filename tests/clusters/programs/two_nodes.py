"""Objects made on one node are read on the other, and again after the first was killed.

Usage: two_nodes.py URI [--kill]
"""

import os
import signal
import sys

import numpy as np
import ray
from ray.cluster_utils import Cluster
from ray.experimental import get_object_locations

SIZE, COUNT = 5_000_000, 60
STORE = 100_000_000


@ray.remote(max_retries=0, resources={"maker": 0.25}, num_cpus=0)
def make(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, SIZE, dtype=np.uint8)


@ray.remote(max_retries=0, resources={"reader": 0.25}, num_cpus=0)
def verify(number: int, found: np.ndarray) -> bool:
    expected = np.random.default_rng(number).integers(0, 256, SIZE, dtype=np.uint8)
    return np.array_equal(expected, found)


def verify_all(refs: dict[int, ray.ObjectRef]) -> None:
    checks = {number: verify.remote(number, ref) for number, ref in refs.items()}
    wrong = [number for number, check in checks.items() if not ray.get(check, timeout=240)]
    assert not wrong, f"wrong objects: {wrong}"


def main() -> None:
    cluster = Cluster()
    cluster.add_node(
        num_cpus=1,
        resources={"reader": 1},
        object_store_memory=STORE,
        object_spilling_directory=sys.argv[1],
    )
    maker = cluster.add_node(num_cpus=1, resources={"maker": 1}, object_store_memory=STORE)
    ray.init(address=cluster.address)
    refs = {number: make.remote(number) for number in range(COUNT)}
    ray.wait(list(refs.values()), num_returns=COUNT, timeout=240, fetch_local=False)
    locations = get_object_locations(list(refs.values()))
    spilled = {number: ref for number, ref in refs.items() if locations[ref]["did_spill"]}
    print(f"spilled {len(spilled)}", flush=True)
    verify_all(refs)
    print("read on the other node", flush=True)
    if "--kill" in sys.argv:
        raylet = maker.all_processes["raylet"][0].process
        os.kill(raylet.pid, signal.SIGKILL)
        raylet.wait()
        verify_all(spilled)
        print("read after the node was killed", flush=True)
        cluster.remove_node(maker, allow_graceful=False)
    ray.shutdown()
    cluster.shutdown()


main()
