"""From a published archive to verified images on disk: find it or fetch it, decode it once, open it ever after.

Inside the root, ``<root>/<name>/`` holds what is downloaded and decoded. An archive or unpacked folder is also
found in ``<root>`` itself, where torchvision puts it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from repro.data.archives import file_md5
from repro.data.cache import CACHE_FILE, CachedImages, DamagedCache, open_cache, write_cache
from repro.data.decoded import DecodedImages
from repro.data.download import download
from repro.data.locking import folder_lock
from repro.errors import DataError
from repro.experiment.catalog import DatasetFacts, fetch_command, imported
from repro.machine import readable_size

Report = Callable[[str, int, int], None]
"""Called with what is being done ("downloading", "decoding"), and how much of it: bytes or images, done and total."""


def silent(stage: str, done: int, total: int) -> None:
    """The report that nobody reads."""


def dataset_folder(facts: DatasetFacts, root: Path) -> Path:
    """Where a data set is downloaded to and decoded."""
    return root / facts.name


def cache_path(facts: DatasetFacts, root: Path) -> Path:
    """The file of decoded images."""
    return dataset_folder(facts, root) / CACHE_FILE


def find_source(facts: DatasetFacts, root: Path) -> Path | None:
    """The first archive or unpacked folder of a data set under ``root``, or None."""
    folders = (dataset_folder(facts, root), root)
    candidates = (folder / archive.file_name for archive in facts.archives for folder in folders)
    return next((path for path in candidates if path.exists()), None)


def describe_source(source: Path, facts: DatasetFacts) -> str:
    """What was decoded, for the records: the file's name, its MD5, and whether that is the published one."""
    if source.is_dir():
        return f"folder {source.name}"
    md5 = file_md5(source)
    published = any(archive.md5 == md5 for archive in facts.archives)
    return f"{source.name}, MD5 {md5}, {'as published' if published else 'another copy, accepted by its structure'}"


def open_decoded(facts: DatasetFacts, root: Path, report: Report = silent) -> CachedImages:
    """Opens a data set's decoded images; decodes them first where only the archive is there or a byte is damaged.

    Raises DataError where there is neither: it names the missing data, the command that gets them, and the size.
    """
    path = cache_path(facts, root)
    try:
        return _open_checked(path, facts)
    except FileNotFoundError:
        damage = None
    except DamagedCache as error:
        damage = error
    source = find_source(facts, root)
    if source is None:
        raise _missing(facts, root, damage) from damage
    try:
        return _decode_once(source, facts, path, report)
    except DataError as error:
        if damage is None:
            raise
        raise DataError(f"{damage.what}; rebuilding failed: {error}", where=damage.where, hint=error.hint) from error


def has_images(facts: DatasetFacts, root: Path) -> bool:
    """Whether something is there to open or to decode, or nothing is needed; reads nothing."""
    return not facts.archives or cache_path(facts, root).exists() or find_source(facts, root) is not None


def require_images(facts: DatasetFacts, root: Path) -> None:
    """Raises DataError, as ``open_decoded`` would, where ``has_images`` finds none."""
    if not has_images(facts, root):
        raise _missing(facts, root, None)


def fetch(facts: DatasetFacts, root: Path, source: Path | None = None, report: Report = silent) -> CachedImages:
    """Brings a data set to ``root``: downloads what is not there, decodes, verifies.

    source: a local archive or folder to read instead of any other; it is read where it lies and not copied.
    """
    if facts.included:
        raise DataError(f"{facts.title} needs no fetching: it is included in biasrepro")
    path = cache_path(facts, root)
    if source is not None:
        if not source.exists():
            raise DataError("there is no such file or folder", where=str(source))
        if not (source.is_file() or source.is_dir()):  # a device or a pipe may never end
            raise DataError("neither a file nor a folder", where=str(source))
        return _decode_once(source, facts, path, report, again=True)
    if find_source(facts, root) is None and not _is_whole(path, facts):
        archive = facts.download
        if archive is None or archive.url is None:
            raise DataError(f"{facts.title} has no address to download it from", hint="Give a local copy with --from.")
        destination = dataset_folder(facts, root) / archive.file_name
        with folder_lock(destination.parent):
            if not destination.exists():
                _require_space(destination.parent, (archive.size_bytes or 0) + facts.decoded_bytes)
                download(
                    archive.url,
                    destination,
                    md5=archive.md5,
                    size_bytes=archive.size_bytes,
                    progress=lambda done, total: report("downloading", done, total),
                )
    return open_decoded(facts, root, report)


