"""The Ray cluster: joining and leaving it within bounded times, its head, and what a run reserves there."""

from __future__ import annotations

import atexit
import contextlib
import logging
import math
import os
import secrets
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repro.environment import not_used
from repro.errors import RunFailure, UserError
from repro.machine import find_gpus, package_path, usable_cores
from repro.results.files import make_private
from repro.sweep.cluster_node import NodeSettings
from repro.sweep.ray.backend import RayOptions
from repro.wording import duration

ANSWER_SECONDS = 10.0  # for a head to accept a connection
CONNECT_SECONDS = 60.0  # for Ray to join its cluster
HEAD_SECONDS = 30.0  # that a head may be silent: less than the 60 s after which Ray itself ends the process
LEAVE_SECONDS = 10.0  # for Ray to leave its cluster
NAMESPACE = "biasrepro"

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # A silent head is noticed and reported here. Ray itself would abort, by default after a minute.
    "RAY_gcs_rpc_server_reconnect_timeout_s": "120",
}
# Its effect is not what its name says: if clusters of several machines are off, Ray binds to loopback only.
_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


class ClusterLost(RunFailure):
    """The cluster does not answer, or not any more."""


@dataclass(frozen=True)
class TaskResources:
    """What Ray reserves for a run."""

    gpus: float
    cpus: float
    memory_bytes: int | None

    def slots(self, resources: Mapping[str, float]) -> int:
        """How many such runs a node with these resources takes at a time."""
        limits = []
        if self.gpus:
            gpus = resources.get("GPU", 0)
            runs_per_gpu = math.floor(1 / self.gpus + 1e-9)
            limits.append(int(gpus) * runs_per_gpu if runs_per_gpu else gpus // self.gpus)
        if self.cpus:
            limits.append(resources.get("CPU", 0) // self.cpus)
        if self.memory_bytes:
            limits.append(resources.get("memory", 0) // self.memory_bytes)
        return int(min(limits, default=1))

    def __str__(self) -> str:
        memory = f", {self.memory_bytes / 1e9:g} GB" if self.memory_bytes else ""
        return f"{self.gpus:g} GPU, {self.cpus:g} CPU{memory}"


def task_resources(options: RayOptions, settings: NodeSettings, *, gpus_there: bool) -> TaskResources:
    """What each run of a sweep reserves on a cluster with or without GPUs."""
    gpus = options.gpus_per_job
    if gpus is None:
        gpus = 1.0 if gpus_there and settings.device != "cpu" else 0.0
    cpus = options.cpus_per_job if options.cpus_per_job is not None else float(settings.threads or 1)
    memory = None if options.memory_gb is None else round(options.memory_gb * 1e9)
    return TaskResources(gpus / options.jobs_per_gpu, cpus, memory)


class Head:
    """The cluster's head. A thread calls ``list_nodes`` every few seconds: the resources of each node.

    ``list_nodes`` does not return if the head is gone.
    """

    def __init__(self, address: str, list_nodes: Callable[[], Sequence[Mapping[str, float]]]) -> None:
        self.address = address
        self.nodes = list_nodes()
        self._list_nodes = list_nodes
        self._answered = time.monotonic()
        self._closed = threading.Event()
        threading.Thread(target=self._ask, daemon=True, name="ray-head").start()

    @property
    def is_silent(self) -> bool:
        """Whether it has not answered for too long."""
        return time.monotonic() - self._answered > HEAD_SECONDS

    def close(self) -> None:
        """Stop asking."""
        self._closed.set()

    def _ask(self) -> None:
        while not self._closed.wait(HEAD_SECONDS / 10):
            with contextlib.suppress(Exception):  # a restarted head does not know this process
                if answers(self.address, HEAD_SECONDS / 10):
                    self.nodes = self._list_nodes()
                    self._answered = time.monotonic()


def join(address: str | None) -> None:
    """Connect this process to the cluster at ``address``, or start a Ray on this machine for None.

    Raises UserError for an invalid address, and ClusterLost, within a bounded time, if nothing answers.
    """
    if address is not None and "://" in address:
        raise UserError(
            f"--address {address}: Ray's client protocol is not supported",
            hint="Run the command on a node of the cluster, such as its head, with --address auto.",
        )
    host = (address or "127.0.0.1").rpartition(":")[0] or address or "127.0.0.1"
    is_here = host in ("127.0.0.1", "localhost", "::1")
    for name, value in {**_QUIET, **(_LOOPBACK if is_here else {})}.items():
        os.environ[name] = value
    if address is None and "RAY_AUTH_MODE" not in os.environ:  # else other users of this machine could command it
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
    if address is not None and ":" in address and not answers(address, ANSWER_SECONDS):
        raise _unreachable(address, "nothing accepts a connection there")
    from ray._private import worker

    logging.getLogger("ray").setLevel(logging.CRITICAL)
    # Ray prints the last log lines of a lost node to the terminal; the sweep reports its runs instead.
    worker.listen_error_messages = lambda *_: None
    failed: list[BaseException] = []
    said = ""
    if address is None:
        _begin(None, failed)  # in this thread: the kernel ends Ray's processes with the thread that started them
    else:
        with _captured_stderr() as captured:
            has_joined = finishes_within(CONNECT_SECONDS, lambda: _begin(address, failed))
            said = captured()
        if not has_joined:
            _exit_without_ray()
            raise _unreachable(address, f"Ray has not joined it within {duration(CONNECT_SECONDS)}")
    if failed and "InvalidAuthToken" in said:
        raise ClusterLost(
            f"Ray at {address} does not know this process's token",
            hint="Nothing was started. Set RAY_AUTH_MODE=token, and copy the head's token to ~/.ray/auth_token; "
            "`ray get-auth-token` prints the token of a machine.",
        ) from failed[0]
    if failed:
        raise _unreachable(address, str(failed[0]).strip().splitlines()[0]) from failed[0]


def _begin(address: str | None, failed: list[BaseException]) -> None:
    """Call ``ray.init``; what it raises goes to ``failed``, for the thread that waits.

    Ray puts the current folder first on the path of its workers: meanwhile that is the folder of this package.
    """
    import ray

    try:
        settings = {"address": address} if address is not None else _own_ray()
        with contextlib.chdir(package_path()):
            ray.init(**settings, namespace=NAMESPACE, log_to_driver=False, configure_logging=False)
    except BaseException as error:
        failed.append(error)


def _own_ray() -> dict[str, Any]:
    """Settings of a Ray for this sweep alone: on loopback, in a folder of this user alone. Raises OSError."""
    settings: dict[str, Any] = {"address": "local"}  # None would join any Ray that runs on this machine
    settings |= {"num_cpus": usable_cores(), "num_gpus": len(find_gpus())}
    settings |= {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    if "RAY_TMPDIR" not in os.environ:
        folder = Path("/tmp") / f"biasrepro-{os.getuid()}"  # Ray's sockets need a short path
        make_private(folder)
        settings["_temp_dir"] = str(folder / "ray")
    return settings


def answers(address: str, seconds: float) -> bool:
    """Whether something accepts a connection at ``host:port``."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=seconds):
            return True
    except (OSError, ValueError, OverflowError):
        return False


@contextmanager
def _captured_stderr() -> Iterator[Callable[[], str]]:
    """Keep what Ray itself writes off the terminal, a line per second that it waits; yields a function that returns it.

    Ray writes it below Python, and whatever RAY_BACKEND_LOG_LEVEL is: hence the file descriptor.
    """
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield lambda: os.pread(file.fileno(), 1_000_000, 0).decode(errors="replace")
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)


def _unreachable(address: str | None, why: str) -> ClusterLost:
    where = f"Ray at {address}" if address is not None else "a Ray on this machine"
    ignored = f" Set, but ignored: {', '.join(names)}." if (names := not_used("RAY_ADDRESS")) else ""
    return ClusterLost(
        f"{where} cannot be used: {why}",
        hint="Nothing was started. `ray status --address HOST:PORT` shows whether a cluster is up; `ray start --head` "
        "starts one. Run the command on one of its nodes, with RAY_AUTH_MODE=token in the environment where the "
        f"cluster requires Ray's token.{ignored}",
    )


def as_user_error(error: BaseException) -> UserError:
    """The message for an error on a node that is not a run's own."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, UserError):
        return cause
    last = str(error).strip().splitlines()[-1]
    return RunFailure(
        f"a node of the cluster could not start: {last}",
        hint="Install the same biasrepro on all nodes, in the Python that Ray's workers use.",
    )


def shut_down(*, answers: bool = True) -> None:
    """Leave the cluster; abandon one that does not answer, at the exit of this process too."""
    from ray._private.worker import shutdown

    if not answers or not finishes_within(LEAVE_SECONDS, shutdown):
        _exit_without_ray()


def _exit_without_ray() -> None:
    """Skip what Ray does when this process exits: without its cluster it hangs, or crashes."""

    def end() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(ClusterLost.exit_code)

    atexit.register(end)


def finishes_within(seconds: float, act: Callable[[], None]) -> bool:
    """Whether ``act`` returned within ``seconds``; otherwise it runs on in its thread."""
    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    thread.join(seconds)
    return not thread.is_alive()
