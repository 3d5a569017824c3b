"""From a published archive to verified images on disk: find it, decode it once, open the result.

A data set is downloaded to ``<root>/<name>/`` and decoded there. An archive or unpacked folder is also found in
``<root>`` itself, where torchvision puts it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

from repro.data.cache import CACHE_FILE, CachedImages, DamagedCache, open_cache, read_manifest, write_cache
from repro.data.decoded import DecodedImages
from repro.data.image_folder import decode_folder
from repro.data.parquet import decode_parquet, parquet_files
from repro.data.source_names import BY_CONTENT, describe_source, is_decoded_from, named_with_md5
from repro.errors import DataError
from repro.experiment.catalog import DatasetFacts, fetch_command, imported
from repro.experiment.folder_listing import FINGERPRINT_FILE, remember_fingerprint
from repro.results.disk_space import free_bytes
from repro.results.durable import write_durably
from repro.results.files import file_lock
from repro.wording import readable_size

LOCK_SECONDS = 1800.0  # for another process to download and decode a data set

Report = Callable[[str, int, int], None]
"""Called with "downloading" or "decoding", then the bytes or images done and their total; 0 is an unknown one."""


def silent(stage: str, done: int, total: int) -> None:
    """A report that shows nothing."""


@contextmanager
def folder_lock(folder: Path, report: Report = silent, *, seconds: float = LOCK_SECONDS) -> Iterator[None]:
    """Make ``folder`` and hold its lock: one process at a time prepares the data in it.

    ``report`` is told if another process holds it. Raises DataError if that lasts longer than so many ``seconds``, and
    if the folder cannot be written.
    """
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            try:
                stack.enter_context(file_lock(folder / ".lock", seconds=0.0))
            except TimeoutError:
                report(f"waiting for another process that prepares {folder}", 0, 0)
                stack.enter_context(file_lock(folder / ".lock", seconds=seconds))
        except TimeoutError as error:
            raise DataError(
                str(error.strerror),
                where=str(folder / ".lock"),
                hint="It prepares the data, or hangs: `fuser -v` with this file names the process on its machine.",
            ) from error
        except OSError as error:
            raise DataError(
                f"cannot write to this folder ({error.strerror})",
                where=str(folder),
                hint="Choose another folder with --root or BIASREPRO_DATA, or fetch as a user who may write here.",
            ) from error
        yield


def cache_path(facts: DatasetFacts, root: Path) -> Path:
    """The file of decoded images."""
    return root / (facts.cache_folder or facts.name) / CACHE_FILE


def find_source(facts: DatasetFacts, root: Path) -> Path | None:
    """The first archive or unpacked folder of a data set under ``root``, or None; a user's folder is where it is."""
    if facts.folder is not None:
        return facts.folder
    for archive in facts.archives:
        for folder in (root / facts.name, root):
            if (path := folder / archive.file_name).exists():
                require_plain(path)
                return path
    return None


def require_plain(source: Path) -> None:
    """Raises DataError for what is neither a file nor a folder: reading a device or a pipe may never end."""
    if not (source.is_file() or source.is_dir()):
        raise DataError("not a file or a folder", where=str(source), hint="Move it away.")


def open_decoded(facts: DatasetFacts, root: Path, report: Report = silent) -> CachedImages:
    """Opens the decoded images; decodes them first if there is only an archive, or if they are damaged.

    Without an archive, raises DataError that names the missing data, their size, and the command to get them.
    """
    cached = _open_or_decode(facts, root, report)
    note_fingerprint(facts, cached.content)
    if facts.folder is not None:
        with suppress(OSError):  # only for commands that open no image
            write_durably(cache_path(facts, root).with_name(FINGERPRINT_FILE), cached.content.encode())
    return cached


def note_fingerprint(facts: DatasetFacts, content: str) -> None:
    """Makes the fingerprint of a folder's images known to what compares configurations in this process."""
    if facts.folder is not None:
        remember_fingerprint(facts.folder, facts.image_size, content)


def know_fingerprint(facts: DatasetFacts, root: Path, report: Report = silent) -> None:
    """Makes the fingerprint of a folder's images known, and decodes them first if that was not done yet."""
    if facts.folder is not None:
        try:
            note_fingerprint(facts, read_manifest(cache_path(facts, root)).content)
        except (OSError, DamagedCache):
            open_decoded(facts, root, report)


def _open_or_decode(facts: DatasetFacts, root: Path, report: Report) -> CachedImages:
    path = cache_path(facts, root)
    cached, damage = open_if_whole(path, facts)
    if cached is not None:
        return cached
    source = find_source(facts, root)
    if source is None:
        raise _missing(facts, root, damage) from damage
    try:
        return decode_once([source], facts, path, report)
    except DataError as error:
        if damage is None:
            raise
        raise DataError(f"{damage.what}; rebuilding failed: {error}", where=damage.where, hint=error.hint) from error


def has_images(facts: DatasetFacts, root: Path) -> bool:
    """Whether there are images to open or an archive to decode, or the images come with the code; reads no file."""
    return facts.included or cache_path(facts, root).exists() or find_source(facts, root) is not None


