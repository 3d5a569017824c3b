"""Get a data set: from a local copy, or downloaded from the first of its addresses that answers; then decode it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from repro.data.cache import CachedImages
from repro.data.download import download_from_any
from repro.data.prepare import (
    Report,
    cache_path,
    decode_once,
    find_source,
    folder_lock,
    open_decoded,
    open_if_whole,
    require_plain,
    require_space,
    silent,
)
from repro.errors import DataError
from repro.experiment.catalog import Archive, DatasetFacts


def fetch(
    facts: DatasetFacts,
    root: Path,
    sources: Sequence[Path] = (),
    report: Report = silent,
    *,
    url: str | None = None,
) -> CachedImages:
    """Downloads a data set to ``root`` if it is not there, decodes and verifies it.

    sources: a local archive or folder, or Parquet files, to decode instead, unless these files were decoded before;
    they are not copied. url: an address to download from instead of the published ones.
    """
    if facts.included:
        raise DataError(f"{facts.title} needs no fetching: it is included in biasrepro")
    path = cache_path(facts, root)
    for source in sources:
        if not source.exists():
            raise DataError("no such file or folder", where=str(source))
        require_plain(source)
    if sources:
        return decode_once(sources, facts, path, report, replace=True)
    found = find_source(facts, root)
    if found is None and open_if_whole(path, facts)[0] is None:
        archive, urls = _download_of(facts, url)
        destination = path.with_name(archive.file_name)
        with folder_lock(destination.parent, report):
            if not destination.exists():
                require_space(destination.parent, (archive.size_bytes or 0) + facts.decoded_bytes)
                download_from_any(
                    urls,
                    destination,
                    md5=archive.md5,
                    size_bytes=archive.size_bytes,
                    progress=lambda done, total: report("downloading", done, total),
                )
    try:
        return open_decoded(facts, root, report)
    except DataError as error:
        if found is None or error.where != str(found) or facts.download is None:
            raise
        away = f"Move {found} away, and the same command downloads the data."
        raise DataError(error.what, where=error.where, hint=f"{error.hint} {away}" if error.hint else away) from error


def _download_of(facts: DatasetFacts, url: str | None) -> tuple[Archive, tuple[str, ...]]:
    """The archive to download, and the addresses to try. At ``url`` a file of unknown name has no known checksum."""
    archive = facts.download
    if url is not None:
        named = {archive.file_name: archive for archive in facts.archives}
        first = replace(facts.archives[0], md5=None, size_bytes=None)
        return named.get(PurePosixPath(urlsplit(url).path).name, first), (url,)
    if archive is None:
        raise DataError(f"{facts.title} has no download address", hint="Give a local copy with --from.")
    return archive, archive.urls
