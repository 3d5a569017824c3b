"""Several executors at once over one results folder, each going on with what others began: a real Ray, a real SLURM."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray_cluster
from drivers import ENGINES, Drivers
from slurm_cluster import slurm_cluster, why_not

from repro.results import load_records
from repro.results.files import file_time
from repro.results.ownership import owner_of
from repro.sweep.registry import registered

pytest.importorskip("ray", reason="ray is not installed")
pytestmark = [
    pytest.mark.ray,
    pytest.mark.slurm,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(why_not() is not None, reason=f"no SLURM can be started: {why_not()}"),
]

STEPS = 50


@pytest.fixture
def drivers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Drivers]:
    with slurm_cluster() as slurm:
        for name, value in slurm.environment.items():
            monkeypatch.setenv(name, value)
        with (
            ray_cluster.cluster(1, gpus=1) as ray,
            contextlib.closing(Drivers(tmp_path, ray.address, seeds=2, steps=STEPS)) as started,
        ):
            yield started


def test_all_at_once_go_on_with_what_others_began_and_every_run_ends_once(drivers: Drivers) -> None:
    sweep = drivers.sweep
    drivers.begin_to_train("local")
    drivers.kill("local")  # its runs commit and end: two were begun
    for by in ("ray", "slurm", "local"):
        drivers.begin_to_train(by)
    drivers.kill("ray")
    drivers.begin("ray")
    ends = drivers.ends()
    assert set(ends) == set(ENGINES)
    for said in ends.values():
        assert said in ("['completed'] 8", "['completed', 'elsewhere'] 8", "['elsewhere'] 8")
    assert {event["by"] for event in sweep.audit()} == set(ENGINES)
    first = {event["by"] for event in sweep.audit() if event["run"] == sweep.runs[0].id}
    assert first - {"local"}  # begun here, gone on with elsewhere
    assert sweep.trained_once(STEPS)
    assert len(load_records(sweep.results)) == 8
    assert not any(one.lives(file_time(sweep.results)) for one in registered(sweep.results))
    assert [owner_of(job.folder) for job in sweep.jobs()] == [None] * 8
