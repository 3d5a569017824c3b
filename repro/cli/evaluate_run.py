"""``biasrepro evaluate``: the accuracies of a recorded run from its weights, beside those of its record."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from repro.cli import folders, options
from repro.cli.options import refuse_unused
from repro.cli.preflight import decode_with_progress, know_images, require_known
from repro.cli.references import command_line, complete_cell, declared, find_target
from repro.errors import ConfigError, DataError, UserError

if TYPE_CHECKING:
    from repro.experiment.schema import Cell, Run
    from repro.results import RunFolder, RunRecord

Target = Annotated[
    str,
    typer.Argument(
        metavar="CELL|FILE",
        help="table/row/column, as for train; or the run.json, the weights.safetensors or the folder of a run.",
        autocompletion=complete_cell,
    ),
]


@dataclass(frozen=True)
class _Recorded:
    """A run with its record and its weights file."""

    run: Run
    record: RunRecord
    folder: RunFolder


def evaluate(
    context: typer.Context,
    target: Target,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    settings: options.Settings = None,
    deterministic: options.Deterministic = False,
    plugin: options.Plugins = None,
    results: folders.Results = folders.RESULTS_DEFAULT,
    root: folders.Root = folders.ROOT_DEFAULT,
    threads: Annotated[int | None, options.threads_option("as recorded, on a CPU")] = None,
    as_json: options.AsJson = False,
) -> None:
    """Evaluate the weights of a run that kept them (train --keep-weights) on its test images.

    On a CPU it uses as many threads as are recorded, unless --threads is given. Exit code 1 if top-1 or top-5 is not
    that of the record.
    """
    found = _from_file(context, target) if _is_file(target) else None
    if found is None:
        cell, reference = find_target(target, declared(settings, deterministic=deterministic))
        know_images(cell.dataset, root, quiet=as_json)
        found = _from_cell(cell, reference, seed, results, root)
    require_known([found.run.cell])
    if not as_json:
        decode_with_progress(found.run.cell.dataset, root)
    shown = _evaluated(found, device, threads, root)
    _show(shown, as_json=as_json)
    if not shown["equal"]:
        raise typer.Exit(1)


def _is_file(target: str) -> bool:
    path = Path(target)
    return path.suffix in (".json", ".safetensors") or path.name.startswith("seed-") or (path / "run.json").is_file()


def _from_file(context: typer.Context, target: str) -> _Recorded:
    """The run in whose folder ``target`` is, or which that folder is."""
    from repro.results import RunFolder, find_record
    from repro.results.run_of_record import run_of

    refuse_unused(context, "seed", "settings", "deterministic", "results", because="has no effect on a run's file")
    path = Path(target)
    folder = RunFolder(path.parent if path.suffix in (".json", ".safetensors") else path)
    if path not in (folder.path, folder.record, folder.weights):
        raise UserError("not a file of a run", where=target, hint=f"Name {folder.record} or {folder.weights}.")
    if (record := find_record(folder)) is None:
        hint = "Weights are evaluated beside their record: name a run's folder."
        raise UserError("there is no record here", where=str(folder.record), hint=hint)
    return _Recorded(run_of(record), record, folder)


def _from_cell(cell: Cell, reference: str, seed: int, results: Path, root: Path) -> _Recorded:
    """The run of a cell and a seed in the results folder; without one, its data are looked for in ``root``."""
    from repro.experiment.schema import Run
    from repro.results import RunFolder, find_record

    run = Run(cell=cell, seed=seed)
    folder = RunFolder.of(results, run)
    if (record := find_record(folder)) is None:
        words = ("train", reference, "--seed", str(seed), "--keep-weights")
        train = command_line(*words, results=results, root=root)
        raise UserError("this run has no record", where=str(folder.record), hint=f"{train} trains it.")
    if not record.is_of(run):
        what = f"a run of another configuration is recorded here: {record.unlike(run)}"
        raise ConfigError(what, where=str(folder.record), hint=_way_to(record, run, folder, root))
    return _Recorded(run, record, folder)


def _way_to(record: RunRecord, run: Run, folder: RunFolder, root: Path) -> str:
    """How to evaluate the run of ``record``, which is not ``run``."""
    from repro.experiment.folder_listing import FOLDER
    from repro.results.run_of_record import other_version

    if (hint := other_version(record, run)) is not None:
        return hint
    if record.configuration["dataset"]["name"] == FOLDER:  # where it is, only the table says
        return "To evaluate that run, undo in the table what differs."
    by_folder = command_line("evaluate", str(folder.path), results=None, root=root)
    return f"To evaluate that run, name its folder: {by_folder}"


def _evaluated(found: _Recorded, device: str, threads: int | None, root: Path) -> dict[str, Any]:
    """What the weights come to, what the record says, and what differs on this machine, as plain data."""
    from repro.results import require_weights
    from repro.results.weights_file import read_weights

    run, record, path = found.run, found.record, found.folder.weights
    kept = require_weights(found.folder, record)
    raw = read_weights(path, kept)

    from repro.engine.device import choose_device, set_up_device
    from repro.engine.final_weights import evaluate_weights, what_differs
    from repro.engine.training import load_images

    chosen = choose_device(device)
    if threads is None and chosen.type == record.provenance.device == "cpu":
        threads = record.provenance.threads
    in_force = set_up_device(chosen, run.cell.execution, threads, run.cell.row.model)
    dataset = load_images(run, root)
    if record.provenance.data_fingerprint not in ("", dataset.fingerprint):
        hint = f"Its images came from: {record.provenance.data_source or 'not recorded'}. --root names the data folder."
        raise DataError("the images here are not those that the run was trained on", where=dataset.source, hint=hint)
    tested, last = evaluate_weights(run, raw, dataset, in_force, where=str(path)), record.epochs[-1]
    equal = (tested.top1_percent, tested.top5_percent) == (last.test_top1_percent, last.test_top5_percent)
    return {
        "run": record.id,
        "weights": {"path": str(path), **kept.model_dump()},
        "test_images": len(dataset.test_labels),
        "top1_percent": tested.top1_percent,
        "top5_percent": tested.top5_percent,
        "test_loss": tested.loss,
        "recorded": {
            "top1_percent": last.test_top1_percent,
            "top5_percent": last.test_top5_percent,
            "test_loss": last.test_loss,
        },
        "equal": equal,
        "differs": what_differs(record, run, in_force),
    }


def _show(shown: dict[str, Any], *, as_json: bool) -> None:
    from repro.cli.console import say
    from repro.cli.output import deliver

    if as_json:
        return deliver(json.dumps(shown, indent=2) + "\n", None)
    recorded = shown["recorded"]
    top1, top5 = shown["top1_percent"], shown["top5_percent"]
    say(f"{shown['run']}: top-1 {top1:.2f} %, top-5 {top5:.2f} % on {shown['test_images']:,} test images", "bold")
    if shown["equal"]:
        say("equal to the record", "bold green")
        return None
    differences = [
        f"{name} {was:.2f} % ({now - was:+.2f} here)"
        for name, was, now in (("top-1", recorded["top1_percent"], top1), ("top-5", recorded["top5_percent"], top5))
    ]
    say(f"not equal to the record: {', '.join(differences)}", "bold red")
    for line in shown["differs"]:
        say(f"  probable cause  {line}")
    if not shown["differs"]:
        say("  cause unknown: device, settings, torch and code are those of the record")
    return None
