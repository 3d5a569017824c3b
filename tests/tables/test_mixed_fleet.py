"""A table whose runs were made on several kinds of machine says so, once for each thing that differs."""

from __future__ import annotations

import re
from types import ModuleType
from typing import Any

import pytest

from repro.experiment.config import find_table
from repro.experiment.schema import Table
from repro.tables import RENDERERS, assemble

FORMATS = ("markdown", "latex", "html")


def shown(fakes: ModuleType, table: Table, format_name: str, *made: dict[str, Any]) -> str:
    """The table with a run of its first row for each of ``made``, on one line and without LaTeX's places to break."""
    row = table.rows[0].id
    runs = [fakes.run_of(table, row, "ce" if index % 2 else "bias", index // 2) for index in range(len(made))]
    found = [fakes.found(fakes.fake_record(run, **fields)) for run, fields in zip(runs, made, strict=True)]
    text = RENDERERS[format_name]([assemble(table, found)], "biasrepro table")
    return " ".join(re.sub(r"\\allowbreak\{\}", "", text).split())


def gpu(name: str, driver: str, torch: str) -> dict[str, Any]:
    return {"device_name": name, "driver": driver, "packages": {"torch": torch, "numpy": "2.4.6"}}


H200 = gpu("NVIDIA H200", "570.86.15", "2.15.0")
A100 = gpu("NVIDIA A100 80GB PCIe", "550.54.14", "2.14.1")
CPU = {"device": "cpu", "device_name": "Intel Xeon", "packages": {"torch": "2.15.0"}}


@pytest.mark.parametrize("format_name", FORMATS)
def test_each_thing_that_differs_has_its_footnote(fakes: ModuleType, format_name: str) -> None:
    text = shown(fakes, find_table("table1"), format_name, H200, A100, H200)
    assert "The runs used 2 different devices: NVIDIA H200 (2); NVIDIA A100 80GB PCIe (1)." in text
    assert re.search(r"used 2 different GPU driver versions: 570\.86\.15 \(2\); 550\.54\.14 \(1\)\.", text)
    assert "The runs used 2 different PyTorch versions: 2.15.0 (2); 2.14.1 (1)." in text
    assert text.count("The runs used") == 3


@pytest.mark.parametrize("format_name", FORMATS)
def test_a_fleet_of_one_kind_has_none(fakes: ModuleType, format_name: str) -> None:
    assert "The runs used" not in shown(fakes, find_table("table1"), format_name, H200, H200)


@pytest.mark.parametrize("format_name", FORMATS)
def test_a_cpu_has_no_driver_that_could_differ(fakes: ModuleType, format_name: str) -> None:
    text = shown(fakes, find_table("table1"), format_name, H200, CPU)
    assert "The runs used 2 different devices: Intel Xeon (1); NVIDIA H200 (1)." in text
    assert text.count("The runs used") == 1


def test_runs_in_no_mean_make_no_mixture(fakes: ModuleType) -> None:
    diverged = {**A100, "status": "diverged", "reason": "the loss is nan at step 1"}
    assert "The runs used" not in shown(fakes, find_table("table1"), "markdown", H200, diverged)


# One version of the code gives each loss a hash of its own, and all of them the same shared one.
CE, BIAS = ({"code_hash": letter * 64, "shared_code_hash": "0" * 64} for letter in "cb")


@pytest.mark.parametrize("format_name", FORMATS)
def test_one_version_of_the_code_that_trains_several_losses_is_one(fakes: ModuleType, format_name: str) -> None:
    assert "The runs used" not in shown(fakes, find_table("table1"), format_name, BIAS, CE, BIAS, CE)


@pytest.mark.parametrize(
    "other",
    [{**CE, "shared_code_hash": "1" * 64}, {**CE, "code_hash": "d" * 64}, {"code_hash": "c" * 64}],
    ids=["what all runs share", "one loss", "a record of before"],
)
def test_another_version_of_the_code_has_its_footnote(fakes: ModuleType, other: dict[str, str]) -> None:
    text = shown(fakes, find_table("table1"), "markdown", BIAS, CE, BIAS, other)
    assert "The runs used 2 different code versions: " in text
    assert text.count("The runs used") == 1
