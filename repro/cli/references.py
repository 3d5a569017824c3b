"""From command-line arguments to a table or a cell, and back to a command to paste."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from repro.cli.folders import RESULTS_DEFAULT, ROOT_DEFAULT
from repro.errors import ConfigError, UserError
from repro.experiment.plugins import plugin_options
from repro.wording import shell_line

if TYPE_CHECKING:
    from repro.experiment.schema import Cell, Table

_SETTING = re.compile(r"[a-z_]+(\.[a-z_]+)+=.*", re.DOTALL)


def with_settings(table: str, settings: Sequence[str]) -> str:
    """The reference of ``table`` with ``--set`` texts applied: ``table2+recipe.epochs=2``."""
    for setting in settings:
        if not _SETTING.fullmatch(setting):
            hint = "Write KEY=VALUE with a key in dataset, recipe, weighting or execution, such as recipe.epochs=2."
            raise ConfigError(f"'{setting}' is not a setting", where="--set", hint=_meant(setting) or hint)
    return "+".join([table, *settings])


def _meant(setting: str) -> str | None:
    """The setting that one without its section may mean: ``recipe.epochs=2`` for ``epochs=2``."""
    from repro.experiment.overrides import settable_keys

    name, _, value = setting.partition("=")
    meant = [key for key in settable_keys() if value and key.endswith(f".{name}")]
    return f"Did you mean '{meant[0]}={value}'?" if meant else None


def declared(settings: Sequence[str] | None, *, deterministic: bool) -> list[str]:
    """The ``--set`` texts, with the one for ``--deterministic``. Raises ConfigError if both set it."""
    settings = list(settings or ())
    if deterministic and any(setting.startswith("execution.deterministic=") for setting in settings):
        raise ConfigError("both --deterministic and --set execution.deterministic", hint="Leave one of them out.")
    return [*settings, "execution.deterministic=true"] if deterministic else settings


def chosen_tables(names: Sequence[str], settings: Sequence[str]) -> list[Table]:
    """The named tables, each once, with ``--set`` texts applied; by default the built-in tables of the paper."""
    from repro.experiment.config import builtin_names, find_table

    names = names or [name for name in builtin_names() if find_table(name).kind == "paper"]
    tables = [find_table(with_settings(name, settings)) for name in names]
    return list({table.reference: table for table in tables}.values())


def find_target(reference: str, settings: Sequence[str]) -> tuple[Cell, str]:
    """The cell that ``train`` runs, and its full reference.

    ``reference`` is a cell, or a table (a name or a file), which means its first row under its proposed loss.
    """
    from repro.experiment.config import find_cell, find_table

    if is_table(reference):
        table_reference = with_settings(reference, settings)
        table = find_table(table_reference)
        row = table.rows[0]
        return table.cell(row, table.proposed), f"{table_reference}/{row.id}/{table.proposed.id}"
    if not settings:
        return find_cell(reference), reference
    table_name, *place = reference.rsplit("/", 2)
    full = "/".join([with_settings(table_name, settings), *place])
    return find_cell(full), full


def is_table(reference: str) -> bool:
    """Whether ``reference`` has the form of a table's, not of a cell's."""
    from repro.experiment.config import builtin_names, split_reference

    name, overrides = split_reference(reference)
    by_name = "/" not in name or name in builtin_names() or Path(name).suffix in (".yaml", ".yml")
    return by_name and not any("/" in override for override in overrides)


def command_line(*arguments: str, results: Path | None, root: Path | None = None) -> str:
    """A ``biasrepro`` command to paste, with those folders that are not its defaults; None is for one without them."""
    words = ["biasrepro", *arguments]
    if results is not None and results != Path(os.environ.get("BIASREPRO_RESULTS") or RESULTS_DEFAULT).expanduser():
        words += ["--results", str(results)]
    if root is not None and root != Path(os.environ.get("BIASREPRO_DATA") or ROOT_DEFAULT).expanduser():
        words += ["--root", str(root)]
    return shell_line([*words, *plugin_options()])


def listed_seeds(seeds: Iterable[int]) -> str:
    """What ``--seeds`` takes for exactly these: ``5`` for 0 to 4, else a list; with a comma at its end for one seed."""
    numbers = sorted(set(seeds))
    if numbers == list(range(len(numbers))):
        return str(len(numbers))
    return ",".join(map(str, numbers)) + ("," if len(numbers) == 1 else "")


def complete_table(incomplete: str) -> list[str]:
    """The built-in tables that begin with ``incomplete``, for the shell."""
    from repro.experiment.config import builtin_names

    return [name for name in builtin_names() if name.startswith(incomplete)]


def complete_cell(incomplete: str) -> list[str]:
    """The built-in tables that begin with ``incomplete``; after a table's name, its cells."""
    from repro.experiment.config import find_table

    if "/" not in incomplete:
        return complete_table(incomplete)
    cells = [cell.id for name in complete_table(incomplete.split("/")[0]) for cell in find_table(name).cells]
    return [cell for cell in cells if cell.startswith(incomplete)]


def complete_row(incomplete: str) -> list[str]:
    """The rows of the table on the command line, after those before the last comma."""
    return _complete_part(incomplete, "rows")


def complete_column(incomplete: str) -> list[str]:
    """The columns of the table on the command line, after those before the last comma."""
    return _complete_part(incomplete, "columns")


def _complete_part(incomplete: str, part: str) -> list[str]:
    from repro.experiment.config import find_table

    # What is typed, as bash and as the other shells hand it over: an option without its value keeps it from parsing.
    typed = os.environ.get("_TYPER_COMPLETE_ARGS") or os.environ.get("COMP_WORDS") or ""
    tables = []
    for word in typed.split()[2:]:
        with contextlib.suppress(UserError):
            tables.append(find_table(word))
    before, comma, last = incomplete.rpartition(",")
    ids = dict.fromkeys(item.id for table in tables for item in getattr(table, part))
    return [f"{before}{comma}{name}" for name in ids if name.startswith(last) and name not in before.split(",")]


def complete_network(incomplete: str) -> list[str]:
    """The networks that begin with ``incomplete``."""
    from repro.experiment.catalog import NETWORKS

    return [name for name in NETWORKS if name.startswith(incomplete)]


def complete_setting(incomplete: str) -> list[str]:
    """The keys of ``--set`` that begin with ``incomplete``, each with its ``=``."""
    from repro.experiment.overrides import settable_keys

    return [f"{key}=" for key in settable_keys() if key.startswith(incomplete)]


def complete_data_set(incomplete: str) -> list[str]:
    """The data sets that begin with ``incomplete``."""
    from repro.experiment.catalog import DATASETS

    return [name for name in DATASETS if name.startswith(incomplete)]


def tables_argument(without: str, of: str = "") -> Any:
    """The argument TABLE of a command that takes several; ``without`` says what it takes without one."""
    return typer.Argument(
        metavar="TABLE",
        help=f"Built-in tables, or YAML files of your own{of and f', {of}'}; overrides may follow, as in "
        f"table1+dataset.classes=20. Without one: {without}.",
        show_default=False,
        autocompletion=complete_table,
    )
