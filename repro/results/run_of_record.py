"""The run that a record is of, from the record alone: without its table, which may be a file that is elsewhere."""

from __future__ import annotations

from pydantic import ValidationError

from repro.errors import ConfigError
from repro.experiment.added_keys import with_neutral
from repro.experiment.dataset_choice import PLACE_NOT_RECORDED
from repro.experiment.folder_listing import FOLDER
from repro.experiment.schema import Run
from repro.results.record import RunRecord


def run_of(record: RunRecord) -> Run:
    """The run of ``record``, with ids for titles.

    Raises ConfigError if this version builds no such configuration, if a plugin that is loaded is not the one that the
    run was trained with, and for images in a folder: where that is, only the table says.
    """
    configuration = with_neutral(record.configuration)
    if configuration["dataset"]["name"] == FOLDER:
        table, plus, overrides = record.table.partition("+")
        cell_id = f"{table}.yaml{plus}{overrides}/{record.row}/{record.column}"
        hint = f"Its table says where it is: name its cell, such as {cell_id}, and --seed {record.seed}."
        raise ConfigError(PLACE_NOT_RECORDED, where=record.id, hint=hint)
    cell = {
        "table": record.table,
        "row": {
            "id": record.row,
            "title": record.row,
            "model": configuration["model"],
            "options": configuration["options"],
        },
        "column": {"id": record.column, "title": record.column, "loss": configuration["loss"]},
        "weighting": configuration.get("weighting") or {},
        **{section: configuration[section] for section in ("dataset", "recipe", "execution")},
    }
    hint = "The record names the version and the commit that made it."
    try:
        run = Run.model_validate({"cell": cell, "seed": record.seed})
        if record.is_of(run):
            return run
        why = record.unlike(run) or "its hash is another one here"
        hint = other_version(record, run) or hint
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        why = f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    raise ConfigError(
        f"this biasrepro cannot build the configuration of this record: {why}", where=record.id, hint=hint
    )


def other_version(record: RunRecord, run: Run) -> str | None:
    """The hint if ``run`` has other images or another version of a plugin than ``record``; None if it has the same."""
    there, here = record.sources, run.configuration(record.sources).get("sources", {})
    changed = sorted(name for name in there.keys() & here.keys() if there[name] != here[name])
    if not changed:
        return None
    named = " and ".join("its images" if name == "images" else f"{name}.py" for name in changed)
    return f"The run was trained with another version of {named}: evaluate it with that version."
