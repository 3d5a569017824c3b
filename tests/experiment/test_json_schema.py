"""The published JSON Schema of experiment files: current, complete, and of one mind with the reader."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from repro.experiment.config import builtin_folder, builtin_names
from repro.experiment.json_schema import editors_line, experiment_schema, schema_file, to_bytes
from repro.experiment.strict_yaml import parse

DOCS = builtin_folder().parent / "docs"
EXAMPLES = [
    text
    for document in sorted(DOCS.glob("*.md"))
    for text in re.findall(r"```yaml\n((?:#[^\n]*\n)?table:.*?)```", document.read_text(), flags=re.DOTALL)
]


def accepts(text: str) -> bool:
    # the keywords used mean the same in every draft since the seventh
    validator = jsonschema.Draft7Validator(experiment_schema())
    return bool(validator.is_valid(parse(text, source="test").data))


def mappings(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "", schema
    yield from schema["$defs"].items()


def test_the_published_schema_is_current() -> None:
    if os.environ.get("BIASREPRO_UPDATE_GOLDEN"):
        schema_file().write_bytes(to_bytes())
    assert schema_file().read_bytes() == to_bytes(), "biasrepro config --schema -o docs/experiment.schema.json"


def test_it_is_a_valid_schema_and_every_key_has_a_description() -> None:
    schema = experiment_schema()
    jsonschema.Draft7Validator.check_schema(schema)
    keys = [(name, key, value) for name, mapping in mappings(schema) for key, value in mapping["properties"].items()]
    assert len(keys) > 60
    assert [(name, key) for name, key, value in keys if not value.get("description")] == []
    assert {"origin", "overrides"}.isdisjoint(key for _, key, _ in keys)


@pytest.mark.parametrize("name", builtin_names())
def test_it_accepts_every_built_in_experiment(name: str) -> None:
    assert accepts((builtin_folder() / f"{name}.yaml").read_text())


@pytest.mark.parametrize("text", EXAMPLES)
def test_it_accepts_every_example_of_the_documents(text: str) -> None:
    assert accepts(text)


def test_the_documents_have_examples() -> None:
    assert len(EXAMPLES) >= 3


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("kind: study", "kind: paper\npaper: bias_loss"),
        ("kind: study", "kind: paper\npaper: {id: smith2024, citation: 'Smith, ICML 2024', tables: [a.yaml, b.yml]}"),
        ("1e-1", "1"),
        ("{name: digits}", "{name: folder, path: ../birds, image_size: 96}"),
        ("model: squeezenet", "model: torchvision/vit_b_32, options: {features: encoder, stem_stride: null}"),
        ("loss: bias", "loss: my_study/focal, weighting: {normalization: running}"),
    ],
)
def test_it_accepts_every_form_of_a_value(own_text: str, before: str, after: str) -> None:
    assert before in own_text
    assert accepts(own_text.replace(before, after))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("table: mine", "table: Mine!"),
        ("kind: study", "kind: stduy"),
        ("kind: study", "kind: study\norigin: here"),
        ("kind: study", "kind: study\npaper: {id: smith2024}"),
        ("label: Mine\n", ""),
        ("epochs: 4", "epochs: 0"),
        ("epochs: 4", "epochs: 4.5"),
        ("epochs: 4", "epochs: '4'"),
        ("epochs: 4", "epoch: 4"),
        ("1e-1", "-1"),
        ("[2, 3]", "2"),
        ("decay_epochs: [2, 3]", "betas: [0.9]\n  optimizer: adamw"),
        ("{name: digits}", "{name: digit}"),
        ("{name: digits}", "{name: folder, path: ../birds, image_size: 65}"),
        ("model: squeezenet", "model: squeezenett"),
        ("model: squeezenet", "model: squeezenet, options: {stem_stride: 3}"),
        ("loss: bias", "loss: bais"),
        ("{ce: 90, bias: 91}", "{ce: 190}"),
    ],
)
def test_it_refuses_what_the_reader_refuses(
    refusal: Callable[..., str], own_text: str, before: str, after: str
) -> None:
    assert accepts(own_text)
    assert before in own_text
    text = own_text.replace(before, after)
    assert not accepts(text)
    assert "own.yaml:" in refusal(text)


@pytest.mark.parametrize("name", builtin_names())
def test_every_built_in_experiment_names_the_schema_for_editors(name: str) -> None:
    first = (builtin_folder() / f"{name}.yaml").read_text().splitlines()[0]
    assert first == editors_line(builtin_folder())
    place = first.removeprefix("# yaml-language-server: $schema=")
    assert (builtin_folder() / place).resolve() == schema_file().resolve()


def test_a_path_with_a_space_is_a_uri(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    spaced = tmp_path / "my work" / "schema.json"
    monkeypatch.setattr("repro.experiment.json_schema.schema_file", lambda: spaced)
    assert editors_line(tmp_path).endswith(f"$schema={spaced.as_uri()}")
    assert " " not in editors_line(tmp_path).partition("$schema=")[2]
