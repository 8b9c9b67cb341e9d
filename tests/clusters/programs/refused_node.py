"""Objects made on a node that has an environment of its own, and read on the other.

Usage: refused_node.py URI '<environment as JSON>'
"""

import json
import os
import sys

import numpy as np
import ray
from ray.cluster_utils import Cluster

SIZE, COUNT = 5_000_000, 24
STORE = 100_000_000


@ray.remote(max_retries=0, resources={"maker": 0.25}, num_cpus=0)
def make(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, SIZE, dtype=np.uint8)


@ray.remote(max_retries=0, resources={"reader": 0.25}, num_cpus=0)
def is_right(number: int, found: np.ndarray) -> bool:
    expected = np.random.default_rng(number).integers(0, 256, SIZE, dtype=np.uint8)
    return np.array_equal(expected, found)


def main() -> None:
    cluster = Cluster()
    cluster.add_node(
        num_cpus=1,
        resources={"reader": 1},
        object_store_memory=STORE,
        object_spilling_directory=sys.argv[1],
    )
    before = dict(os.environ)
    os.environ.update(json.loads(sys.argv[2]))
    maker = cluster.add_node(num_cpus=1, resources={"maker": 1}, object_store_memory=STORE)
    os.environ.clear()
    os.environ.update(before)
    print(f"maker {maker.node_id}", flush=True)
    ray.init(address=cluster.address)
    refs = [make.remote(number) for number in range(COUNT)]
    ray.wait(refs, num_returns=COUNT, fetch_local=False)
    print("made", flush=True)
    right = ray.get([is_right.remote(number, ref) for number, ref in enumerate(refs)])
    print(f"right: {sum(right)} of {COUNT}", flush=True)
    ray.shutdown()
    cluster.shutdown()


main()
