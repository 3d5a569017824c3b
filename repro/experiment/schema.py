"""What an experiment is: a table of rows (networks) and columns (losses), its cells, and their runs.

A table is one YAML file (``docs/experiments.md`` lists the keys). A cell is one row under one column, a run is a cell
and a seed. Everything here is frozen. A run's hash covers what determines its numbers and nothing else: recorded runs
stay valid when a title is reworded, and not when the learning rate changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field

from repro.experiment import catalog
from repro.experiment.added_keys import without_neutral
from repro.experiment.canonical import canonical, digest
from repro.experiment.catalog import LOSSES, NETWORKS, Precision
from repro.experiment.dataset_choice import DatasetChoice as DatasetChoice
from repro.experiment.fields import Identifier, Strict, Title, known, whole_number
from repro.experiment.papers import PaperChoice
from repro.experiment.plugins import known_sources

LossName = Annotated[str, AfterValidator(known("loss", LOSSES))]
NetworkName = Annotated[str, AfterValidator(known("network", NETWORKS))]
Epoch = Annotated[int, Field(ge=1, le=10_000)]
Beta = Annotated[float, Field(ge=0, lt=1)]
Normalization = Literal["batch", "running", "activation"]
TableKind = Literal["paper", "released", "variants", "study", "demo"]

BASELINE = "ce"
NOTHING: Mapping[str, str] = MappingProxyType({})


class Augmentation(Strict):
    """Random crop, then flip, then rotation: torchvision's PIL pipeline."""

    crop_padding_pixels: Annotated[int, Field(ge=0, le=32)] = 4
    horizontal_flip: bool = True
    rotation_degrees: Annotated[float, Field(ge=0, le=180)] = 0.0


class Recipe(Strict):
    """How a network is trained: an optimizer, and a schedule of its learning rate after an optional linear warm-up."""

    epochs: Epoch
    batch_size: Annotated[int, Field(ge=1, le=65_536)] = 128
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: Annotated[float, Field(gt=0, le=100)]
    schedule: Literal["steps", "cosine"] = "steps"
    decay_epochs: Annotated[tuple[Epoch, ...], Field(strict=False, max_length=100)] = ()
    decay_factor: Annotated[float, Field(gt=0, le=1)] = 0.1
    final_learning_rate: Annotated[float, Field(ge=0, le=100)] = 0.0
    warmup_epochs: Annotated[int, Field(ge=0, le=1_000)] = 0
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    nesterov: bool = False
    betas: Annotated[tuple[Beta, ...], Field(strict=False, min_length=2, max_length=2)] = (0.9, 0.999)
    epsilon: Annotated[float, Field(gt=0, le=1)] = 1e-8
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.0
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    drop_last: bool = False
    augmentation: Augmentation = Augmentation()


class Weighting(Strict):
    """The constants of the weight z, and how variance and mean are scaled to [0, 1]."""

    alpha: Annotated[float, Field(ge=0, le=10)] = 0.3
    beta: Annotated[float, Field(ge=-10, lt=1)] = 0.3
    normalization: Normalization = "batch"


class Execution(Strict):
    """How the arithmetic is carried out: the same mathematics, but the last bits (with bf16, more) may change."""

    precision: Precision = "fp32"
    memory_format: Literal["auto", "contiguous", "channels_last"] = "auto"
    compile: bool = False
    cuda_graph: bool = True
    deterministic: bool = False
    recompute: bool = False


class ModelOptions(Strict):
    """Choices that paper and code leave open in a network; the defaults are those of docs/reproducing.md."""

    stem_stride: Annotated[Literal[1, 2] | None, BeforeValidator(whole_number)] = None
    feature_point: Literal["default", "before_norm"] = "default"
    initialization: Literal["network", "layers"] = "network"
    features: Annotated[str, Field(pattern=r"^\w+(\.\w+)*$")] | None = None


class Published(Strict):
    """What was printed for a row: parameters in millions, and top-1 in percent by column."""

    parameters_millions: Annotated[float, Field(gt=0, le=1e6)] | None = None
    top1_percent: dict[str, Annotated[float, Field(ge=0, le=100)]]


class Column(Strict):
    """A loss, as a column of a table."""

    id: Identifier
    title: Title
    loss: LossName
    weighting: Weighting | None = None


class Row(Strict):
    """A network, as a row of a table."""

    id: Identifier
    title: Title
    model: NetworkName
    options: ModelOptions = ModelOptions()
    execution: Execution | None = None
    published: Published | None = None
    beside: Identifier | None = None
    note: Title | None = None


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

    table: Identifier
    label: Title
    title: Title
    kind: TableKind
    paper: PaperChoice | None = None
    source: Title | None = None
    beside: Identifier | None = None
    dataset: DatasetChoice
    recipe: Recipe
    weighting: Weighting = Weighting()
    execution: Execution = Execution()
    seeds: Annotated[int, Field(ge=1, le=1_000)] = 5
    columns: Annotated[tuple[Column, ...], Field(min_length=1, max_length=1_000, strict=False)]
    rows: Annotated[tuple[Row, ...], Field(min_length=1, max_length=1_000, strict=False)]
    origin: Annotated[str, Field(exclude=True)] = ""
    overrides: Annotated[tuple[tuple[str, Any], ...], Field(exclude=True, strict=False)] = ()

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
