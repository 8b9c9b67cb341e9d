"""Start two nodes, the second with settings of its own, and wait for a line.

Usage: two_settings.py URI NAME=VALUE...
"""

import sys

from ray.cluster_utils import Cluster

STORE = 100_000_000


def main() -> None:
    uri, *variables = sys.argv[1:]
    cluster = Cluster()
    cluster.add_node(num_cpus=1, object_store_memory=STORE, object_spilling_directory=uri)
    own = dict(variable.split("=") for variable in variables)
    cluster.add_node(num_cpus=1, object_store_memory=STORE, env_vars=own)
    print(f"address {cluster.address}", flush=True)
    sys.stdin.readline()
    cluster.shutdown()


main()
