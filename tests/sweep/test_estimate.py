from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch

from repro.experiment.catalog import NETWORKS
from repro.experiment.config import find_table
from repro.experiment.schema import Cell, Run
from repro.models import build_model
from repro.results import RunRecord
from repro.sweep.cost.estimate import (
    WEIGHTS_BYTES_PER_PARAMETER,
    Cost,
    cost_key,
    costs_in_records,
    estimate,
    unknown_cells,
)
from repro.sweep.devices.slots import Slot
from repro.sweep.selection import selected_runs

CPU = Slot("cpu", "cpu", 1)
GPU = Slot("cuda:0", "cuda", 4)


@pytest.fixture
def record_of(fake_worker: ModuleType) -> Callable[..., RunRecord]:
    """A record of ``run``, with fields of its provenance replaced."""

    def make(run: Run, status: str = "completed", **provenance: Any) -> RunRecord:
        record: RunRecord = fake_worker.record_of(run, status=status)
        return record.model_copy(update={"provenance": record.provenance.model_copy(update=provenance)})

    return make


def test_loss_seed_and_schedule_do_not_change_what_an_epoch_costs() -> None:
    table = find_table("demo")
    longer = find_table("demo+recipe.epochs=99")
    assert len({cost_key(cell) for cell in (*table.cells, *longer.cells)}) == 1


@pytest.mark.parametrize(
    "setting", ["recipe.batch_size=64", "recipe.optimizer=adamw", "dataset.classes=5", "execution.precision=bf16"]
)
def test_batch_optimizer_data_and_execution_do(setting: str) -> None:
    assert cost_key(find_table("demo").cells[0]) != cost_key(find_table(f"demo+{setting}").cells[0])


def test_records_tell_the_median_of_an_epoch(demo_runs: list[Run], record_of: Callable[..., RunRecord]) -> None:
    epochs = demo_runs[0].cell.recipe.epochs
    seconds = (3.0 * epochs, 5.0 * epochs, 100.0 * epochs)
    records = [record_of(run, duration_seconds=total) for run, total in zip(demo_runs, seconds, strict=False)]
    assert costs_in_records(records, CPU, "a processor") == {
        cost_key(demo_runs[0].cell): Cost(5.0, 1_000_000, "records")
    }


def test_a_run_takes_its_start_besides_its_epochs(demo_runs: list[Run], record_of: Callable[..., RunRecord]) -> None:
    parts = {"imports": 3.0, "data": 0.5, "network": 1.5, "warm_up": 60.0, "capture": 4.0}
    epochs = demo_runs[0].cell.recipe.epochs
    record = record_of(demo_runs[0], duration_seconds=2.0 * epochs, start_seconds=parts)
    costs = costs_in_records([record], CPU, "a processor")
    (cost,) = costs.values()
    assert cost.start_seconds == 5.0  # the rest is in the first epoch
    assert cost.run_seconds(epochs) == 5.0 + 2.0 * epochs
    total = estimate(demo_runs[:2], costs, 1)
    assert (total.start_seconds, total.run_seconds) == (10.0, 2 * (5.0 + 2.0 * epochs))


@pytest.mark.parametrize(
    ("slot", "name", "status", "provenance"),
    [
        (GPU, None, "completed", {}),
        (CPU, "another processor", "completed", {}),
        (CPU, "a processor", "diverged", {}),
        (CPU, "a processor", "completed", {"threads": 2}),
        (GPU, "NVIDIA H100", "completed", {"device": "cuda", "device_name": "NVIDIA A100"}),
    ],
)
def test_records_of_other_circumstances_tell_nothing(
    demo_runs: list[Run],
    record_of: Callable[..., RunRecord],
    slot: Slot,
    name: str | None,
    status: str,
    provenance: dict[str, Any],
) -> None:
    assert costs_in_records([record_of(demo_runs[0], status, **provenance)], slot, name) == {}


def test_the_threads_of_a_gpu_run_do_not_matter(demo_runs: list[Run], record_of: Callable[..., RunRecord]) -> None:
    found = costs_in_records([record_of(demo_runs[0], device="cuda", device_name="NVIDIA H100")], GPU, "NVIDIA H100")
    assert [cost.seconds_per_epoch for cost in found.values()] == [60.0 / demo_runs[0].cell.recipe.epochs]


