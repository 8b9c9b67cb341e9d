"""Call ray.init with an environment that cannot work, correct it, and call it again.

Usage: corrected.py URI NAME WRONG RIGHT
"""

import os
import sys

import ray


def main() -> None:
    uri, name, wrong, right = sys.argv[1:]
    os.environ[name] = wrong
    arguments = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 80_000_000}
    config = f'{{"type": "fsspec", "params": {{"uri": "{uri}", "stall_timeout": 2}}}}'
    try:
        ray.init(**arguments, _system_config={"object_spilling_config": config})
    except Exception as error:
        print(f"failed {type(error).__name__}", flush=True)
    os.environ[name] = right
    ray.init(**arguments, object_spilling_directory=uri)
    refs = [ray.put(bytes(5_000_000)) for _ in range(30)]
    print(f"right: {sum(len(ray.get(ref)) == 5_000_000 for ref in refs)}", flush=True)
    ray.shutdown()


main()
