"""Start a cluster that would spill to a URI, on a Ray that may not be as fsspill expects it.

Prints what was raised, and whether Ray took the URI for a directory; then starts one without a URI,
and prints that it works. Knows nothing of fsspill.

Usage: unsupported_ray.py DIRECTORY '<arguments of ray.init as JSON>'
"""

import json
import os
import sys


def main() -> None:
    os.chdir(sys.argv[1])
    import ray

    try:
        ray.init(**json.loads(sys.argv[2]))
    except Exception as error:
        print(f"raised {type(error).__name__}: {' '.join(str(error).split())}", flush=True)
        ray.shutdown()
    else:
        print("started", flush=True)
    print(f"directories: {os.listdir()}", flush=True)
    for name in [name for name in os.environ if name.startswith("RAY_object_spilling")]:
        del os.environ[name]
    if not ray.is_initialized():
        ray.init(num_cpus=1, object_store_memory=100_000_000, include_dashboard=False)
    refs = [ray.put(bytes([number]) * 5_000_000) for number in range(30)]
    right = all(ray.get(ref) == bytes([number]) * 5_000_000 for number, ref in enumerate(refs))
    print(f"right: {right}", flush=True)
    ray.shutdown()


main()