def test_time_and_disk_add_up() -> None:
    runs = selected_runs(find_table("table2"), (0,), rows=["shufflenetv2", "squeezenet"], columns=["ce"])
    costs = {
        cost_key(runs[0].cell): Cost(1.0, 1_000, "measured"),
        cost_key(runs[1].cell): Cost(3.0, 2_000, "measured"),
    }
    whole = estimate(runs, costs, slots=2)
    assert whole.run_seconds == 200 * (1 + 3)
    assert whole.wall_seconds == 200 * 3, "the longest run bounds the whole"
    assert whole.unknown == 0
    records = 2 * (4_000 + 200 * 450)
    assert whole.disk_bytes == records + 3 * 8 * (1_000 + 2_000)
    assert estimate(runs, costs, slots=1).wall_seconds == whole.run_seconds
    assert estimate(runs, costs, slots=1).disk_bytes == records + 3 * 8 * 2_000, "one checkpoint at a time"
    kept = estimate(runs, costs, slots=2, keep_weights=True)
    assert kept.disk_bytes == whole.disk_bytes + 4_250 + 8_500, "the weights of every run"


def test_a_checkpoint_of_adamw_has_two_moments() -> None:
    table = find_table("demo+recipe.optimizer=adamw")
    runs = selected_runs(table, (0,), columns=["ce"])
    whole = estimate(runs, {cost_key(runs[0].cell): Cost(1.0, 1_000, "measured")}, slots=1)
    assert whole.disk_bytes == 4_000 + 5 * 450 + 3 * 12 * 1_000


def test_what_is_unknown_is_counted_and_sized_by_the_largest_of_its_kind() -> None:
    runs = selected_runs(find_table("table2"), (0,), rows=["squeezenet"], columns=["ce", "bias"])
    whole = estimate(runs, {}, slots=1)
    assert (whole.run_seconds, whole.wall_seconds, whole.unknown) == (0.0, 0.0, 2)
    assert whole.disk_bytes == 2 * (4_000 + 200 * 450) + 3 * 8 * 900_000


def test_no_network_is_larger_than_what_is_taken_for_it_nor_much_smaller() -> None:
    from repro.models.describe import describe_model

    for name, network in NETWORKS.items():
        most = network.parameters_at_most
        counted = describe_model(name, num_classes=200, image_size=64).parameters
        assert counted <= most <= 1.15 * counted, name


def test_no_weights_file_is_larger_than_what_is_taken_for_it() -> None:
    for name in NETWORKS:
        with torch.device("meta"):
            model = build_model(name, 10)
        bytes_of = [tensor.numel() * tensor.element_size() for tensor in model.state_dict().values()]
        described = 150 * len(bytes_of)  # name, type, shape and place of a tensor
        parameters = sum(parameter.numel() for parameter in model.parameters())
        assert sum(bytes_of) + described <= WEIGHTS_BYTES_PER_PARAMETER * parameters, name


def test_one_cell_of_each_unknown_kind_is_to_be_measured() -> None:
    runs = selected_runs(find_table("table2"), (0, 1), rows=["shufflenetv2", "squeezenet"])
    known = {cost_key(runs[0].cell): Cost(1.0, 1, "records")}
    assert [cell.id for cell in unknown_cells(runs, known)] == ["table2/squeezenet/ce"]
    assert [cell.id for cell in unknown_cells(runs, {})] == ["table2/shufflenetv2/ce", "table2/squeezenet/ce"]


def test_a_cell_is_resolved_as_often_for_many_seeds_as_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    resolved: Counter[str] = Counter()
    determinants = Cell.determinants

    def counting(cell: Cell) -> dict[str, Any]:
        resolved[cell.id] += 1
        return determinants(cell)

    monkeypatch.setattr(Cell, "determinants", counting)
    table = find_table("demo")
    for seeds in (1, 50):
        resolved.clear()
        runs = selected_runs(table, range(seeds))
        assert len(unknown_cells(runs, {})) == 1
        assert estimate(runs, {}, 2).unknown == len(runs)
        assert resolved == {cell.id: 2 for cell in table.cells}
