"""``biasrepro config``: a table or a cell with everything resolved, as an experiment file to edit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from repro.cli.options import Output, Overwrite, Plugins, Settings, refuse_unused
from repro.cli.references import command_line, complete_cell
from repro.errors import UserError
from repro.wording import shell_line

if TYPE_CHECKING:
    from repro.experiment.schema import Cell, Table

_SECTIONS = ("dataset", "recipe", "weighting", "execution")


def config(
    context: typer.Context,
    reference: Annotated[
        str | None,
        typer.Argument(
            metavar="TABLE|CELL",
            help="A built-in table, a YAML file of your own, or a cell of one: table1/shufflenetv2/bias.",
            autocompletion=complete_cell,
            show_default=False,
        ),
    ] = None,
    output: Output = None,
    overwrite: Overwrite = False,
    settings: Settings = None,
    plugin: Plugins = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of experiment files instead, for editors.")
    ] = False,
) -> None:
    """Print a table, or one cell of it, as an experiment file with every setting in it: a start for your own."""
    from repro.cli.console import say
    from repro.cli.output import deliver, refuse_unwritable
    from repro.experiment.json_schema import to_bytes

    if output:
        refuse_unwritable(output, "schema" if schema else "yaml", overwrite=overwrite)
    if schema:
        refuse_unused(context, "reference", "settings", because="has no effect on the schema")
        deliver(to_bytes(), output)
        return
    if reference is None:
        raise UserError("TABLE or CELL is required", hint="Such as: biasrepro config table1 -o mine.yaml")
    file = output or Path("mine.yaml")
    deliver(_experiment(reference, settings or [], file.absolute().parent), output)
    say(f"next  edit {file}, then {command_line('sweep', str(file), '--dry-run', results=None)}", stderr=True)


def _experiment(reference: str, settings: list[str], folder: Path) -> str:
    """The text of the experiment file, which will be in ``folder``."""
    import yaml

    from repro.cli.references import find_target, is_table, with_settings
    from repro.experiment.config import find_table
    from repro.experiment.json_schema import editors_line
    from repro.experiment.strict_yaml import is_text

    if is_table(reference):
        table = find_table(with_settings(reference, settings))
        cells, whole = list(table.cells), reference
    else:
        cell, whole = find_target(reference, settings)
        table = find_table(whole.rsplit("/", 2)[0])
        cells = [
            table.cell(cell.row, column) for column in table.columns if column.id in (table.baseline, cell.column.id)
        ]
    command = shell_line(["biasrepro", "config", whole])  # on one line: what comes after it is no comment
    head = f"{editors_line(folder)}\n# From `{command}`. docs/experiments.md lists the keys.\n"

    class Dumper(yaml.SafeDumper):
        """Quotes every text that our reader would take for a number: PyYAML knows fewer of them."""

    def represent(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if is_text(text) else "'")

    Dumper.add_representer(str, represent)
    return head + yaml.dump(_content(table, cells), Dumper=Dumper, sort_keys=False, allow_unicode=True, width=120)


def _content(table: Table, cells: list[Cell]) -> dict[str, Any]:
    """The keys of a file that defines ``cells``; what only holds for a paper's table is left out."""
    from repro.experiment.recipe_checks import leave_out_idle_keys
    from repro.experiment.schema import BASELINE

    own = {column.id for column in table.columns if column.weighting is not None}
    content: dict[str, Any] = {
        "table": f"my_{table.table}",
        "label": f"My {table.label}",
        "title": table.title,
        "kind": "study",
        "seeds": table.seeds,
    }
    if table.baseline != BASELINE:
        content["baseline"] = table.baseline
    content |= {section: getattr(table, section).model_dump(mode="json", exclude_none=True) for section in _SECTIONS}
    leave_out_idle_keys(content["recipe"], ("optimizer", "schedule"))
    rows = {cell.row.id: cell for cell in cells}
    columns = {cell.column.id: cell for cell in cells}
    content["columns"] = [
        {"id": cell.column.id, "title": cell.column.title, "loss": cell.column.loss}
        | ({"weighting": cell.weighting.model_dump(mode="json")} if cell.column.id in own else {})
        for cell in columns.values()
    ]
    content["rows"] = []
    for cell in rows.values():
        row: dict[str, Any] = {"id": cell.row.id, "title": cell.row.title, "model": cell.row.model}
        if options := cell.row.options.model_dump(mode="json", exclude_defaults=True):
            row["options"] = options
        if cell.row.execution is not None:
            row["execution"] = cell.execution.model_dump(mode="json")
        content["rows"].append(row)
    return content
