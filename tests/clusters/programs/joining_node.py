"""Start a head, then a worker node that cannot reach the storage; print what drivers are told.

Usage: joining_node.py URI ENDPOINT_OF_THE_WORKER
"""

import os
import subprocess
import sys

import ray


def main() -> None:
    uri, endpoint = sys.argv[1:]
    ray.init(num_cpus=1, object_spilling_directory=uri, include_dashboard=False)
    address = ray.get_runtime_context().gcs_address
    command = [os.path.join(os.path.dirname(sys.executable), "ray"), "start"]
    started = subprocess.run(
        [*command, f"--address={address}", "--num-cpus=1"],
        env={**os.environ, "AWS_ENDPOINT_URL": endpoint},
        capture_output=True,
        text=True,
        check=False,
    )
    print(f"status {started.returncode}", flush=True)
    printed = (started.stdout + started.stderr).splitlines()
    print(*[f"printed {line}" for line in printed], sep="\n", flush=True)
    print(f"nodes {sum(node['Alive'] for node in ray.nodes())}", flush=True)
    sys.stdin.readline()
    ray.shutdown()


main()
