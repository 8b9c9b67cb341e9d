"""Objects that a driver puts and drops; the last line has the results as JSON.

Usage: puts.py SYSTEM_CONFIG RATE SIZE SECONDS LIFETIME

Puts RATE objects of SIZE bytes a second for SECONDS, and drops each LIFETIME seconds after it was
put. CPU seconds are those of all processes of the cluster, the driver among them, in that time.
"""

import json
import os
import sys
import time
from collections import deque
from pathlib import Path

import numpy as np
import ray

RATE, SIZE, SECONDS, LIFETIME = (float(text) for text in sys.argv[2:])
STORE = 500_000_000
LAST = 5.0
"""Seconds for which uploads may go on after the last object."""


def main() -> None:
    ray.init(
        num_cpus=1,
        object_store_memory=STORE,
        include_dashboard=False,
        log_to_driver=False,
        _system_config=json.loads(sys.argv[1]),
    )
    data = np.random.default_rng(1).integers(0, 256, int(SIZE), dtype=np.uint8)
    ray.put(data)
    began = cpu_seconds()
    took = sorted(measure(data))
    time.sleep(LAST)
    found = {
        "made": len(took),
        "longest": took[-1],
        "p99": took[int(len(took) * 0.99)],
        "cpu_seconds": cpu_seconds() - began,
    }
    print(f"measured {json.dumps(found)}", flush=True)
    ray.shutdown()


def measure(data: np.ndarray) -> list[float]:
    """Return how many seconds each put took."""
    kept: deque[tuple[float, ray.ObjectRef]] = deque()
    took: list[float] = []
    began = time.monotonic()
    while len(took) < RATE * SECONDS:
        time.sleep(max(0.0, began + len(took) / RATE - time.monotonic()))
        now = time.monotonic()
        while kept and kept[0][0] <= now:
            kept.popleft()
        ref = ray.put(data)
        took.append(time.monotonic() - now)
        kept.append((now + LIFETIME, ref))
        del ref
    return took


def cpu_seconds() -> float:
    """Return the CPU seconds of the processes that have this one's RAY_TMPDIR."""
    wanted = f"RAY_TMPDIR={os.environ['RAY_TMPDIR']}".encode()
    ticks = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                    ticks += int(fields[11]) + int(fields[12])
            except OSError:
                continue  # ended, or of another user
    return ticks / os.sysconf("SC_CLK_TCK")


main()