def verify(facts: DatasetFacts, root: Path) -> CachedImages:
    """Opens the decoded images, changing nothing; raises DataError where they are missing or damaged."""
    try:
        return _open_checked(cache_path(facts, root), facts)
    except FileNotFoundError as error:
        raise _missing(facts, root, None) from error
    except DamagedCache as error:
        raise _missing(facts, root, error) from error


def _open_checked(path: Path, facts: DatasetFacts) -> CachedImages:
    try:
        cached = open_cache(path)
    except PermissionError as error:
        raise DataError("the decoded images cannot be read: permission denied", where=str(path)) from error
    cached.images.check(facts)
    return cached


def _is_whole(path: Path, facts: DatasetFacts) -> bool:
    try:
        _open_checked(path, facts)
    except (FileNotFoundError, DamagedCache):
        return False
    return True


def _decode_once(source: Path, facts: DatasetFacts, path: Path, report: Report, *, again: bool = False) -> CachedImages:
    """Decodes under the folder's lock, unless another process has meanwhile; ``again`` decodes in any case."""
    with folder_lock(path.parent):
        if not again:
            try:
                return _open_checked(path, facts)
            except FileNotFoundError:
                pass
            except DamagedCache:
                path.replace(path.with_suffix(".damaged"))
        for left_over in path.parent.glob(f"{path.name}.*.tmp"):  # of a process that was killed
            left_over.unlink(missing_ok=True)
        _require_space(path.parent, facts.decoded_bytes)
        images = _decode(source, facts, lambda done, total: report("decoding", done, total))
        images.check(facts)
        try:
            write_cache(path, facts.name, images, describe_source(source, facts))
        except OSError as error:
            raise DataError(f"the decoded images cannot be written ({error.strerror})", where=str(path)) from error
        return _open_checked(path, facts)


def decoder_of(facts: DatasetFacts) -> Callable[..., DecodedImages]:
    """The function that decodes a data set. Raises DataError where its entry in the catalog names none."""
    if not facts.decoder:
        raise DataError(f"the data set '{facts.name}' has no decoder", hint="Name one in its entry of the catalog.")
    decode: Callable[..., DecodedImages] = imported(facts.decoder)
    return decode


def _decode(source: Path, facts: DatasetFacts, progress: Callable[[int, int], None]) -> DecodedImages:
    decode = decoder_of(facts)
    try:
        return decode(source, facts, progress)
    except OSError as error:
        raise DataError(f"this cannot be read ({error.strerror})", where=str(source)) from error


def _require_space(folder: Path, size_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size_bytes:
        raise DataError(
            f"the disk is too full: {readable_size(size_bytes)} are needed, {readable_size(free)} are free",
            where=str(folder),
            hint="make room, or name a folder on another disk with --root or BIASREPRO_DATA",
        )


def _missing(facts: DatasetFacts, root: Path, damage: DataError | None) -> DataError:
    archive = facts.download
    size = f"{readable_size(archive.size_bytes)} to download, " if archive and archive.size_bytes else ""
    source = find_source(facts, root)
    if source is not None:
        size = f"from {source}, nothing to download, "
    return DataError(
        damage.what if damage else f"{facts.title} is not here",
        where=damage.where if damage and damage.where else str(dataset_folder(facts, root)),
        hint=f"get it with: {fetch_command(facts, root)}  ({size}{readable_size(facts.decoded_bytes)} decoded)",
    )
