"""A network, a loss and a data set of a plugin go through every command; faults of its file are one message each."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from repro import cli
from repro.analysis.chance import chance_level_percent
from repro.cli.sweep.request import SweepRequest
from repro.cli.sweep.steps import job_of
from repro.data.prepare import open_decoded
from repro.errors import ConfigError, DataError
from repro.experiment.catalog import DATASETS, LOSSES, NETWORKS, DatasetFacts, imported
from repro.experiment.config import find_cell
from repro.experiment.plugins import plugin_of
from repro.experiment.schema import Run
from repro.models.describe import describe_model
from repro.plugin_files import load_plugin
from repro.results import RunFolder, RunRecord, load_records, write_record
from repro.sweep.cluster_node import RemoteJob

DOCUMENT = Path(__file__).parents[2] / "docs" / "your-own.md"
PLUGIN, TABLE = (
    re.search(rf"```\w+\n# {name}\n(.*?)```", DOCUMENT.read_text(), re.DOTALL).group(1)  # type: ignore[union-attr]
    for name in (r"my_study\.py", r"study\.yaml")
)
HEAD = "from repro.api import dataset, loss, network\n"
pytestmark = pytest.mark.usefixtures("no_plugin_stays")


@pytest.fixture
def study(tmp_path: Path) -> Path:
    (tmp_path / "my_study.py").write_text(PLUGIN)
    (tmp_path / "study.yaml").write_text(TABLE)
    return tmp_path


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], forget: Callable[[], None]) -> Callable[..., tuple[int, str, str]]:
    def run_command(*arguments: object) -> tuple[int, str, str]:
        forget()  # each command is a process of its own
        code = cli.run([str(argument) for argument in arguments])
        return (code, *capfd.readouterr())

    return run_command


Command = Callable[..., tuple[int, str, str]]
ON_CPU = ("--device", "cpu", "--threads", 1)


def records(folder: Path) -> dict[str, RunRecord]:
    return {found.record.column: found.record for found in load_records(folder / "results") if found.record}


def test_it_is_trained_and_shown_by_every_command(study: Path, run: Command) -> None:
    for column in ("ce", "focal"):
        code, _, error = run("train", f"study.yaml/tinynet/{column}", "--plugin", "my_study.py", *ON_CPU)
        assert code == 0, error
    made = records(study)
    sha256 = made["ce"].configuration["sources"]["my_study"]
    assert made["focal"].configuration["sources"] == {"my_study": sha256}
    assert made["focal"].provenance.plugins == {"my_study.py": sha256}
    assert made["focal"].parameters == 3 * 8 * 9 + 8 + 8 * 3 + 3
    for plugin in ((), ("--plugin", "my_study.py")):
        code, text, error = run("table", "study.yaml", "--format", "json", *plugin)
        assert code == 0, error
        assert "Focal loss" in text
        assert "another configuration" not in text
        assert json.dumps(json.loads(text)).count('"n": 1') >= 2
    assert run("status", "study.yaml")[0] == 0
    code, text, error = run("report", "study.yaml", "-o", "report.html")
    assert code == 0, error
    assert run("figure", "deltas", "study.yaml", "-o", "deltas.svg")[0] == 0
    assert run("export", "study.yaml", "-o", "runs.csv")[0] == 0
    assert "my_study/stripes" in (study / "runs.csv").read_text()
    code, text, error = run("sweep", "study.yaml", "--seeds", 1, "--dry-run", "--plugin", "my_study.py", "--no-measure")
    assert code == 0, error
    assert "1 to train, 2 finished" in text


def test_a_changed_plugin_is_another_configuration(study: Path, run: Command) -> None:
    command = ("train", "study.yaml/tinynet/ce", "--plugin", "my_study.py", *ON_CPU)
    assert run(*command)[0] == 0
    (study / "my_study.py").write_text(PLUGIN.replace("@loss\n", "# a comment\n@loss\n"))
    assert run(*command)[0] == 0
    (study / "my_study.py").write_text(PLUGIN.replace("ReLU", "ReLU6"))
    code, _, error = run(*command)
    assert code == 2
    assert "a run of another configuration is recorded here" in error
    assert "another configuration" in run("table", "study.yaml", "--plugin", "my_study.py")[1]
    assert "another configuration" not in run("table", "study.yaml")[1]


def test_uneven_classes_are_those_of_the_record_with_the_plugin_and_without(
    study: Path, run: Command, fake_runs: Any
) -> None:
    load_plugin(study / "my_study.py")
    recorded = Run(cell=find_cell("study.yaml/tinynet/ce"), seed=0)
    counts = {"classes": 5, "test_images": 100, "largest_test_class": 90}
    epochs = tuple(epoch.model_copy(update={"test_top1_percent": 93.0}) for epoch in fake_runs.epochs_of(recorded))
    record = fake_runs.record(recorded, epochs=epochs, data_counts=counts)
    assert chance_level_percent(recorded.cell.dataset) == pytest.approx(100 / 3 + 300 * (2 / 9 / 24) ** 0.5)
    write_record(RunFolder.of(study / "results", recorded), record)
    for plugin in ((), ("--plugin", "my_study.py")):
        code, text, error = run("status", "study.yaml", *plugin)
        assert code == 0, error
        assert "93.00 % at the last epoch, and guessing reaches up to 99.00 %" in text
        assert run("export", "study.yaml", "--level", "runs", "-o", "runs.csv", "--overwrite", *plugin)[0] == 0
        heading, line = (study / "runs.csv").read_text().splitlines()
        assert dict(zip(heading.split(","), line.split(","), strict=True))["classes"] == "5"


@pytest.mark.slow
def test_a_sweep_trains_it_in_its_workers(study: Path, run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(cli.__file__).parents[2]))
    options = ("--seeds", 1, "--plugin", "my_study.py", "--device", "cpu", "--jobs", 1, "--progress", "plain")
    code, _, error = run("sweep", "study.yaml", *options)
    assert code == 0, error
    assert {record.status for record in records(study).values()} == {"completed"}
    assert len(records(study)) == 3


@pytest.mark.parametrize("executor", ["local", "slurm", "ray"])
def test_a_job_is_given_the_plugin(executor: str, study: Path, forget: Callable[[], None]) -> None:
    load_plugin(study / "my_study.py")
    request = SweepRequest(table_name="study.yaml", plugin=[Path("my_study.py")], executor=executor)
    job = job_of(request, Run(cell=request.table.cells[0], seed=0))
    given = job.arguments[job.arguments.index("--plugin") + 1]
    assert given == ("my_study.py" if executor == "local" else str(study / "my_study.py"))
    # A node reads the run without the plugin, and knows its place.
    forget()
    assert RemoteJob.of(job).job(Path("results")).id == job.id


def test_without_its_plugin_nothing_is_trained(study: Path, run: Command) -> None:
    for command in ("train study.yaml/tinynet/ce", "sweep study.yaml", "sweep study.yaml --dry-run"):
        code, _, error = run(*command.split())
        assert code == 2
        assert error == (
            "error: the network my_study/tinynet comes from a plugin\n  Give its file: --plugin my_study.py\n"
        )
    assert not (study / "results").exists()


@pytest.mark.parametrize("command", ["sweep study.yaml --dry-run --no-measure", "train study.yaml/tinynet/ce"])
def test_an_override_to_a_data_set_of_a_plugin_is_refused(command: str, study: Path, run: Command) -> None:
    (study / "study.yaml").write_text(TABLE.replace("my_study/stripes", "digits"))
    options = ("--set", "dataset.name=my_study/stripes", "--plugin", "my_study.py", "--device", "cpu")
    assert run(*command.split(), *options) == (
        2,
        "",
        "error: --set dataset.name: 'my_study/stripes' has a slash, and an override is part of the name of the results "
        "folder\n  Put it into a YAML file of your own; `biasrepro config TABLE -o mine.yaml` begins one.\n",
    )
    assert not (study / "results").exists()


def test_a_wrong_name_of_torchvision_stops_a_sweep(study: Path, run: Command) -> None:
    text = TABLE.replace("my_study/tinynet", "torchvision/resnet19").replace("my_study/stripes", "digits")
    (study / "study.yaml").write_text(text.replace("my_study/focal", "bias"))
    for command in ("sweep study.yaml", "sweep study.yaml --dry-run", "train study.yaml/tinynet/ce"):
        code, _, error = run(*command.split())
        assert (code, error) == (
            2,
            "error: study, row 'tinynet': torchvision has no classification network 'resnet19'\n"
            "  Did you mean 'resnet18'?\n",
        )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n", "my_study.py: this file registers nothing\n  Decorate what it adds: from repro.api import"),
        ("def f(:\n", "my_study.py:1: not Python: invalid syntax"),
        ("x = '\udce4'", "my_study.py:1: not Python: (unicode error) 'utf-8' codec"),
        ("\n1 / 0\n", "my_study.py:2: the plugin cannot be loaded: ZeroDivisionError: division by zero"),
        ("import no_such\n", "my_study.py:1: the plugin cannot be loaded: ModuleNotFoundError: No module named 'no_s"),
        ("raise SystemExit(3)\n", "my_study.py:1: the plugin cannot be loaded: SystemExit: 3"),
        (
            f"{HEAD}@loss\ndef f(): ...\n@loss(name='f')\ndef g(): ...\n",
            "my_study.py:4: two of this file are the loss",
        ),
        (f"{HEAD}@network(name='a b')\ndef f(): ...\n", "my_study.py:2: 'a b' cannot be a name"),
        (f"{HEAD}network(3)\n", "a int cannot be registered as a network"),
        (
            f"{HEAD}@dataset(num_classes=3)\ndef f(): ...\n",
            "my_study.py:2: the plugin cannot be loaded: TypeError: data",
        ),
    ],
)
def test_a_fault_of_the_file_is_one_message(text: str, message: str, study: Path, run: Command) -> None:
    (study / "my_study.py").write_bytes(text.encode(errors="surrogateescape"))
    code, _, error = run("table", "study.yaml", "--plugin", "my_study.py")
    assert code == 2
    assert message in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.py", "none.py: no such file"),
        (".", "this is not a file"),
        ("study.yaml", "study.yaml: a plugin is a Python file, NAME.py"),
        ("my-study.py", "my-study.py: 'my-study' cannot be the name of a plugin"),
        ("random.py", "random.py: 'random' is the name of another module"),
        ("numpy.py", "numpy.py: 'numpy' is the name of another module"),
        ("torchvision.py", "torchvision.py: 'torchvision' is the name of another module"),
        ("images.py", "images.py: 'images' is the name of another module"),
    ],
)
def test_a_file_that_cannot_be_a_plugin_is_one_message(name: str, message: str, study: Path, run: Command) -> None:
    if name.endswith(".py") and name != "none.py":
        (study / name).write_text(PLUGIN)
    code, _, error = run("table", "study.yaml", "--plugin", name)
    assert code == 2
    assert message in error


def test_two_plugins_of_one_name_are_refused(study: Path, run: Command) -> None:
    (study / "other").mkdir()
    (study / "other" / "my_study.py").write_text(PLUGIN)
    code, _, error = run("table", "study.yaml", "--plugin", "my_study.py", "--plugin", "other/my_study.py")
    assert code == 2
    assert "two plugins are called my_study" in error


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('(features="stem")', ""), "does not return a pair of logits (N, K) and features (N, C, H, W)"),
        (
            ("nn.Linear(8, num_classes)", "nn.Linear(8, 2)"),
            "the network my_study/tinynet returns 2 logits an image, for 3 classes\n  Give its last layer num_classes",
        ),
        (('features="stem"', 'features="stm"'), "the network has no module 'stm'\n  Did you mean 'stem'?"),
        (("    return network\n", "    return 3\n"), "the network my_study/tinynet is a int, not a torch.nn.Module"),
        (("    network = nn", "    1 / 0\n    network = nn"), ": the plugin failed: ZeroDivisionError"),
        (("Linear(8, n", "Linear(9, n"), "my_study.py: the plugin failed: RuntimeError: "),
        (("return (images[:48]", "return (images[:47]"), "train_images is uint8 (47, 3, 12, 12), not uint8 (48, 3,"),
        (("return (images[:48], labels[:48]), (", "return ("), "does not return (train_images, train_labels)"),
    ],
)
def test_a_fault_while_it_trains_is_one_message(
    change: tuple[str, str], message: str, study: Path, run: Command
) -> None:
    assert change[0] in PLUGIN
    (study / "my_study.py").write_text(PLUGIN.replace(*change))
    code, _, error = run("train", "study.yaml/tinynet/ce", "--plugin", "my_study.py", *ON_CPU)
    assert code in (1, 2)
    assert message in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("before", "after", "place"),
    [
        ("Linear(8, n", "Linear(9, n", "my_study.py: "),
        ("    return network\n", "    return 1 / 0\n", "my_study.py:12: "),
    ],
)
def test_a_network_that_cannot_be_described_is_one_message(
    before: str, after: str, place: str, study: Path, run: Command
) -> None:
    (study / "my_study.py").write_text(PLUGIN.replace(before, after))
    code, _, error = run("models", "my_study/tinynet", "--plugin", "my_study.py")
    assert code == 1
    assert f"{place}the plugin failed: " in error
    assert "bug" not in error


def test_a_loss_that_takes_the_mean_is_one_message(study: Path, run: Command) -> None:
    (study / "my_study.py").write_text(PLUGIN.replace("** 2 * cross_entropy", "** 2 * cross_entropy.mean()"))
    (study / "my_study.py").write_text(PLUGIN.replace('reduction="none"', 'reduction="mean"'))
    code, _, error = run("train", "study.yaml/tinynet/focal", "--plugin", "my_study.py", *ON_CPU)
    assert code == 2
    assert "the loss focal returned () for 16 samples\n  It must return one loss per sample" in error


def test_the_hash_covers_the_files_beside_it(study: Path) -> None:
    (study / "my_study.py").write_text("from beside import width\n" + PLUGIN.replace("Linear(8,", "Linear(width,"))
    (study / "beside.py").write_text("width = 8\n")
    first = load_plugin(study / "my_study.py")
    assert [file.name for file in first.files] == ["my_study.py", "beside.py"]
    (study / "beside.py").write_text("width = 16\n")
    assert load_plugin(study / "my_study.py").sha256 != first.sha256
    (study / "beside.py").unlink()
    del sys.modules["beside"]
    (study / "beside").mkdir()
    (study / "beside" / "__init__.py").write_text("width = 8\n")
    with pytest.raises(ConfigError, match="it imports the folder beside, whose files would not be part"):
        load_plugin(study / "my_study.py")


def test_a_network_of_a_plugin_is_described(study: Path) -> None:
    load_plugin(study / "my_study.py")
    assert describe_model("my_study/tinynet", 10, 12).feature_shape == (8, 12, 12)


def test_where_no_plugin_is_loaded_a_decorator_registers_nothing() -> None:
    from repro.api import network

    @network(name="mine")
    def build() -> None: ...

    assert not any(plugin_of(name) for name in NETWORKS)


def test_a_data_set_without_a_decoder_is_an_error_that_names_it(tmp_path: Path) -> None:
    facts = DatasetFacts("undecoded", "Undecoded", 2, 8, 4, 2, archives=DATASETS["tiny_imagenet"].archives)
    (tmp_path / "tiny-imagenet-200").mkdir()
    with pytest.raises(DataError, match="the data set 'undecoded' has no decoder"):
        open_decoded(facts, tmp_path)


@pytest.mark.parametrize("path", ["no_such_module:f", "repro.models.resnet:resnet19", "resnet18"])
def test_code_that_cannot_be_imported_is_named(path: str) -> None:
    with pytest.raises(ConfigError, match=f"cannot import '{path}'"):
        imported(path)


def test_every_entry_names_code_that_is_there() -> None:
    for entry in (*NETWORKS.values(), *LOSSES.values()):
        assert callable(imported(entry.builder))
    for facts in DATASETS.values():
        assert callable(imported(facts.decoder))
