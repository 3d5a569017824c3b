"""A table whose images are a folder of the user's own: what commands say where it is, where it is not, and changed."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from repro.analysis.chance import chance_level_percent
from repro.data.prepare import open_decoded
from repro.experiment import folder_listing
from repro.experiment.config import load_table, runs_of
from repro.experiment.folder_listing import list_folder
from repro.experiment.schema import Run
from repro.results import RunFolder, write_record

FOLDER = "dataset: {name: folder, path: ../birds, image_size: 32}"


def a_new_process() -> None:
    list_folder.cache_clear()
    folder_listing._known_fingerprints.clear()


@pytest.fixture(autouse=True)
def process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("BIASREPRO_DATA", str(tmp_path / "data"))
    a_new_process()
    yield
    a_new_process()


@pytest.fixture
def birds(tmp_path: Path) -> Path:
    """Two classes of 6 and 4 training images, and of 3 and 1 test images."""
    folder = tmp_path / "lab" / "birds"
    random = np.random.default_rng(0)
    for name, count in {"train/crow": 6, "train/owl": 4, "test/crow": 3, "test/owl": 1}.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(random.integers(0, 256, (36, 40, 3), np.uint8)).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture
def mine(birds: Path, own_text: str) -> Path:
    """A table of these images, in a folder beside them."""
    file = birds.parent / "tables" / "mine.yaml"
    file.parent.mkdir()
    file.write_text(own_text.replace("dataset: {name: digits}", FOLDER).replace("seeds: 5", ""))
    return file


@pytest.fixture
def recorded(mine: Path, tmp_path: Path, fake_runs: Any) -> Path:
    """The results folder, with two seeds of each cell, trained on these images."""
    table = load_table(mine)
    open_decoded(table.dataset.known_facts, tmp_path / "data")
    counts = {"classes": 2, "test_images": 4, "largest_test_class": 3}
    for run in runs_of(table.cells, (0, 1)):
        write_record(RunFolder.of(tmp_path / "results", run), fake_runs.record(run, data_counts=counts))
    a_new_process()
    return tmp_path / "results"


def changed(birds: Path) -> None:
    Image.new("RGB", (32, 32)).save(birds / "train" / "owl" / "new.png")
    a_new_process()


def test_the_path_is_in_no_hash_and_the_fingerprint_is(mine: Path, birds: Path, tmp_path: Path) -> None:
    run = runs_of(load_table(mine).cells, (0,))[1]
    assert "sources" not in run.configuration()  # nothing is decoded yet
    open_decoded(run.cell.dataset.known_facts, tmp_path / "data")
    configuration = run.configuration()
    assert configuration["dataset"] == {"name": "folder", "classes": None, "image_size": 32}
    assert set(configuration["sources"]) == {"images"}
    assert Run.model_validate_json(run.model_dump_json()).hash == run.hash
    copy = tmp_path / "elsewhere"
    shutil.copytree(birds.parent, copy)
    moved = runs_of(load_table(copy / "tables" / "mine.yaml").cells, (0,))[1]
    open_decoded(moved.cell.dataset.known_facts, tmp_path / "data")
    assert moved.hash == run.hash


def test_records_count_here_and_where_the_folder_is_not(
    recorded: Path, mine: Path, birds: Path, say: Callable[..., Any]
) -> None:
    here = say("table", mine, "--results", recorded)
    assert here.out.count("(n=2)") == 3
    shutil.rmtree(birds)
    a_new_process()
    away = say("table", mine, "--results", recorded)
    assert away.out == here.out
    assert "not checked" not in away.err
    exported = mine.with_name("runs.csv")
    assert say("export", mine, "--level", "runs", "-o", exported, "--results", recorded).code == 0
    header, first = (line.split(",") for line in exported.read_text().splitlines()[:2])
    assert first[header.index("classes")] == "2"
    refused = say("sweep", mine, "--results", recorded)
    assert refused.code == 2
    assert f"{birds}: no such folder" in refused.err


def test_chance_level_is_guessing_the_largest_class_here_and_elsewhere(
    recorded: Path, mine: Path, birds: Path, fake_runs: Any
) -> None:
    cell = load_table(mine).cells[0]
    run = Run(cell=cell, seed=0)
    record = fake_runs.record(run, data_counts={"classes": 2, "test_images": 4, "largest_test_class": 3})
    level = chance_level_percent(cell.dataset)
    assert level == pytest.approx(75 + 300 * (0.75 * 0.25 / 4) ** 0.5)
    shutil.rmtree(birds)
    a_new_process()
    assert chance_level_percent(cell.dataset) is None
    assert chance_level_percent(cell.dataset, record) == level


def test_records_of_other_images_are_left_out_and_not_trained_over(
    recorded: Path, mine: Path, birds: Path, tmp_path: Path, say: Callable[..., Any]
) -> None:
    changed(birds)
    unchecked = say("table", mine, "--results", recorded)
    assert "Whether its images have changed is not checked: `biasrepro data fetch" in unchecked.err
    dry = say("sweep", mine, "--dry-run", "--no-measure", "--device", "cpu", "--results", recorded)
    assert "the folder birds is not decoded yet; recorded runs are taken to be of these images" in dry.out
    refused = say("sweep", mine, "--device", "cpu", "--results", recorded)
    assert refused.code == 2
    assert "4 runs have a record here" in refused.err
    assert "other configuration: sources.images is" in refused.err
    refused = say("train", f"{mine}/squeezenet/ce", "--results", recorded)
    assert "a run of another configuration is recorded here" in refused.err
    a_new_process()
    assert "4 runs recorded under another configuration" in say("table", mine, "--results", recorded).out


@pytest.mark.parametrize("settings", [(), ("--set", "dataset.image_size=64")])
def test_the_hint_to_decode_has_only_options_that_fetching_has(
    recorded: Path,
    mine: Path,
    birds: Path,
    say: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: tuple[str, ...],
) -> None:
    changed(birds)
    monkeypatch.setenv("BIASREPRO_RESULTS", str(tmp_path / "elsewhere"))
    said = say("table", mine, *settings, "--results", recorded).err
    [command] = re.findall(r"is not checked: `biasrepro (.+?)` decodes", said)
    assert say(*shlex.split(command)).code == 0
    assert "is not checked" not in say("table", mine, *settings, "--results", recorded).err


def test_a_run_is_evaluated_by_its_cell_since_its_record_has_no_path(
    recorded: Path, mine: Path, birds: Path, say: Callable[..., Any]
) -> None:
    refused = say("evaluate", recorded / "mine" / "squeezenet" / "ce" / "seed-1")
    assert refused.code == 2
    assert "mine/squeezenet/ce/seed-1: a record does not say where its folder of images is\n" in refused.err
    assert "name its cell, such as mine.yaml/squeezenet/ce, and --seed 1.\n" in refused.err

    def by_cell() -> str:
        a_new_process()
        return str(say("evaluate", f"{mine}/squeezenet/ce", "--seed", 1, "--results", recorded).err)

    assert "this run was recorded without its weights" in by_cell()
    text = mine.read_text()
    mine.write_text(text.replace("epochs: 4", "epochs: 5"))
    assert "recipe.epochs is 4 there, 5 here\n  To evaluate that run, undo in the table what differs.\n" in by_cell()
    mine.write_text(text)
    changed(birds)
    refused_images = by_cell()
    assert "a run of another configuration is recorded here: sources.images is" in refused_images
    assert "trained with another version of its images: evaluate it with that version.\n" in refused_images


def test_data_commands_take_the_table(mine: Path, birds: Path, say: Callable[..., Any], tmp_path: Path) -> None:
    root = ("--root", tmp_path / "my data")
    described = say("data", "info", mine, *root).out
    assert "the folder birds (folder): 10 training and 4 test images of 32x32 pixels in 2 classes" in described
    assert f"here: not decoded yet: {birds}" in described
    assert f"Next: biasrepro data fetch {mine}" in described
    undecoded = say("data", "verify", mine, *root)
    assert undecoded.code == 2
    assert f"{birds}: the folder birds is not decoded yet" in undecoded.err
    assert f"Get it with: biasrepro data fetch {mine} --root '{tmp_path}/my data'  (" in undecoded.err
    for option in ("--from", "--url"):
        refused = say("data", "fetch", mine, option, tmp_path, *root)
        assert refused.code == 2
        assert f"{option} has no effect: the images are in {birds}" in refused.err
    assert "the folder birds is ready" in say("data", "fetch", mine, *root).out
    fingerprint = load_table(mine).dataset.sources["images"]
    verified = say("data", "verify", mine, *root).out
    assert f"fingerprint {fingerprint}" in verified
    assert f"Next: biasrepro sweep {mine} --dry-run --root '{tmp_path}/my data'\n" in verified
    (birds / "train" / "owl" / "notes.txt").write_text("")
    a_new_process()
    refused = say("data", "fetch", mine, *root)
    assert refused.code == 2
    assert "1 file cannot be read as images: train/owl/notes.txt (not an image)" in refused.err


@pytest.mark.timeout(300)
@pytest.mark.slow
def test_a_sweep_decodes_once_trains_and_says_what_is_uneven(
    mine: Path, birds: Path, say: Callable[..., Any], tmp_path: Path
) -> None:
    text = mine.read_text().replace("epochs: 4", "epochs: 1").replace("decay_epochs: [2, 3]", "decay_epochs: []")
    mine.write_text(text.replace("model: squeezenet", "model: shufflenetv2_x0_5"))
    results = tmp_path / "results"
    options = ("--device", "cpu", "--jobs", 1, "--results", results, "--root", tmp_path / "data")
    swept = say("sweep", mine, "--seeds", 1, *options)
    assert swept.code == 0
    assert "the folder birds has 4 to 6 training images a class" in swept.out
    record = json.loads((results / "mine" / "squeezenet" / "bias" / "seed-0" / "run.json").read_text())
    assert record["provenance"]["data_counts"] == {"classes": 2, "test_images": 4, "largest_test_class": 3}
    assert record["configuration"]["sources"]["images"] == load_table(mine).dataset.sources["images"]
    assert len(list((tmp_path / "data").rglob("decoded-*.bin"))) == 1


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ("{name: folder, image_size: 64}", "a folder of images needs 'path'"),
        ("{name: folder, path: birds}", "a folder of images needs 'image_size'"),
        ("{name: folder, path: birds, image_size: 50}", "image_size"),
        ("{name: folder, path: birds, image_size: 256}", "image_size"),
        ("{name: folder, path: birds, image_size: 0}", "image_size"),
        ("{name: folder, path: 3, image_size: 64}", "path"),
        ("{name: digits, path: birds}", "digits has no 'path'"),
        ("{name: digits, image_size: 64}", "digits has no 'image_size'"),
        ("{name: folders, path: birds, image_size: 64}", "folder"),
    ],
)
def test_a_wrong_key_is_one_message(dataset: str, message: str, own_text: str, refusal: Callable[..., str]) -> None:
    refused = refusal(own_text.replace("{name: digits}", dataset))
    assert message in refused
    assert "own.yaml:5" in refused


def test_wrong_choices_and_overrides_of_a_folder(mine: Path, say: Callable[..., Any]) -> None:
    refused = say("sweep", mine, "--set", "dataset.path=/elsewhere", "--dry-run").err
    assert "'dataset.path' cannot be set from the command line" in refused
    assert "dataset.image_size" in say("sweep", mine, "--set", "dataset.image_size=33", "--dry-run").err
    assert "folder has 2 classes, not 3" in say("sweep", mine, "--set", "dataset.classes=3", "--dry-run").err
    of_a_table = say("sweep", "demo", "--set", "dataset.name=folder", "--dry-run").err
    assert of_a_table.startswith("error: --set dataset.name: a folder of images needs 'path'")
    larger = say("sweep", mine, "--set", "dataset.image_size=224", "--dry-run", "--no-measure", "--device", "cpu")
    assert "mine+dataset.image_size=224/squeezenet/ce" in larger.out
