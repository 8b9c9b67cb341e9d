"""Try to start Ray with each configuration, and then with one that works.

Reads a JSON list of [directory, config] pairs (one of the two null) and prints, for each, the
class and message of what ray.init raised as a JSON line. Usage: validation.py GOOD_URI
"""

import json
import sys
import traceback
from typing import Any

import ray


def attempt(directory: str | None, config: dict[str, Any] | None) -> dict[str, Any]:
    arguments: dict[str, Any] = {"num_cpus": 1, "include_dashboard": False}
    if directory is not None:
        arguments["object_spilling_directory"] = directory
    else:
        arguments["_system_config"] = {"object_spilling_config": json.dumps(config)}
    try:
        ray.init(**arguments)
    except Exception as error:
        bases = [cls.__name__ for cls in type(error).__mro__]
        return {
            "raised": bases,
            "message": str(error),
            "running": ray.is_initialized(),
            "printed": traceback.format_exc(),
        }
    ray.shutdown()
    return {"raised": None}


def main() -> None:
    for directory, config in json.loads(sys.stdin.read()):
        print(json.dumps(attempt(directory, config)), flush=True)
    print(json.dumps(attempt(sys.argv[1], None)), flush=True)


main()
