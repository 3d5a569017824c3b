"""``biasrepro data``: fetch, verify and describe the data sets. None of it needs torch."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from repro.cli.folders import ROOT_DEFAULT, Root
from repro.cli.options import refuse_unused
from repro.cli.references import complete_data_set
from repro.errors import UserError
from repro.experiment.catalog import DATASETS, DatasetFacts, dataset_facts
from repro.experiment.plugins import plugin_of
from repro.wording import duration, shell_line

if TYPE_CHECKING:
    from repro.data.cache import CachedImages, Manifest
    from repro.data.prepare import Report

app = typer.Typer(help="Fetch, verify and describe the data sets.", no_args_is_help=True)

Name = Annotated[
    str,
    typer.Argument(
        help="A data set; biasrepro data info lists them. Or a table's YAML file, for its images; overrides may "
        "follow, as in mine.yaml+dataset.image_size=64.",
        autocompletion=complete_data_set,
    ),
]


@app.command()
def fetch(
    context: typer.Context,
    name: Name,
    more: Annotated[list[Path] | None, typer.Argument(metavar="FILE", help="More files of --from.")] = None,
    root: Root = ROOT_DEFAULT,
    source: Annotated[
        list[Path] | None,
        typer.Option(
            "--from",
            metavar="FILE...",
            help="A local archive or unpacked folder to decode instead of downloading; or the Parquet files of a "
            "data set of the Hugging Face hub, or a folder of them.",
        ),
    ] = None,
    url: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Download the archive from here instead of its own addresses.")
    ] = None,
) -> None:
    """Download a data set (resuming a broken download), verify it, decode it."""
    from repro.cli.console import say, size
    from repro.data import prepare
    from repro.data.fetch import fetch as fetch_data

    facts = _facts_of(name)
    if more and not source:
        raise UserError(f"unexpected argument: {more[0]}", hint="Give files to decode as --from FILE...")
    if source:
        refuse_unused(context, "url", because="has no effect with --from")
    if facts.included:
        because = f"has no effect: {facts.title} is included in biasrepro"
        refuse_unused(context, "more", "source", "url", because=because)
        say(f"{facts.title} is included in biasrepro: nothing to fetch.")
    else:
        if facts.folder is not None:
            refuse_unused(context, "more", "source", "url", because=f"has no effect: the images are in {facts.folder}")
        with _progress() as report:
            cached = fetch_data(facts, root, [*(source or ()), *(more or ())], report, url=url)
        say(f"{facts.title} is ready: {_images(facts)}")
        say(f"  {prepare.cache_path(facts, root)} ({size(facts.decoded_bytes)}), verified")
        say(f"  decoded from {cached.source}")
    _say_next(facts, root, name)


def _facts_of(name: str) -> DatasetFacts:
    """The facts of a data set of the catalog, or of the images of a table's YAML file, with any overrides after it."""
    from repro.experiment.config import find_table, split_reference

    choice = find_table(name).dataset if split_reference(name)[0].endswith((".yaml", ".yml")) else None
    dataset = name if choice is None else choice.name
    if (plugin := plugin_of(dataset)) is not None:
        if Path(dataset).exists():  # data/images.zip has the form of a plugin's name
            fetch = shell_line(["biasrepro", "data", "fetch", "NAME", "--from", name])
            hint = f"Name the data set, and the file or folder after --from: {fetch}"
            raise UserError("a file or a folder, not the name of a data set", where=name, hint=hint)
        hint = f"There is nothing to fetch, decode or verify: {plugin}.py gives its images whenever a run starts."
        raise UserError(f"the data set {dataset} comes from a plugin", where=name if choice else None, hint=hint)
    return dataset_facts(name) if choice is None else choice.known_facts


@app.command()
def verify(name: Name, root: Root = ROOT_DEFAULT) -> None:
    """Verify every byte of a decoded data set, and the archive beside it. Changes nothing.

    Exit code 1 if that archive is neither a published one nor what the images were decoded from.
    """
    from repro.cli.console import say, size
    from repro.data import prepare
    from repro.data.source_names import describe_beside

    facts = _facts_of(name)
    if facts.included:
        say(f"{facts.title} is included in biasrepro: nothing to verify.")
        return
    started = time.monotonic()
    cached = prepare.verify(facts, root, name)
    seconds = time.monotonic() - started
    say(f"{prepare.cache_path(facts, root)}: whole ({size(facts.decoded_bytes)}, {duration(seconds)})")
    say(f"  decoded from {cached.source}")
    say(f"  fingerprint {_fingerprint(facts, cached)}")
    archive = prepare.find_source(facts, root)
    if archive is not None and facts.folder is None:
        described, known = describe_beside(archive, facts, cached.source)
        say(f"{archive}: {described}", stderr=not known)
        if not known:
            say("  Delete it or move it away: the decoded images are whole and need no archive.", stderr=True)
            raise typer.Exit(1)
    _say_next(facts, root, name)


