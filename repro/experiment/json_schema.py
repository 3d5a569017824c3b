"""The JSON Schema of an experiment file: with it, an editor completes and checks keys while they are typed.

``docs/experiment.schema.json`` is this schema. It covers the form of every key; contradictions between keys are
reported by the program alone.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from repro.experiment.config import builtin_folder
from repro.experiment.schema import Table


class _WithoutTitles(GenerateJsonSchema):
    """Pydantic's schema without the titles that only repeat the name of a key."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def experiment_schema() -> dict[str, Any]:
    """The JSON Schema of an experiment file."""
    schema = Table.model_json_schema(schema_generator=_WithoutTitles)
    heading = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "biasrepro experiment"}
    return heading | {key: value for key, value in schema.items() if key != "title"}


def to_bytes() -> bytes:
    """The schema as it is published in ``docs/experiment.schema.json``."""
    return json.dumps(experiment_schema(), indent=2, ensure_ascii=False).encode() + b"\n"


def schema_file() -> Path:
    """The published schema: in ``docs``, in a checkout as in an installed package."""
    return builtin_folder().parent / "docs" / "experiment.schema.json"


def editors_line(folder: Path) -> str:
    """The comment by which editors find the schema for an experiment file in ``folder``, without its newline."""
    place = os.path.relpath(schema_file(), folder)
    if " " in place:  # the comment's path ends at a space
        place = schema_file().as_uri()
    return f"# yaml-language-server: $schema={place}"
