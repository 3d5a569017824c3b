"""What an experiment is: a table of rows (networks) and columns (losses), its cells, and their runs.

A table is one YAML file (``docs/experiments.md`` lists the keys). A cell is one row under one column, a run is a cell
and a seed. Everything here is frozen. A run's hash covers what determines its numbers and nothing else: recorded runs
stay valid when a title is reworded, and not when the learning rate changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic.json_schema import SkipJsonSchema

from repro.experiment import catalog
from repro.experiment.added_keys import without_neutral
from repro.experiment.canonical import canonical, digest
from repro.experiment.catalog import LOSSES, NETWORKS
from repro.experiment.dataset_choice import DatasetChoice as DatasetChoice
from repro.experiment.fields import Identifier, Strict, Title, known, offered, whole_number
from repro.experiment.papers import PaperChoice
from repro.experiment.plugins import known_sources
from repro.experiment.recipe import Augmentation as Augmentation
from repro.experiment.recipe import Execution as Execution
from repro.experiment.recipe import Normalization as Normalization
from repro.experiment.recipe import Recipe as Recipe
from repro.experiment.recipe import Weighting as Weighting

LossName = Annotated[str, AfterValidator(known("loss", LOSSES)), offered(LOSSES)]
NetworkName = Annotated[str, AfterValidator(known("network", NETWORKS)), offered(NETWORKS)]
TableKind = Literal["paper", "released", "variants", "study", "demo"]

BASELINE = "ce"
NOTHING: Mapping[str, str] = MappingProxyType({})


class ModelOptions(Strict):
    """Choices that paper and code leave open in a network; the defaults are those of docs/reproducing.md."""

    stem_stride: Annotated[
        Literal[1, 2] | None,
        BeforeValidator(whole_number),
        Field(description="1 keeps the resolution (default at 32x32), 2 halves it (default at 64x64)."),
    ] = None
    feature_point: Annotated[
        Literal["default", "before_norm"],
        Field(description="Where the features are taken: after the last activation, or before it (DenseNets only)."),
    ] = "default"
    initialization: Annotated[
        Literal["network", "layers"],
        Field(description="Initial weights: as the network's paper or torchvision says, or PyTorch's of each layer."),
    ] = "network"
    features: Annotated[
        Annotated[str, Field(pattern=r"^\w+(\.\w+)*$")] | None,
        Field(description="Networks of torchvision only: the module whose output are the features."),
    ] = None


class Published(Strict):
    """What was printed for a row: parameters in millions, and top-1 in percent by column."""

    parameters_millions: Annotated[
        Annotated[float, Field(gt=0, le=1e6)] | None, Field(description="Parameters in millions.")
    ] = None
    top1_percent: Annotated[
        dict[str, Annotated[float, Field(ge=0, le=100)]], Field(description="Top-1 in percent, by the column's id.")
    ]


class Column(Strict):
    """A loss, as a column of a table."""

    id: Annotated[Identifier, Field(description="Its name in cells and folders; 'ce' is for cross-entropy alone.")]
    title: Annotated[Title, Field(description="Its heading.")]
    loss: Annotated[LossName, Field(description="A built-in loss, or PLUGIN/NAME of a plugin.")]
    weighting: Annotated[
        Weighting | None, Field(description="What differs from the table's weighting in this column.")
    ] = None


class Row(Strict):
    """A network, as a row of a table."""

    id: Annotated[Identifier, Field(description="Its name in cells and folders.")]
    title: Annotated[Title, Field(description="Its heading.")]
    model: Annotated[
        NetworkName, Field(description="A network of `biasrepro models`, torchvision/NAME, or PLUGIN/NAME of a plugin.")
    ]
    options: Annotated[ModelOptions, Field(description="Options of the network.")] = ModelOptions()
    execution: Annotated[
        Execution | None, Field(description="What differs from the table's execution in this row.")
    ] = None
    published: Annotated[Published | None, Field(description="The printed numbers of this row.")] = None
    beside: Annotated[
        Identifier | None, Field(description="For variants: the id of the row that it is shown beside.")
    ] = None
    note: Annotated[Title | None, Field(description="A footnote.")] = None


class Cell(Strict):
    """One row under one column of a table, resolved: everything that a run needs except the seed."""

    table: str
    row: Row
    column: Column
    dataset: DatasetChoice
    recipe: Recipe
    weighting: Weighting
    execution: Execution

    @property
    def id(self) -> str:
        """``table/row/column``."""
        return f"{self.table}/{self.row.id}/{self.column.id}"

    @property
    def sources(self) -> dict[str, str | None]:
        """What only a machine that has it knows, by name: the SHA-256 of each plugin and of a folder's ``images``.

        None if it is not known here.
        """
        return known_sources((self.row.model, self.column.loss, self.dataset.name)) | self.dataset.sources

    def determinants(self, recorded: Mapping[str, str] = NOTHING) -> dict[str, Any]:
        """What determines the numbers of this cell's runs except the seed, as plain JSON data.

        Keys of ``ADDED_KEYS`` are left out at their neutral value. ``recorded`` are the sources of a record, used for
        those that are not known here.
        """
        sources = {name: known or recorded.get(name) for name, known in self.sources.items()}
        known = {name: sha256 for name, sha256 in sources.items() if sha256 is not None}
        return without_neutral({**self._sections(), "sources": known})

    def _sections(self) -> dict[str, Any]:
        return {
            "dataset": self.dataset.model_dump(mode="json", exclude={"path"}),
            "recipe": self.recipe.model_dump(mode="json"),
            "loss": self.column.loss,
            # A loss without weights gives the same runs under every weighting.
            "weighting": self.weighting.model_dump(mode="json") if catalog.loss(self.column.loss).weighted else None,
            "model": self.row.model,
            "options": self.row.options.model_dump(mode="json"),
            "execution": self.execution.model_dump(mode="json"),
        }

    @property
    def hash(self) -> str:
        """SHA-256 (hex) of ``determinants``, the same for every seed of the cell."""
        return digest(self.determinants())


class Run(Strict):
    """A cell and a seed: the unit that is trained and recorded."""

    cell: Cell
    seed: Annotated[int, Field(ge=0, lt=2**32)]

    @property
    def id(self) -> str:
        """``table/row/column/seed-n``, also its folder under the results."""
        return f"{self.cell.id}/seed-{self.seed}"

    def configuration(self, recorded: Mapping[str, str] = NOTHING) -> dict[str, Any]:
        """The resolved configuration as plain JSON data, as in ``run.json``; ``recorded`` as in ``determinants``."""
        return {**self.cell.determinants(recorded), "seed": self.seed}

    @property
    def hash(self) -> str:
        """SHA-256 (hex) of ``configuration``."""
        return digest(self.configuration())


class Table(Strict):
    """One experiment file: a table of the paper, of its released code, a study or the demo."""

    table: Annotated[Identifier, Field(description="The name of the table, and of its results folder.")]
    label: Annotated[Title, Field(description="Its name in headings, such as 'Table 2'.")]
    title: Annotated[Title, Field(description="The caption, one line.")]
    kind: Annotated[
        TableKind,
        Field(description="A paper's table, a table of its released code, variants of rows, a study, or a demo."),
    ]
    paper: Annotated[
        PaperChoice | None,
        Field(description="The paper that the table is from, by name or described here; required for kind 'paper'."),
    ] = None
    source: Annotated[Title | None, Field(description="Where the published numbers were printed.")] = None
    beside: Annotated[
        Identifier | None, Field(description="For variants: the table whose rows they are shown beside.")
    ] = None
    dataset: Annotated[DatasetChoice, Field(description="What is trained on.")]
    recipe: Annotated[Recipe, Field(description="How every network is trained.")]
    weighting: Annotated[Weighting, Field(description="The constants of the weight z.")] = Weighting()
    execution: Annotated[Execution, Field(description="How the arithmetic is carried out.")] = Execution()
    seeds: Annotated[
        int, Field(ge=1, le=1_000, description="How many seeds (0, 1, 2, ...) `biasrepro sweep` runs by default.")
    ] = 5
    baseline: Annotated[Identifier, Field(description="The column that every difference is taken from.")] = BASELINE
    columns: Annotated[
        tuple[Column, ...],
        Field(min_length=1, max_length=1_000, strict=False, description="The losses, one of which is the baseline."),
    ]
    rows: Annotated[tuple[Row, ...], Field(min_length=1, max_length=1_000, strict=False, description="The networks.")]
    # Of the program, not of the file.
    origin: SkipJsonSchema[Annotated[str, Field(exclude=True)]] = ""
    overrides: SkipJsonSchema[Annotated[tuple[tuple[str, Any], ...], Field(exclude=True, strict=False)]] = ()

    @property
    def id(self) -> str:
        """The name of the results folder: ``name``, with overrides ``name+key=value+...``, so that runs never mix."""
        return _with_settings(self.table, self.overrides)

    @property
    def reference(self) -> str:
        """The table on the command line: as ``id``, with the path instead of the name for a user's own file."""
        return _with_settings(self.origin or self.table, self.overrides)

    @property
    def comparable(self) -> bool:
        """Whether published numbers may be shown beside these runs: only the execution, if anything, is overridden."""
        return all(key.startswith("execution.") for key, _ in self.overrides)

    @property
    def family(self) -> str:
        """The family of tests of the table's comparisons: its paper, if it keeps the paper's protocol, else itself."""
        if self.kind == "paper" and self.comparable and self.paper is not None:
            return self.paper.id
        return self.id

    @property
    def baseline_name(self) -> str:
        """What the baseline is called in a sentence: cross-entropy, or the title of another column."""
        titles = {column.id: column.title for column in self.columns}
        return "cross-entropy" if self.baseline == BASELINE else titles[self.baseline]

    @property
    def proposed(self) -> Column:
        """The column that represents the table: the first whose loss a paper proposes, else the last."""
        return next((column for column in self.columns if catalog.loss(column.loss).proposed), self.columns[-1])

    @property
    def cells(self) -> tuple[Cell, ...]:
        """All cells, row by row, in the table's order."""
        return tuple(self.cell(row, column) for row in self.rows for column in self.columns)

    def cell(self, row: Row, column: Column) -> Cell:
        """The cell of ``row`` under ``column``.

        A column's weighting and a row's execution win over the table's; overrides win over both.
        """
        return Cell(
            table=self.id,
            row=row,
            column=column,
            dataset=self.dataset,
            recipe=self.recipe,
            weighting=_merged(self.weighting, column.weighting, "weighting", self.overrides),
            execution=_merged(self.execution, row.execution, "execution", self.overrides),
        )


def baseline_names(tables: Iterable[Table]) -> str:
    """What the differences in ``tables`` are taken from, in a sentence."""
    names = list(dict.fromkeys(table.baseline_name for table in tables))
    return f"each table's baseline ({', '.join(names)})" if len(names) > 1 else "".join(names)


_Section = TypeVar("_Section", Weighting, Execution)


def _merged(table: _Section, own: _Section | None, name: str, overrides: tuple[tuple[str, Any], ...]) -> _Section:
    """The table's section, updated by what a row or column sets, then by what the command line sets."""
    if own is None:
        return table
    chosen = table.model_dump() | own.model_dump(exclude_unset=True)
    chosen |= {key.removeprefix(f"{name}."): value for key, value in overrides if key.startswith(f"{name}.")}
    return type(table)(**chosen)


def _with_settings(name: str, overrides: tuple[tuple[str, Any], ...]) -> str:
    settings = (f"{key}={value if isinstance(value, str) else canonical(value)}" for key, value in overrides)
    return "+".join([name, *settings])
