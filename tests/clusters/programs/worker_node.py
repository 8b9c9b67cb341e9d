"""Add a worker node that names a spill directory of its own.

Usage: worker_node.py HEAD_DIRECTORY WORKER_DIRECTORY
"""

import sys

from ray.cluster_utils import Cluster


def main() -> None:
    head, worker = sys.argv[1:]
    cluster = Cluster()
    cluster.add_node(num_cpus=1, object_spilling_directory=head)
    try:
        cluster.add_node(num_cpus=1, object_spilling_directory=worker)
        print("started", flush=True)
    except ValueError as error:
        print(f"refused {error}", flush=True)
    cluster.shutdown()


main()
