"""Report metrics as two IO workers of a node, until told to stop. Knows nothing of fsspill.

Usage: reporting.py '<arguments of ray.init as JSON>' '<kind and labels of each metric as JSON>'
"""

import json
import sys
import threading
import time

import ray
from ray.util import metrics

KINDS = {"counter": metrics.Counter, "gauge": metrics.Gauge}


@ray.remote(num_cpus=0)
class Worker:
    def __init__(self, table: dict[str, tuple[str, list[str]]], node_id: str) -> None:
        self._metrics = {}
        for name, (kind, labels) in table.items():
            keys = (*labels, "node")
            tags = {label: f"a-{label}" for label in labels} | {"node": node_id}
            if kind == "histogram":
                metric = metrics.Histogram(name, boundaries=[0.1, 1.0, 10.0], tag_keys=keys)
            else:
                metric = KINDS[kind](name, tag_keys=keys)
            self._metrics[name] = kind, metric.set_default_tags(tags)

    def report(self) -> None:
        for kind, metric in self._metrics.values():
            if kind == "counter":
                metric.inc(1000)
            elif kind == "gauge":
                metric.set(1)
            else:
                metric.observe(0.5)


def wait_until_told(told: threading.Event) -> None:
    sys.stdin.readline()
    told.set()


def main() -> None:
    ray.init(**json.loads(sys.argv[1]))
    context = ray.get_runtime_context()
    arguments = json.loads(sys.argv[2]), context.get_node_id()
    workers = [Worker.remote(*arguments) for _ in range(2)]  # type: ignore[attr-defined]
    told = threading.Event()
    threading.Thread(target=wait_until_told, args=(told,), daemon=True).start()
    ray.get([worker.report.remote() for worker in workers])
    print(f"reported {context.gcs_address} {context.get_node_id()}", flush=True)
    while not told.is_set():
        time.sleep(0.5)
        ray.get([worker.report.remote() for worker in workers])
    ray.shutdown()


main()
