"""Download one file so that it is there whole or not at all: resumed where it broke off, renamed once verified.

The bytes go to ``<name>.part``, which a later call continues with an HTTP Range request. The file gets its own name
only once its checksum is right.
"""

from __future__ import annotations

import http.client
import os
import re
import ssl
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request

from repro.data.archives import file_md5
from repro.data.web_answer import TooSlow, WebAnswer
from repro.errors import DataError
from repro.results.durable import commit_file
from repro.results.files import open_plain
from repro.wording import readable_size

_PASSING = (URLError, TimeoutError, ConnectionError, http.client.HTTPException, ssl.SSLError)
_PASSING_STATUS = (408, 425, 429)
_ENOUGH_BYTES = 100_000  # an attempt that brings so much counts as progress
_START_BYTES = 64  # of a file: they tell an archive from a text
_GET_IT_ELSEWHERE = "Try again later, or get the file elsewhere and give it with --from FILE."


def download_from_any(urls: Sequence[str], destination: Path, **how: Any) -> None:
    """Downloads from the first of ``urls`` that gives the file; the arguments ``how`` are those of ``download``.

    An address is tried only after those before it have failed. Raises DataError, which names every failure if there
    are several addresses.
    """
    failures: list[DataError] = []
    for url in urls:
        try:
            return download(url, destination, **how)
        except DataError as error:
            failures.append(error)
    if len(failures) == 1:
        raise failures[0]
    reasons = "; ".join(f"{url}: {error.what}" for url, error in zip(urls, failures, strict=True))
    raise DataError(
        f"none of {len(urls)} addresses gave the file: {reasons}",
        where=str(destination),
        hint="Try again later, give another address with --url, or a local copy with --from FILE.",
    )


def download(
    url: str,
    destination: Path,
    *,
    md5: str | None,
    size_bytes: int | None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    timeout_s: float = 30.0,
    attempts: int = 6,
    pause_s: float = 1.0,
) -> None:
    """Downloads ``url`` to ``destination``, by way of ``destination`` + ``.part``.

    size_bytes: the file's known size; another size is refused at once. progress: called with the bytes done and their
    total (0 if unknown). attempts: how often in a row the transfer may fail without much progress; the pause after a
    failure starts at ``pause_s`` and doubles each time. timeout_s: the longest wait for a byte, as in ``WebAnswer``.

    Raises DataError after the last attempt (the .part file stays) and for wrong content (nothing stays). Two processes
    must not download to the same destination at once: hold the folder's lock.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise DataError(f"{url} is not an http or https address")
    part = destination.with_name(f"{destination.name}.part")
    failures, furthest = 0, 0
    while True:
        began_with = _size(part)
        try:
            _transfer(url, part, size_bytes, progress, timeout_s)
        except (http.client.InvalidURL, OverflowError) as error:  # of a redirect
            raise _nonsense(url, error) from error
        except _PASSING as error:
            progressed = _size(part) >= furthest + _ENOUGH_BYTES and not isinstance(error, TooSlow)
            failures = 1 if progressed else failures + 1
            furthest = max(furthest, _size(part))
            if failures >= attempts:
                raise _gave_up(url, part, error) from error
            time.sleep(pause_s * 2 ** (failures - 1))
            continue
        except ValueError as error:  # of a redirect, or of a header
            raise _nonsense(url, error) from error
        except OSError as error:
            raise DataError(f"the download cannot be written ({error.strerror})", where=str(part)) from error
        if md5 is None or file_md5(part) == md5:
            break
        part.unlink()
        if not began_with:
            raise DataError(
                f"the server sent another file than expected: its MD5 is not {md5}", where=url, hint=_GET_IT_ELSEWHERE
            )
        # The part that was resumed may have come from another file: download again from the first byte.
    commit_file(part, destination)


def _transfer(
    url: str, part: Path, size_bytes: int | None, progress: Callable[[int, int], None], timeout_s: float
) -> None:
    """Downloads what ``part`` still lacks. Raises one of ``_PASSING`` if the connection breaks off."""
    done = _size(part)
    if size_bytes is not None and done >= size_bytes:
        return  # the checksum decides
    headers = {"User-Agent": "biasrepro", **({"Range": f"bytes={done}-"} if done else {})}
    try:
        answer = WebAnswer(Request(url, headers=headers), timeout_s)
    except HTTPError as error:
        error.close()
        if error.code == 416 and done:  # nothing follows what we have: the checksum decides
            return
        if error.code >= 500 or error.code in _PASSING_STATUS:
            raise
        raise DataError(f"the server answers {error.code} {' '.join(str(error.reason).split())}", where=url) from error
    with answer:
        if answer.status == 206:
            content_range = answer.headers.get("Content-Range", "")
            if not content_range.startswith(f"bytes {done}-"):
                part.unlink()
                raise ConnectionError(f"the server answered with another range ({content_range!r})")
        else:
            done = 0  # the server ignores ranges and sends the whole file
        total = done + _length(answer)
        if size_bytes is not None:
            if total not in (done, size_bytes):
                raise _wrong_size(url, total, size_bytes)
            total = size_bytes
        flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if done else os.O_TRUNC)
        with os.fdopen(open_plain(part, flags), "wb") as file:
            for block in answer.blocks():
                begins, done = done < _START_BYTES, done + len(block)
                if size_bytes is not None and done > size_bytes:
                    raise _wrong_size(url, done, size_bytes)
                file.write(block)
                if begins and done >= _START_BYTES:
                    file.flush()
                    _refuse_text(part, url)
                progress(done, total)
    if done < _START_BYTES:
        _refuse_text(part, url)
    if done < total:
        raise ConnectionError(f"the connection ended after {done} of {total} bytes")


def _length(answer: WebAnswer) -> int:
    """The announced number of bytes, 0 if there is none. Raises ValueError for nonsense."""
    announced = set(answer.headers.get_all("Content-Length", ["0"]))
    if len(announced) > 1 or not re.fullmatch(r"[0-9]{1,18}", min(announced)):
        raise ValueError(f"Content-Length: {', '.join(sorted(announced))}"[:100])
    return int(min(announced))


def _refuse_text(part: Path, url: str) -> None:
    """Raise DataError, and remove ``part``, if it begins as a text: a page that says why there is no archive."""
    with part.open("rb") as file:
        start = file.read(_START_BYTES)
    if start and (
        start.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"<" or re.fullmatch(rb"[\t\n\r\x20-\x7e]+", start)
    ):
        part.unlink()
        said = " ".join(start.decode(errors="replace").split())
        raise DataError(f"the server sent a text and no archive: {said}…", where=url, hint=_GET_IT_ELSEWHERE)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _nonsense(url: str, error: Exception) -> DataError:
    return DataError(f"the server's answer makes no sense ({error})", where=url, hint=_GET_IT_ELSEWHERE)


def _wrong_size(url: str, offered: int, expected: int) -> DataError:
    return DataError(
        f"the server offers another file: {offered} bytes or more, not {expected}", where=url, hint=_GET_IT_ELSEWHERE
    )


def _gave_up(url: str, part: Path, error: Exception) -> DataError:
    kept = f"; {readable_size(_size(part))} are kept, and the same command resumes from there" if _size(part) else ""
    why = str(getattr(error, "reason", None) or error)[:200]
    return DataError(
        f"the download failed ({why}){kept}",
        where=url,
        hint="Check the connection and run the command again, or give a local copy with --from FILE.",
    )
