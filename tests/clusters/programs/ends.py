"""Spill objects, and end in one of the ways in which a driver ends. Knows nothing of fsspill.

Usage: ends.py WAY '<arguments of ray.init as JSON>'
"""

import atexit
import json
import os
import signal
import sys
import threading
import time

import ray


def wait() -> None:
    while True:
        time.sleep(1)


def exit_with_status() -> None:
    sys.exit(3)


def exit_in_thread() -> None:
    thread = threading.Thread(target=sys.exit, args=(3,))
    thread.start()
    thread.join()


def exit_immediately() -> None:
    os._exit(4)


def fail() -> None:
    raise ValueError("of the program")


def fail_at_exit() -> None:
    atexit.register(fail)


def fail_in_destructor() -> None:
    class Failing:
        def __del__(self) -> None:
            fail()

    sys.modules["kept"] = Failing()  # type: ignore[assignment]


def exit_within_shutdown() -> None:
    atexit.register(sys.exit, 5)


def main() -> None:
    ray.init(**json.loads(sys.argv[2]))
    refs = [ray.put(bytes([number]) * 5_000_000) for number in range(30)]
    assert ray.get(refs[0])
    # Memory that is being freed while a signal arrives is Ray's own matter: its handler hangs.
    time.sleep(1)
    # A shell has children in the background ignore it. Before "ready", which a signal may follow.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    print("ready", flush=True)
    globals()[sys.argv[1]]()


main()
