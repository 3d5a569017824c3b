"""The Ray cluster itself: joining and leaving it within bounded times, its head, and what a run reserves there."""

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
from typing import Any

from repro.errors import RunFailure, UserError
from repro.machine import find_gpus, usable_cores
from repro.sweep.cluster_node import NodeSettings
from repro.sweep.ray.backend import RayOptions

ANSWER_SECONDS = 10.0  # for a head to take a connection
CONNECT_SECONDS = 60.0  # for Ray to join its cluster
HEAD_SECONDS = 30.0  # that a head may be silent: short of the 60 s after which Ray itself ends the process
LEAVE_SECONDS = 10.0  # for Ray to leave it
NAMESPACE = "biasrepro"

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # The head's silence is noticed here, with words; Ray's own way is to abort, after a minute unless told otherwise.
    "RAY_gcs_rpc_server_reconnect_timeout_s": "120",
}
# Ray takes its name for its purpose: without clusters of several machines, everything is bound to loopback.
_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


class ClusterLost(RunFailure):
    """The cluster does not answer (any more)."""


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
            share = math.floor(1 / self.gpus + 1e-9)
            limits.append(int(resources.get("GPU", 0)) * share if share else resources.get("GPU", 0) // self.gpus)
        if self.cpus:
            limits.append(resources.get("CPU", 0) // self.cpus)
        if self.memory_bytes:
            limits.append(resources.get("memory", 0) // self.memory_bytes)
        return int(min(limits, default=1))

    def __str__(self) -> str:
        memory = f", {self.memory_bytes / 1e9:g} GB" if self.memory_bytes else ""
        return f"{self.gpus:g} GPU, {self.cpus:g} CPU{memory}"


def task_resources(options: RayOptions, settings: NodeSettings, *, gpus_there: bool) -> TaskResources:
    """What each run of a sweep reserves on a cluster with GPUs, or without."""
    gpus = options.gpus_per_job
    if gpus is None:
        gpus = 1.0 if gpus_there and settings.device != "cpu" else 0.0
    cpus = options.cpus_per_job if options.cpus_per_job is not None else float(settings.threads or 1)
    memory = None if options.memory_gb is None else round(options.memory_gb * 1e9)
    return TaskResources(gpus / options.jobs_per_gpu, cpus, memory)


class Head:
    """The cluster's head, asked every few seconds by a thread of its own: whether it answers, and what nodes there are.

    ``look`` asks Ray for the resources of each node; it does not return where the head is gone.
    """

    def __init__(self, address: str, look: Callable[[], Sequence[Mapping[str, float]]]) -> None:
        self.address = address
        self.nodes = look()
        self._look = look
        self._answered = time.monotonic()
        self._over = threading.Event()
        threading.Thread(target=self._ask, daemon=True, name="ray-head").start()

    @property
    def is_silent(self) -> bool:
        """Whether it has not answered for too long."""
        return time.monotonic() - self._answered > HEAD_SECONDS

    def close(self) -> None:
        """Ask no more."""
        self._over.set()

    def _ask(self) -> None:
        while not self._over.wait(HEAD_SECONDS / 10):
            with contextlib.suppress(Exception):  # a head that was started anew knows us not: that is no answer
                if answers(self.address, HEAD_SECONDS / 10):
                    self.nodes = self._look()
                    self._answered = time.monotonic()


def join(address: str | None) -> None:
    """Connect this process to the cluster at ``address``, or to a Ray started on this machine for None.

    Raises UserError for an address that is none, and ClusterLost, within a bounded time, where nobody answers.
    """
    if address is not None and "://" in address:
        raise UserError(
            f"--address {address}: Ray's client protocol is not supported",
            hint="Run the command on a node of the cluster (its head will do) with --address auto.",
        )
    host = (address or "127.0.0.1").rpartition(":")[0] or address or "127.0.0.1"
    for name, value in {**_QUIET, **(_LOOPBACK if host in ("127.0.0.1", "localhost", "::1") else {})}.items():
        os.environ.setdefault(name, value)
    if address is not None and ":" in address and not answers(address, ANSWER_SECONDS):
        raise _unreachable(address, "nobody takes a connection there")
    import ray
    from ray._private import worker

    settings: dict[str, Any] = {"address": address or "local"}  # without, Ray would join any that runs on this machine
    if address is None:
        settings |= {
            "include_dashboard": False,
            "num_cpus": usable_cores(),
            "num_gpus": len(find_gpus()),
            "_node_ip_address": "127.0.0.1",
        }
    failed: list[BaseException] = []
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    # Ray prints the last lines of a lost node's log to the terminal; here a sentence says which run goes on elsewhere.
    worker.listen_error_messages = lambda *_: None

    def begin() -> None:
        try:
            ray.init(**settings, namespace=NAMESPACE, log_to_driver=False, configure_logging=False)
        except BaseException as error:  # whatever it is, the thread that waits is to tell it
            failed.append(error)

    said = ""
    if address is None:
        begin()  # in this thread: the kernel ends Ray's processes with the thread that started them
    else:
        with _unheard() as words:
            is_over = finishes_within(CONNECT_SECONDS, begin)
            said = words()
        if not is_over:
            _end_without_ray()
            raise _unreachable(address, f"Ray has not joined it within {CONNECT_SECONDS:.0f} s")
    if failed and "InvalidAuthToken" in said:
        raise ClusterLost(
            f"Ray at {address} does not know this process's token",
            hint="Nothing was started. Set RAY_AUTH_MODE=token, and have the head's token here: `ray get-auth-token` "
            "shows the one that a machine has, in ~/.ray/auth_token.",
        ) from failed[0]
    if failed:
        raise _unreachable(address, str(failed[0]).strip().splitlines()[0]) from failed[0]


def answers(address: str, seconds: float) -> bool:
    """Whether somebody takes a connection at ``host:port``."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=seconds):
            return True
    except (OSError, ValueError, OverflowError):
        return False


@contextmanager
def _unheard() -> Iterator[Callable[[], str]]:
    """Keep off the terminal what Ray writes on it by itself, a line for each second that it waits; says what that was.

    Below Python, and whatever RAY_BACKEND_LOG_LEVEL is: hence the file descriptor.
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
    return ClusterLost(
        f"{where} cannot be used: {why}",
        hint="Nothing was started. `ray status --address HOST:PORT` shows whether a cluster is up, `ray start --head` "
        "starts one; the command has to run on one of its nodes. A cluster that asks for Ray's token wants "
        "RAY_AUTH_MODE=token in the environment.",
    )


def as_user_error(error: BaseException) -> UserError:
    """What a person should know of an error on a node that is no run's own."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, UserError):
        return cause
    last = str(error).strip().splitlines()[-1]
    return RunFailure(
        f"a node of the cluster could not begin: {last}",
        hint="The same biasrepro has to be installed on all nodes, in the Python that Ray's workers run in.",
    )


def shut_down(*, answers: bool = True) -> None:
    """Leave the cluster; one that does not answer is left behind, at the end of this process too."""
    from ray._private.worker import shutdown

    if not answers or not finishes_within(LEAVE_SECONDS, shutdown):
        _end_without_ray()


def _end_without_ray() -> None:
    """Let this process end, when it does, without what Ray does then: without its cluster it hangs, or crashes."""

    def end() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(ClusterLost.exit_code)

    atexit.register(end)


def finishes_within(seconds: float, act: Callable[[], None]) -> bool:
    """Whether ``act`` came to its end in that time; else it is left to itself."""
    thread = threading.Thread(target=act, daemon=True, name=f"ray-{secrets.token_hex(2)}")
    thread.start()
    thread.join(seconds)
    return not thread.is_alive()
