"""Spill objects, read them back and drop them, as told. Knows nothing of fsspill.

Usage: metered.py '<arguments of ray.init as JSON>'
"""

import json
import sys

import numpy as np
import ray

SIZE, COUNT = 5_000_000, 40


def make(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, SIZE, dtype=np.uint8)


def main() -> None:
    ray.init(**json.loads(sys.argv[1]))
    [node] = ray.nodes()
    print(f"endpoint http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}", flush=True)
    refs = [ray.put(make(number)) for number in range(COUNT)]
    for number, ref in enumerate(refs):
        assert np.array_equal(ray.get(ref), make(number)), f"object {number} is wrong"
    print("verified", flush=True)
    sys.stdin.readline()
    del refs, ref
    print("dropped", flush=True)
    sys.stdin.readline()
    ray.shutdown()


main()