def require_images(facts: DatasetFacts, root: Path) -> None:
    """Raises DataError, as ``open_decoded`` would, if ``has_images`` is false."""
    if not has_images(facts, root):
        raise _missing(facts, root, None)


def verify(facts: DatasetFacts, root: Path, name: str = "") -> CachedImages:
    """Opens the decoded images and changes nothing; raises DataError if they are missing or damaged.

    ``name`` is what the user calls them: of a folder of images, its table's file.
    """
    cached, damage = open_if_whole(cache_path(facts, root), facts)
    if cached is None:
        raise _missing(facts, root, damage, name) from damage
    return cached


def open_if_whole(path: Path, facts: DatasetFacts) -> tuple[CachedImages | None, DamagedCache | None]:
    """The decoded images, None if they are missing or damaged; and what the damage is."""
    try:
        cached = open_cache(path)
    except FileNotFoundError:
        return None, None
    except DamagedCache as error:
        return None, error
    except PermissionError as error:
        raise DataError("the decoded images cannot be read: permission denied", where=str(path)) from error
    cached.images.check(facts)
    return cached, None


def decode_once(
    sources: Sequence[Path], facts: DatasetFacts, path: Path, report: Report, *, replace: bool = False
) -> CachedImages:
    """Decodes under the folder's lock, unless another process just did.

    With ``replace`` it decodes even if there are decoded images, unless they are from these very files.
    """
    with folder_lock(path.parent, report):
        if replace:
            with suppress(DataError, OSError):  # unusable images are replaced; decoding says what cannot be read
                cached, _damage = open_if_whole(path, facts)
                if cached is not None and is_decoded_from(sources, cached.source):
                    return cached
        else:
            cached, damage = open_if_whole(path, facts)
            if cached is not None:
                return cached
            if damage is not None:
                path.replace(path.with_suffix(".damaged"))
        for left_over in path.parent.glob(f"{path.name}.*.tmp"):  # of a process that was killed
            left_over.unlink(missing_ok=True)
        require_space(path.parent, facts.decoded_bytes * (1 if facts.folder is None else 2))
        try:
            progress = partial(report, "decoding")
            if facts.folder is not None:
                images, description = decode_folder(facts, progress, scratch=path.parent), f"folder {facts.folder.name}"
            else:
                images, description = _decoded(sources, facts, progress)
        except OSError as error:
            raise DataError(f"this cannot be read ({error.strerror})", where=str(sources[0])) from error
        images.check(facts)
        try:
            write_cache(path, facts.name, images, description)
        except OSError as error:
            raise DataError(f"the decoded images cannot be written ({error.strerror})", where=str(path)) from error
        return open_cache(path)


def _decoded(
    sources: Sequence[Path], facts: DatasetFacts, progress: Callable[[int, int], None]
) -> tuple[DecodedImages, str]:
    """The images in an archive, a folder or Parquet files, and the sources as records name them."""
    files = [file for source in sources for file in parquet_files(source)]
    if files:
        if strangers := [source for source in sources if not parquet_files(source)]:
            raise DataError("not a Parquet file, as the others are", where=str(strangers[0]))
        images = decode_parquet(files, facts, progress)
        return images, f"{named_with_md5(files)}, another copy, {BY_CONTENT}"
    if len(sources) > 1:
        raise DataError(
            f"{len(sources)} files, which are not Parquet",
            where=str(sources[0]),
            hint="Give one archive or folder, or all the Parquet files.",
        )
    images = decoder_of(facts)(sources[0], facts, progress)
    return images, describe_source(sources[0], facts, images)


def decoder_of(facts: DatasetFacts) -> Callable[..., DecodedImages]:
    """The function that decodes a data set. Raises DataError if its entry in the catalog names none."""
    if not facts.decoder:
        raise DataError(f"the data set '{facts.name}' has no decoder", hint="Name one in its entry in the catalog.")
    decode: Callable[..., DecodedImages] = imported(facts.decoder)
    return decode


def require_space(folder: Path, size_bytes: int) -> None:
    """Raises DataError if the disk of ``folder`` has less space."""
    if (free := free_bytes(folder)) < size_bytes:
        raise DataError(
            f"not enough disk space: {readable_size(size_bytes)} needed, {readable_size(free)} free",
            where=str(folder),
            hint="Free disk space, or choose a folder on another disk with --root or BIASREPRO_DATA.",
        )


def _missing(facts: DatasetFacts, root: Path, damage: DataError | None, name: str = "") -> DataError:
    archive, source = facts.download, find_source(facts, root)
    size = ""
    if source is not None:
        size = f"from {source}, nothing to download, "
    elif archive is not None and archive.size_bytes:
        size = f"{readable_size(archive.size_bytes)} to download, "
    state = "is not here" if facts.folder is None else "is not decoded yet"
    return DataError(
        damage.what if damage else f"{facts.title} {state}",
        where=damage.where if damage else str(facts.folder or root / facts.name),
        hint=f"Get it with: {fetch_command(facts, root, name)}  ({size}{readable_size(facts.decoded_bytes)} decoded)",
    )