@app.command()
def info(
    name: Annotated[
        str | None,
        typer.Argument(help="A data set, or a table's YAML file. Default: all.", autocompletion=complete_data_set),
    ] = None,
    root: Root = ROOT_DEFAULT,
) -> None:
    """Show what the data sets are, where they come from, and which are here."""
    from repro.cli.console import say, show_table, size

    if name is not None:
        facts = _facts_of(name)
        _describe(facts, root)
        _say_next(facts, root, name)
        return
    rows = []
    for facts in DATASETS.values():
        archive = facts.download
        download = size(archive.size_bytes) if archive and archive.size_bytes else "none"
        images = f"{facts.train_count:,} + {facts.test_count:,}"
        rows.append((facts.name, str(facts.num_classes), _pixels(facts), images, download, _state(facts, root)))
    show_table(("data set", "classes", "pixels", "train + test", "download", "here"), rows, right=(1, 3, 4))
    more = shell_line(["biasrepro", "data", "info", next(iter(DATASETS)), "--root", str(root)])
    say(f"More about one: {more}")


def _describe(facts: DatasetFacts, root: Path) -> None:
    from repro.cli.console import say, size
    from repro.data import prepare
    from repro.data.cache import DamagedCache, read_manifest

    say(f"{facts.title} ({facts.name}): {_images(facts)}")
    if facts.source:
        say(f"  {facts.source}")
    for archive in facts.archives:
        checksum = f", MD5 {archive.md5}" if archive.md5 else ""
        published_size = f", {size(archive.size_bytes)}" if archive.size_bytes else ""
        places = ", or ".join(archive.urls) or archive.file_name
        say(f"  {'download' if archive.urls else 'or'}: {places}{published_size}{checksum}")
    say(f"  decoded: {size(facts.decoded_bytes)}")
    say(f"  here: {_state(facts, root)}")
    with suppress(FileNotFoundError, DamagedCache):  # also for included data, which have no such file
        manifest = read_manifest(prepare.cache_path(facts, root))
        mean, std = (" ".join(map("{:.4f}".format, x)) for x in manifest.pixel_sums.mean_and_std(facts.num_classes))
        say(f"  decoded from {manifest.source}")
        say(f"  mean {mean}, standard deviation {std} of the training pixels in [0, 1]")
        say(f"  fingerprint {_fingerprint(facts, manifest)}")


def _state(facts: DatasetFacts, root: Path) -> str:
    """What is on disk of a data set, by its manifest alone."""
    from repro.data import prepare
    from repro.data.cache import DamagedCache, read_manifest

    if facts.included:
        return "yes, included in biasrepro"
    path = prepare.cache_path(facts, root)
    try:
        read_manifest(path)
    except FileNotFoundError:
        archive = prepare.find_source(facts, root)
        return f"not decoded yet: {archive}" if archive else "no"
    except DamagedCache:
        return f"damaged: {path}"
    return f"yes: {path}"


def _pixels(facts: DatasetFacts) -> str:
    return f"{facts.image_size}x{facts.image_size}"


def _images(facts: DatasetFacts) -> str:
    images = f"{facts.train_count:,} training and {facts.test_count:,} test images"
    return f"{images} of {_pixels(facts)} pixels in {facts.num_classes} classes"


def _fingerprint(facts: DatasetFacts, decoded: Manifest | CachedImages) -> str:
    """What identifies the decoded images; for a folder, what is in the configuration of its runs."""
    return decoded.content if facts.folder is not None else decoded.fingerprint


def _say_next(facts: DatasetFacts, root: Path, name: str) -> None:
    """Say what to do next; ``name`` is the data set's on the command line."""
    from repro.cli.console import say
    from repro.data import prepare

    table = name if facts.folder is not None else facts.example
    if not facts.included and not prepare.cache_path(facts, root).exists():
        say(f"Next: {shell_line(['biasrepro', 'data', 'fetch', name, '--root', str(root)])}")
    elif table:
        at_root = [] if facts.included or root == ROOT_DEFAULT else ["--root", str(root)]
        say(f"Next: {shell_line(['biasrepro', 'sweep', table, '--dry-run', *at_root])}")


@contextmanager
def _progress() -> Iterator[Report]:
    """A progress bar on a terminal; elsewhere a line for every tenth."""
    from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

    from repro.cli.console import console, size

    def amount(stage: str, done: int, total: int) -> str:
        if not total:
            return size(done) if done else ""
        return f"{size(done)} of {size(total)}" if stage == "downloading" else f"{done:,} of {total:,} images"

    lines = console(stderr=True)
    if not lines.is_terminal:
        said: dict[str, int] = {}

        def say_tenths(stage: str, done: int, total: int) -> None:
            tenths = 10 * done // total if total else 0
            if tenths > said.get(stage, -1):
                said[stage] = tenths
                known = f" {10 * tenths} %: {amount(stage, done, total)}" if total else ""
                lines.print(f"{stage}{known}", soft_wrap=True)

        yield say_tenths
        return
    texts = TextColumn("{task.description}"), TextColumn("{task.fields[amount]}")
    columns = texts[0], BarColumn(), TaskProgressColumn(), texts[1], TimeRemainingColumn()
    with Progress(*columns, console=lines) as bars:
        tasks: dict[str, TaskID] = {}

        def move_bar(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total, amount="")
            bars.update(tasks[stage], completed=done, total=total or None, amount=amount(stage, done, total))

        yield move_bar
