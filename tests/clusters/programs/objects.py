"""Make objects and get them back as standard input says. Knows nothing of fsspill.

put COUNT SIZE: make so many more, and print how long the slowest ray.put took.
get NUMBER, argument NUMBER: get that one, or let a task have it, and print whether it is right, or
what was raised instead.
verify: get all, and print how many are right, and what was raised for each of the others.
drop: delete all refs.

Usage: objects.py '<arguments of ray.init as JSON>'
"""

import json
import sys
import time

import numpy as np
import ray


def make(number: int, size: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, size, dtype=np.uint8)


@ray.remote(max_retries=0, num_cpus=0.001)
def is_right(number: int, found: np.ndarray) -> bool:
    return np.array_equal(found, make(number, len(found)))


class Objects:
    def __init__(self) -> None:
        self._refs: list[ray.ObjectRef] = []
        self._sizes: list[int] = []

    def put(self, count: str, size: str) -> None:
        took = []
        for _ in range(int(count)):
            data = make(len(self._refs), int(size))
            began = time.monotonic()
            self._refs.append(ray.put(data))
            took.append(time.monotonic() - began)
            self._sizes.append(int(size))
        print(f"put {count}: the slowest took {max(took):.1f} s", flush=True)

    def get(self, number: str) -> None:
        self._print(number, self._outcome(int(number)))

    def argument(self, number: str) -> None:
        self._print(number, self._outcome(int(number), in_task=True))

    def _print(self, number: str, outcome: str) -> None:
        print(f"object {number} is {outcome}", flush=True)

    def _outcome(self, number: int, in_task: bool = False) -> str:
        began = time.monotonic()
        try:
            if in_task:
                right = ray.get(is_right.remote(number, self._refs[number]))
            else:
                right = np.array_equal(
                    ray.get(self._refs[number]), make(number, self._sizes[number])
                )
        except ray.exceptions.RayError as error:
            bases = ",".join(kind.__name__ for kind in type(error).__mro__)
            text = " ".join(str(error).split())
            return f"lost after {time.monotonic() - began:.1f} s: {bases}: {text}"
        return "right" if right else "wrong"

    def verify(self) -> None:
        right = 0
        for number in range(len(self._refs)):
            outcome = self._outcome(number)
            if outcome == "right":
                right += 1
            else:
                self._print(str(number), outcome)
        print(f"right: {right} of {len(self._refs)}", flush=True)

    def drop(self) -> None:
        self._refs.clear()
        self._sizes.clear()
        print("dropped", flush=True)


def main() -> None:
    ray.init(**json.loads(sys.argv[1]))
    print(f"started {ray._private.worker.global_worker.node.session_name}", flush=True)
    objects = Objects()
    for line in sys.stdin:
        command, *arguments = line.split()
        getattr(objects, command)(*arguments)
    ray.shutdown()
    print("ended", flush=True)


main()
