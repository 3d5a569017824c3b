"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from repro.cli.references import complete_column, complete_row, complete_setting
from repro.cli.tensorboard import require_tensorboard
from repro.errors import UserError

ProgressStyle = Literal["auto", "rich", "plain", "json"]


def complete(*words: str) -> Callable[[str], list[str]]:
    """A completion for the shell: those of ``words`` that begin with what is typed."""
    return lambda incomplete: [word for word in words if word.startswith(incomplete)]


def complete_list(*words: str) -> Callable[[str], list[str]]:
    """A completion for a list ``a,b``: those of ``words`` that its last part begins and that it does not have."""

    def completed(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        return [f"{before}{comma}{word}" for word in words if word.startswith(last) and word not in before.split(",")]

    return completed


def format_option(*names: str, default: str, more: str = "") -> Any:
    """The option ``--format`` of a command that writes these formats; ``more`` is said of them in its help."""
    return typer.Option(
        "--format",
        "-f",
        metavar="|".join(names),
        autocompletion=complete(*names),
        help=f"By default what the output's name ends in, else {default}.{more}",
        show_default=False,
    )


def output_option(default: str = "the terminal") -> Any:
    """The option ``--output``; ``default`` says where the output goes without it."""
    return typer.Option("--output", "-o", metavar="FILE", help="Write here.", show_default=default)


def threads_option(default: str) -> Any:
    """The option ``--threads``; ``default`` says how many there are without it."""
    return typer.Option("--threads", min=1, max=1024, metavar="N", help=f"CPU threads of a run. Default: {default}.")


def load_plugins(context: typer.Context, files: list[Path] | None) -> list[Path] | None:
    """Load the files of ``--plugin``, before the command reads a table. Raises ConfigError."""
    if files and not context.resilient_parsing:  # completion runs nothing
        from repro import plugin_files

        plugin_files.load_plugins(files)
    return files


Plugins = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugin",
        metavar="FILE",
        help="A Python file that registers networks, losses or data sets of your own: docs/your-own.md. It is code "
        "that you run: give only files that you trust. May be repeated.",
        callback=load_plugins,
        show_default=False,
    ),
]
Rows = Annotated[
    str | None, typer.Option("--rows", metavar="A,B", help="Only these rows.", autocompletion=complete_row)
]
Columns = Annotated[
    str | None, typer.Option("--columns", metavar="A,B", help="Only these columns.", autocompletion=complete_column)
]
Metric = Annotated[
    str,
    typer.Option(
        "--metric",
        metavar="last|best",
        help="The epoch reported; best is selected on the test set.",
        autocompletion=complete("last", "best"),
    ),
]
CountImported = Annotated[
    bool,
    typer.Option(
        "--count-imported",
        help="Count runs that were trained elsewhere and imported in every table. A study counts them anyway.",
    ),
]
Output = Annotated[Path | None, output_option()]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a file even if it is of another kind.")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        autocompletion=complete_setting,
        help="Override a setting, such as recipe.epochs=2; such runs are stored separately. May be repeated.",
    ),
]
Deterministic = Annotated[
    bool,
    typer.Option(
        "--deterministic",
        help="Bit-for-bit repeatable on a GPU, slower; CPU runs always are. Sets execution.deterministic.",
    ),
]


def refuse_apples_gpu(device: str) -> str:
    """``device`` as given, unless it is the GPU of a Mac. Raises UserError for that."""
    if device.partition(":")[0] == "mps":
        hint = "On a Mac, runs use the CPU: give --device cpu, or leave the option out."
        raise UserError("Apple's GPU (mps) is not supported", where="--device", hint=hint)
    return device


Device = Annotated[
    str,
    typer.Option(
        "--device",
        help="auto, cpu, cuda (AMD's GPUs too), or cuda:N.",
        callback=refuse_apples_gpu,
        autocompletion=complete("auto", "cpu", "cuda"),
    ),
]
Seed = Annotated[
    int,
    typer.Option("--seed", min=0, max=2**32 - 1, metavar="N", help="Which run: it determines every random draw."),
]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON, with exact numbers.")]
AllowChanged = Annotated[
    bool,
    typer.Option(
        "--allow-changed",
        help="Resume even if configuration, code, torch, data, device, processor or thread count changed; the record "
        "lists the changes. Never another network, loss, seed, data set, batch size or optimizer.",
    ),
]
Anonymous = Annotated[
    bool,
    typer.Option("--anonymous", help="Leave host and command line out of the record, for double-blind review."),
]
KeepWeights = Annotated[
    bool,
    typer.Option(
        "--keep-weights",
        help="Keep the final weights beside the record, as weights.safetensors (4 bytes a parameter).",
    ),
]

TensorBoard = Annotated[
    Path | None,
    typer.Option(
        "--tensorboard",
        metavar="DIR",
        help="Also log every epoch for TensorBoard, in one folder per run under DIR; needs biasrepro\\[tensorboard].",
        file_okay=False,
        callback=require_tensorboard,
        show_default=False,
    ),
]

NodeData = Annotated[
    Path | None,
    typer.Option(
        "--node-data",
        metavar="DIR",
        help="Copy the decoded data once per node to DIR, a local folder such as $TMPDIR (expanded on the node), and "
        "read it there. Default: read the data in --root.",
        file_okay=False,
        show_default=False,
        rich_help_panel="On a cluster",
    ),
]
ADD_OR_LEAVE_OUT = "Add that, or leave the option out."


def listed(option: str, text: str | None) -> list[str] | None:
    """The parts of ``a,b``; None if the option was not given. Raises UserError if it names nothing."""
    if text is None:
        return None
    if not (parts := [part.strip() for part in text.split(",") if part.strip()]):
        raise UserError(f"{option} {text!r} is an empty list", hint=f"Such as {option} a,b; without it, all are taken.")
    return parts


def refuse_unused(context: typer.Context, *names: str, because: str, hint: str = "Leave it out.") -> None:
    """Raise UserError if the command line has one of these parameters, which would have no effect.

    The message is the options' names, then ``because``. Defaults and environment variables do not count.
    """
    given = []
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name in names and source is not None and source.name == "COMMANDLINE":
            is_option = parameter.param_type_name == "option"
            given.append(parameter.opts[0] if is_option else parameter.metavar or names[0])
    if given:
        raise UserError(f"{' and '.join(given)} {because}", hint=hint)
