"""A real SLURM on this machine: munged, slurmctld and two nodes, started for a test and gone after it.

``python tests/clusters/slurm_cluster.py`` starts one and a shell in it, to try things by hand.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

NODES = ("n1", "n2")
GPUS = ("/dev/null", "/dev/zero")  # what each node's two GPUs are said to be: SLURM sets CUDA_VISIBLE_DEVICES
CPUS = 4  # of each node, whatever the machine has

_DAEMONS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol")
_PATIENCE_SECONDS = 60.0
_LISTEN = "0A"

# The first partition gives way to the second: its jobs are put back into the queue.
_CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait=15
SlurmdTimeout=10
SlurmctldTimeout=10
MessageTimeout=10
MinJobAge=300
ReturnToService=2
SlurmdParameters=config_overrides
GresTypes=gpu
DefMemPerCPU=100
{nodes}
PartitionName=low Nodes=ALL Default=YES PriorityTier=1 MaxTime=INFINITE State=UP
PartitionName=high Nodes=ALL PriorityTier=10 PreemptMode=OFF MaxTime=INFINITE State=UP
"""
_NODE = "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cpus} RealMemory=4000 Gres=gpu:{gpus}"


def why_not() -> str | None:
    """Why no SLURM can be started here, None where it can."""
    path = _path()
    if missing := [name for name in _DAEMONS if shutil.which(name, path=path) is None]:
        return f"no {missing[0]} here (Debian: slurmctld slurmd slurm-client munge)"
    return None if os.geteuid() == 0 else "SLURM's daemons run as root here"


@dataclass
class SlurmCluster:
    """A running cluster; ``environment`` is what its clients need."""

    folder: Path
    environment: dict[str, str]
    _daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def run(self, *command: str, check: bool = True, timeout: float = 60.0) -> str:
        """The standard output of a command that knows this cluster."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=timeout, check=False
        )
        assert done.returncode == 0 or not check, f"{command}: {done.stderr}"
        return done.stdout

    def idle(self) -> set[str]:
        """The nodes that could take any job."""
        return set(self.run("sinfo", "-h", "--Node", "--states=idle", "--format=%N", check=False).split())

    def listening(self) -> list[str]:
        """The addresses and ports at which the daemons wait for connections (proc(5), net/tcp)."""
        found = []
        inodes = {inode for daemon in self._daemons.values() for inode in _sockets(daemon.pid)}
        for table in ("tcp", "tcp6"):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTEN and fields[9] in inodes:
                    address, port = fields[1].split(":")
                    raw = bytes.fromhex(address)
                    shown = socket.inet_ntoa(raw[::-1]) if table == "tcp" else raw.hex()
                    found.append(f"{shown}:{int(port, 16)}")
        return found

    def running(self) -> set[str]:
        """The daemons that were started and not killed."""
        return set(self._daemons)

    def start(self, name: str) -> None:
        """Start a daemon: munged, slurmctld or a node."""
        log = (self.folder / f"{name}.output").open("ab")
        with log:
            self._daemons[name] = subprocess.Popen(
                self._command(name),
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self, name: str) -> None:
        """Kill a daemon at once; jobs on a node go on without it."""
        daemon = self._daemons.pop(name)
        daemon.kill()
        daemon.wait()

    def stop(self) -> None:
        """End all jobs, then all daemons."""
        if "slurmctld" in self._daemons:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.run("scancel", "--full", "--signal=KILL", "--partition=low,high", check=False, timeout=20)
                self.run("scancel", "--partition=low,high", check=False, timeout=20)
        for name in ("slurmctld", *NODES, "munged"):
            if (daemon := self._daemons.pop(name, None)) is not None:
                daemon.terminate()
                try:
                    daemon.wait(10)
                except subprocess.TimeoutExpired:
                    daemon.kill()
                    daemon.wait()
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def processes(self) -> list[int]:
        """The processes of this cluster that its daemons no longer look after: jobs, and the steps that hold them."""
        mine = f"SLURM_CONF={self.environment['SLURM_CONF']}".encode()
        found = []
        for process in Path("/proc").iterdir():
            if process.name.isdecimal() and int(process.name) != os.getpid():
                with contextlib.suppress(OSError):
                    if mine in (process / "environ").read_bytes().split(b"\0"):
                        found.append(int(process.name))
        return found

    def _command(self, name: str) -> Sequence[str]:
        if name == "munged":
            return [
                *("munged", "--foreground", "--num-threads=2", f"--key-file={self.folder}/munge.key"),
                *(f"--socket={self.folder}/munge.socket", f"--pid-file={self.folder}/munge.pid"),
                *(f"--seed-file={self.folder}/munge.seed", f"--log-file={self.folder}/munge.log"),
            ]
        configuration = self.environment["SLURM_CONF"]
        if name == "slurmctld":
            return ["slurmctld", "-D", "-i", "-f", configuration]
        return ["slurmd", "-D", "-N", name, "-f", configuration]


@contextmanager
def slurm_cluster() -> Iterator[SlurmCluster]:
    """A cluster of two nodes, ready for jobs."""
    # munged wants all folders above its socket to be nobody else's; /tmp with its sticky bit is.
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH", "SUBMITIT"))},
        "SLURM_CONF": str(folder / "slurm.conf"),
        "PATH": _path(),
    }
    cluster = SlurmCluster(folder, environment)
    try:
        folder.chmod(0o755)
        _configure(folder)
        cluster.start("munged")
        wait_for(lambda: (folder / "munge.socket").is_socket(), "munged")
        for name in ("slurmctld", *NODES):
            cluster.start(name)
        wait_for(lambda: cluster.idle() == set(NODES), "both nodes to be idle")
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


def wait_for(condition: Callable[[], object], what: str, seconds: float = _PATIENCE_SECONDS) -> None:
    """Wait until ``condition`` holds; AssertionError naming ``what`` after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.1)


def _configure(folder: Path) -> None:
    for name in ("state", *(f"spool-{node}" for node in NODES)):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(128))
    host = socket.gethostname().partition(".")[0]
    controller_port, *ports = _free_ports(1 + len(NODES))
    nodes = [
        _NODE.format(name=name, host=host, port=port, cpus=CPUS, gpus=len(GPUS))
        for name, port in zip(NODES, ports, strict=True)
    ]
    values: Mapping[str, object] = {"folder": folder, "host": host, "controller_port": controller_port}
    (folder / "slurm.conf").write_text(_CONFIGURATION.format(**values, nodes="\n".join(nodes)))
    # Any device does for SLURM, which counts them and hides none here.
    gpus = [f"Name=gpu File={device} Flags=nvidia_gpu_env\n" for device in GPUS]
    (folder / "gres.conf").write_text("".join(gpus))


def _sockets(pid: int) -> Iterator[str]:
    """The inodes of a process's sockets."""
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            if (target := str(descriptor.readlink())).startswith("socket:"):
                yield target.removeprefix("socket:[").removesuffix("]")


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in found:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in found]


def _path() -> str:
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


if __name__ == "__main__":
    with slurm_cluster() as running:
        print(f"SLURM_CONF={running.environment['SLURM_CONF']}; leave the shell to stop it")
        subprocess.run([os.environ.get("SHELL", "/bin/sh")], env=running.environment, check=False)
