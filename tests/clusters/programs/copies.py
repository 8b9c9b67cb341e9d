"""Spill objects on a node with local copies, and read them as told. Knows nothing of fsspill.

Usage: copies.py '<arguments of ray.init as JSON>'
"""

import json
import sys

import numpy as np
import ray

SIZE, COUNT = 5_000_000, 60


def make(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, SIZE, dtype=np.uint8)


def main() -> None:
    ray.init(**json.loads(sys.argv[1]))
    refs = [ray.put(make(number)) for number in range(COUNT)]
    print("spilled", flush=True)
    while sys.stdin.readline().strip() == "read":
        for number, ref in enumerate(refs):
            assert np.array_equal(ray.get(ref), make(number)), f"object {number} is wrong"
        print("verified", flush=True)
    del refs, ref
    ray.shutdown()


main()
