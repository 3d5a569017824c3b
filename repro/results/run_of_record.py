"""The run that a record is of, from the record alone: without its table, which may be a file that is elsewhere."""

from __future__ import annotations

from pydantic import ValidationError

from repro.errors import ConfigError
from repro.experiment.added_keys import with_neutral
from repro.experiment.schema import Run
from repro.results.record import RunRecord


def run_of(record: RunRecord) -> Run:
    """The run of ``record``, with ids for titles. Raises ConfigError if this version builds no such configuration."""
    configuration = with_neutral(record.configuration)
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
    try:
        run = Run.model_validate({"cell": cell, "seed": record.seed})
        if record.is_of(run):
            return run
        why = "its hash is another one here"
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        why = f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    raise ConfigError(
        f"this biasrepro cannot build the configuration of this record: {why}",
        where=record.id,
        hint="The record names the version and the commit that made it.",
    )
