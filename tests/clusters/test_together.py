"""Several executors at once over one results folder, each going on with what others began: a real Ray, a real SLURM."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ray_cluster
from cluster_sweep import Sweep
from slurm_cluster import slurm_cluster, why_not

from repro.results import load_records
from repro.results.lock import owner_of
from repro.sweep.register import file_time, registered

pytest.importorskip("ray", reason="ray is not installed")
pytestmark = [
    pytest.mark.ray,
    pytest.mark.slurm,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(why_not() is not None, reason=f"no SLURM can be started: {why_not()}"),
]

STEPS = 50
DRIVER = f"""
import sys
from pathlib import Path
from cluster_sweep import Sweep, fates
from repro.interruption import StopRequests
from repro.sweep import conduct, slurm
from repro.sweep.executors import RayOptions, SlurmOptions
conduct.RECHECK_SECONDS, slurm.LAST_LOOK_SECONDS, slurm.LAST_WORD_SECONDS = 0.5, 1.0, 2.0
sweep = Sweep(Path(sys.argv[1]), seeds=2, steps={STEPS})
if sys.argv[2] == "local":
    picture = sweep.beside()
elif sys.argv[2] == "ray":
    picture = sweep.on("ray", RayOptions(sys.argv[3], gpus_per_job=0.5))
else:
    picture = sweep.on("slurm", SlurmOptions(array=2))
print(sorted(set(fates(picture))), len(picture.finished))
"""


class Drivers:
    """Sweeps of the same runs as processes of their own, by what trains for them."""

    def __init__(self, folder: Path, address: str) -> None:
        self.sweep = Sweep(folder, seeds=2, steps=STEPS)
        self._address = address
        self._processes: dict[str, subprocess.Popen[str]] = {}

    def begin(self, by: str) -> None:
        """Begin one."""
        path = ":".join(filter(None, sys.path))
        self._processes[by] = subprocess.Popen(
            [sys.executable, "-c", DRIVER, str(self.sweep.folder), by, self._address],
            env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            text=True,
        )

    def begin_to_train(self, by: str) -> None:
        """Begin one, and wait until it trains."""
        before = len(self.sweep.audit())
        self.begin(by)
        self.wait(lambda: by in {event["by"] for event in self.sweep.audit()[before:]}, f"{by} to train")

    def kill(self, by: str) -> None:
        self._processes[by].kill()
        self._processes.pop(by).wait()

    def ends(self) -> dict[str, str]:
        """What each says at its end."""
        self.wait(lambda: all(one.poll() is not None for one in self._processes.values()), "all to end")
        return {by: one.communicate()[0].strip() for by, one in self._processes.items()}

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + 120
        while not condition():
            assert time.monotonic() < deadline, f"waited for {what}: {self.sweep.audit()[-20:]}"
            time.sleep(0.2)

    def close(self) -> None:
        for one in self._processes.values():
            one.kill()
            one.wait()


@pytest.fixture
def drivers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Drivers]:
    with slurm_cluster() as slurm:
        for name, value in slurm.environment.items():
            monkeypatch.setenv(name, value)
        with ray_cluster.cluster(1, gpus=1) as ray:
            started = Drivers(tmp_path, ray.address)
            try:
                yield started
            finally:
                started.close()


def test_all_at_once_go_on_with_what_others_began_and_every_run_ends_once(drivers: Drivers) -> None:
    sweep = drivers.sweep
    drivers.begin_to_train("local")
    drivers.kill("local")  # its runs commit and end: two were begun
    for by in ("ray", "slurm", "local"):
        drivers.begin_to_train(by)
    drivers.kill("ray")
    drivers.begin("ray")
    ends = drivers.ends()
    assert set(ends) == {"local", "ray", "slurm"}
    for said in ends.values():
        assert said in ("['completed'] 8", "['completed', 'elsewhere'] 8", "['elsewhere'] 8")
    assert {event["by"] for event in sweep.audit()} == {"local", "ray", "slurm"}
    first = {event["by"] for event in sweep.audit() if event["run"] == sweep.runs[0].id}
    assert first - {"local"}  # begun here, gone on with elsewhere
    assert sweep.trained_once(STEPS)
    assert len(load_records(sweep.results)) == 8
    assert not any(one.lives(file_time(sweep.results)) for one in registered(sweep.results))
    assert [owner_of(job.folder) for job in sweep.jobs()] == [None] * 8
