"""A record alone says which run it is of."""

from __future__ import annotations

from typing import Any

import pytest

from repro.errors import ConfigError
from repro.experiment.config import builtin_names, find_table
from repro.experiment.schema import Run, digest
from repro.results.run_of_record import run_of


def test_the_run_of_every_cell_is_built_again_from_its_record(fake_runs: Any) -> None:
    for name in builtin_names():
        cells = find_table(name).cells
        for cell in (cells[0], cells[-1]):
            run = Run(cell=cell, seed=3)
            again = run_of(fake_runs.record(run))
            assert (again.id, again.hash) == (run.id, run.hash)
            assert again.cell.execution == run.cell.execution


@pytest.mark.parametrize("change", [{"model": "vgg"}, {"recipe": {"epochs": 2, "batch_size": 1}}, {"newer": 1}])
def test_a_configuration_that_cannot_be_built_here_is_one_message(fake_runs: Any, change: dict[str, Any]) -> None:
    record = fake_runs.record(Run(cell=find_table("demo").cells[0], seed=0))
    configuration = {**record.configuration, **change}
    foreign = record.model_copy(update={"configuration": configuration, "configuration_hash": digest(configuration)})
    with pytest.raises(ConfigError, match="this biasrepro cannot build the configuration of this record"):
        run_of(foreign)
