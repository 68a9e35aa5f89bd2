"""A Ray of one head and one further node on this machine: ``python -m torture.nodes``.

It prints its address. For each line it reads, the further node dies - its raylet and every process under it, as if
the machine had lost its power - and another one joins.
"""

import os
import sys
import tempfile
from pathlib import Path

import psutil


def main() -> None:
    from ray.cluster_utils import Cluster

    (Path(tempfile.gettempdir()) / "ray").mkdir(exist_ok=True)  # the address is noted there, whatever `temp_dir` is
    with tempfile.TemporaryDirectory(prefix="n_", ignore_cleanup_errors=True) as folder:
        cluster = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 1, "temp_dir": folder, "include_dashboard": False}
        )
        node = cluster.add_node(num_cpus=1)
        say(f"address {cluster.address}")
        try:
            for _ in sys.stdin:
                kill(node)
                cluster.worker_nodes.discard(node)
                node = cluster.add_node(num_cpus=1, wait=False)
                say("killed")
        finally:
            cluster.shutdown()


def kill(node) -> None:
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    for process in (raylet, *raylet.children(recursive=True)):
        process.kill()


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    main()
