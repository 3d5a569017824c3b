"""Sweeps on a real SLURM: two nodes, three daemons and munge, on this machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from slurm_cluster import NODES, SlurmCluster, slurm_cluster, why_not

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(why_not() is not None, reason=f"no SLURM can be started: {why_not()}"),
    pytest.mark.xdist_group("slurm"),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[SlurmCluster]:
    with slurm_cluster() as running:
        yield running


def test_the_cluster_listens_to_this_machine_alone(cluster: SlurmCluster) -> None:
    listening = cluster.listening()
    assert len(listening) == 1 + len(NODES)
    assert {address.rpartition(":")[0] for address in listening} == {"127.0.0.1"}
