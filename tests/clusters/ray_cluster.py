"""Real Ray clusters on this machine, bound to loopback, and sweeps on them as processes of their own."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Ray's name for it is older than its use: without clusters of several machines all is bound to loopback.
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}
# On a machine that does other work too, Ray's workers, which give way to everything, would hardly come to theirs.
LOOPBACK |= {"RAY_worker_niceness": "0"}
# A token of these tests' own: whether there is one in the home folder must not matter, and nobody else is let in.
LOOPBACK |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
os.environ.update(LOOPBACK)  # read when Ray is imported

NODE: dict[str, Any] = {"node_ip_address": "127.0.0.1", "object_store_memory": 80 * 2**20}


@contextmanager
def cluster(nodes: int, *, gpus: int = 2, cpus: int = 4) -> Iterator[Any]:
    """A head without devices, and so many raylets with GPUs that are declared and not there."""
    from ray.cluster_utils import Cluster

    started: Any = Cluster(initialize_head=True, head_node_args={**NODE, "num_cpus": 0, "include_dashboard": False})
    try:
        started.workers = [started.add_node(num_cpus=cpus, num_gpus=gpus, **NODE) for _ in range(nodes)]
        yield started
    finally:
        started.shutdown()


def begin(folder: Path, *arguments: object, program: str | None = None) -> subprocess.Popen[str]:
    """``biasrepro ARGUMENTS`` as a process, whose output goes to ``said.txt``; it knows the results by option.

    ``program`` is Python that takes the place of ``biasrepro``.
    """
    command = ["-m", "repro"] if program is None else ["-c", program]
    environment = {**os.environ, **LOOPBACK, "OMP_NUM_THREADS": "1", "PYTHONPATH": ":".join(filter(None, sys.path))}
    with (folder / "said.txt").open("a") as said:
        return subprocess.Popen(
            [sys.executable, *command, *map(str, arguments)],
            cwd=folder,
            env=environment,
            stdout=said,
            stderr=subprocess.STDOUT,
            text=True,
        )


def say(folder: Path, *arguments: object, timeout: float = 120) -> tuple[int, str]:
    """The exit code of ``biasrepro ARGUMENTS``, and what it said."""
    before = len(said(folder))
    code = begin(folder, *arguments).wait(timeout)
    return code, said(folder)[before:]


def said(folder: Path) -> str:
    file = folder / "said.txt"
    return file.read_text() if file.exists() else ""


def gpu_shaped(address: str) -> Sequence[object]:
    """Options of a sweep whose runs reserve half a GPU each, and train on the CPU."""
    return ("--executor", "ray", "--address", address, "--device", "cpu", "--threads", 1, "--gpus-per-job", 0.5)


def conductors_node(cluster: Any) -> Any:
    """The node of ``cluster`` whose raylet has the process that conducts a detached sweep; None where there is none."""
    raylets = {node.all_processes["raylet"][0].process.pid: node for node in cluster.list_all_nodes()}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "cmdline").read_bytes().startswith(b"ray::_Conductor"):
                parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
                if parent in raylets:
                    return raylets[parent]
    return None
