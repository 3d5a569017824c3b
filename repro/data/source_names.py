"""What images were decoded from, as records name it, and whether a file is that."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from repro.data.archives import file_md5
from repro.data.decoded import DecodedImages
from repro.data.parquet import parquet_files
from repro.data.published_content import PUBLISHED, difference_from_published
from repro.experiment.catalog import DatasetFacts
from repro.wording import in_utf8

BY_CONTENT = "accepted by its pixels and labels"


def describe_source(source: Path, facts: DatasetFacts, images: DecodedImages) -> str:
    """The source of ``images``: the file's name, its MD5, and whether that is the published one.

    Of a copy with another MD5, the images are compared with the published pixels and labels.
    """
    if source.is_dir():
        return f"folder {source.name}"
    named = named_with_md5([source])
    if _is_published(named, facts):
        return f"{named}, as published"
    accepted = "accepted by its structure"
    if facts.name in PUBLISHED and difference_from_published(facts.name, images) is None:
        accepted = BY_CONTENT
    return f"{named}, another copy, {accepted}"


def describe_beside(source: Path, facts: DatasetFacts, decoded_from: str) -> tuple[str, bool]:
    """A file or folder beside decoded images in words, and False if it is a file that nothing vouches for.

    ``decoded_from`` is what their record says of the source. No image is read: a file is known if its MD5 is the
    published one or that of the source, which was accepted when it was decoded.
    """
    if source.is_dir():
        return f"folder {source.name}, not compared: it has no checksum", True
    named = named_with_md5([source])
    if _is_published(named, facts):
        return f"{named}, as published", True
    if f"MD5 {named.rpartition('MD5 ')[2]}" in decoded_from:
        return f"{named}, another copy, from which the images were decoded", True
    return f"{named}, not a published archive, and not what the images were decoded from", False


def _is_published(named: str, facts: DatasetFacts) -> bool:
    return any(named.endswith(f"MD5 {archive.md5}") for archive in facts.archives)


def named_with_md5(files: Sequence[Path]) -> str:
    """Files as records name them."""
    return "; ".join(f"{in_utf8(file.name)}, MD5 {file_md5(file)}" for file in files)


def is_decoded_from(sources: Sequence[Path], described: str) -> bool:
    """Whether these very files are those of which a record says ``described``; a folder may have changed."""
    files = [file for source in sources for file in parquet_files(source) or [source]]
    return all(file.is_file() for file in files) and described.startswith(f"{named_with_md5(files)}, ")
