"""A Ray cluster of several raylets on this machine, whose nodes tests kill and add.

A node that vanishes is noticed after about 2 s here, 15 s by default.
"""

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from node_items import CONTROL

QUICK = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 3}


class Nodes:
    """A cluster whose head carries out nothing; each further node has one CPU."""

    def __init__(self, cluster):
        self._cluster = cluster
        self._nodes = []
        self.orphans = []

    @property
    def address(self):
        return self._cluster.address

    @property
    def alive(self):
        return [node for node in self._nodes if node.any_processes_alive()]

    def add(self):
        self._nodes.append(self._cluster.add_node(num_cpus=1))

    def kill_node_of(self, pid):
        """SIGKILL to the raylet that started a worker; the worker itself lives on for a while."""
        self.orphans.append(pid)
        raylet = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
        self.kill(next(node for node in self._nodes if raylet_of(node).pid == raylet))

    def kill(self, node):
        raylet_of(node).kill()
        raylet_of(node).wait()
        self._nodes.remove(node)


def raylet_of(node):
    return node.all_processes["raylet"][0].process


@contextlib.contextmanager
def ray_nodes(control_folder: Path) -> Iterator[Nodes]:
    """A cluster with two nodes, whose workers obey the files in a folder; the environment leads to it meanwhile."""
    import ray
    from ray.cluster_utils import Cluster

    folder = tempfile.mkdtemp(prefix="cb_nodes_")  # short, for the sockets in it
    here = os.environ.get("PYTHONPATH", "")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CONTROL, str(control_folder))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *([here] if here else [])]))
        patch.setenv("__RAY_WORKER_PROCESS_SETUP_HOOK_ENV_VAR", "node_items.install")
        patch.setenv("RAY_TMPDIR", folder)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
        patch.setenv("OMP_NUM_THREADS", "1")
        temp_dir = Path(folder) / "ray"  # where RAY_TMPDIR has it
        temp_dir.mkdir()
        head = {"num_cpus": 0, "temp_dir": str(temp_dir), "include_dashboard": False, "_system_config": QUICK}
        cluster = Cluster(initialize_head=True, head_node_args=head, shutdown_at_exit=False)
        found = Nodes(cluster)
        try:
            found.add()
            found.add()
            yield found
        finally:
            ray.shutdown()
            cluster.shutdown()
            for pid in found.orphans:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            shutil.rmtree(folder, ignore_errors=True)
