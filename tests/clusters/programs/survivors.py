"""Objects of nodes that are killed: those that were stored are read afterwards, on another node.

Usage: survivors.py URI DURABLE KILLS [early | drain]

DURABLE is "true" or "false". A node makes objects of 2 MB, far fewer than its memory holds, until
it is killed: once each object is stored, or as long after the last one without `durable`; with
"early" at a random moment before, once so many are stored and some time more. With "drain" it is
not killed: the cluster is told that it will be preempted, and it is stopped.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Collection

import numpy as np
import ray
from ray._private.node import Node
from ray.cluster_utils import Cluster
from ray.exceptions import ObjectLostError, RayError
from ray.experimental import get_object_locations

SIZE, COUNT = 2_000_000, 20
STORE = 200_000_000
PAUSE = 10.0
"""Seconds in which nothing is stored without `durable`."""

URI, DURABLE = sys.argv[1], json.loads(sys.argv[2])
KILLS, EARLY, DRAIN = int(sys.argv[3]), "early" in sys.argv[4:], "drain" in sys.argv[4:]


@ray.remote(max_retries=0, resources={"maker": 0.25}, num_cpus=0)
def make(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, SIZE, dtype=np.uint8)


def is_right(number: int, ref: ray.ObjectRef) -> bool:
    expected = np.random.default_rng(number).integers(0, 256, SIZE, dtype=np.uint8)
    return np.array_equal(expected, ray.get(ref, timeout=240))


def stored(refs: Collection[ray.ObjectRef]) -> set[ray.ObjectRef]:
    """Return the objects that the owner knows to be stored."""
    locations = get_object_locations(list(refs))
    return {ref for ref in refs if locations[ref]["did_spill"]}


def wait(refs: Collection[ray.ObjectRef]) -> None:
    count = random.randrange(len(refs)) if EARLY else len(refs)
    ray.wait(list(refs), num_returns=count or 1, timeout=240, fetch_local=False)
    until = time.monotonic() + (240 if DURABLE else PAUSE)
    while len(stored(refs)) < count and time.monotonic() < until:
        time.sleep(0.1)
    if EARLY:
        time.sleep(random.uniform(0, 0.5))


def end(node: Node, number: signal.Signals) -> None:
    raylet = node.all_processes["raylet"][0].process
    os.kill(raylet.pid, number)
    raylet.wait()
    print("ended a raylet", flush=True)


def drain(cluster: Cluster, node: Node) -> None:
    """Announce the preemption of a node as an autoscaler does, and stop it as ``ray stop`` does.

    `Cluster.remove_node` would remove what the node has stored, which nothing does in a real one.
    """
    ray_drain = [sys.executable, "-m", "ray.scripts.scripts", "drain-node"]
    why = ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot capacity"]
    when = ["--deadline-remaining-seconds", "5"]
    where = ["--address", cluster.address, "--node-id", node.node_id]
    subprocess.run([*ray_drain, *where, *why, *when], check=True)
    end(node, signal.SIGTERM)
    print("drained a node", flush=True)


def end_one(cluster: Cluster, first: int) -> None:
    node = cluster.add_node(num_cpus=1, resources={"maker": 1}, object_store_memory=STORE)
    numbers = {make.remote(number): number for number in range(first, first + COUNT)}
    wait(numbers)
    safe = stored(numbers)
    made, unmade = ray.wait(list(numbers), num_returns=len(numbers), timeout=0, fetch_local=False)
    print(f"made {len(made)} objects, {len(safe)} are stored", flush=True)
    if DRAIN:
        drain(cluster, node)
    else:
        end(node, signal.SIGKILL)
    wrong = [number for ref, number in numbers.items() if ref in safe and not is_right(number, ref)]
    assert not wrong, f"wrong objects: {wrong}"
    for ref in unmade:
        ray.cancel(ref)  # no node could make it
    lost = 0
    for ref in set(made) - safe:
        try:
            assert is_right(numbers[ref], ref)
        except (ObjectLostError, RayError):
            lost += 1
    print(f"killed: stored {len(safe)} lost {lost} of {len(made)}", flush=True)
    cluster.remove_node(node, allow_graceful=False)


def main() -> None:
    config = {"type": "fsspec", "params": {"uri": URI, "durable": DURABLE}}
    cluster = Cluster()
    cluster.add_node(
        num_cpus=1,
        object_store_memory=STORE,
        _system_config={"object_spilling_config": json.dumps(config)},
    )
    cluster.add_node(num_cpus=1, object_store_memory=STORE)
    ray.init(address=cluster.address)
    for number in range(KILLS):
        end_one(cluster, number * COUNT)
    ray.shutdown()
    cluster.shutdown()


main()
