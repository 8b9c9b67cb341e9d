"""Make objects worth several object stores, read them back, drop them. Knows nothing of fsspill.

Usage: spill.py '<arguments of ray.init as JSON>' [--exit-with-objects]
"""

import json
import sys

import numpy as np
import ray

SIZE, COUNT = 5_000_000, 80


def make(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, SIZE, dtype=np.uint8)


def main() -> None:
    ray.init(**json.loads(sys.argv[1]))
    refs = [ray.put(make(number)) for number in range(COUNT)]
    for number, ref in enumerate(refs):
        assert np.array_equal(ray.get(ref), make(number)), f"object {number} is wrong"
    print("verified", flush=True)
    if "--exit-with-objects" in sys.argv:
        return
    sys.stdin.readline()
    del refs, ref
    print("dropped", flush=True)
    sys.stdin.readline()
    ray.shutdown()


main()
