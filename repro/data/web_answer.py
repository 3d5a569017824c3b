"""A web server's answer, read in a thread of its own: a server that drips or never ends is left after a while.

A socket's timeout bounds each wait for a byte, and not the whole: a server may send one now and then for ever, also
within its headers.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPMessage, HTTPResponse
from typing import IO
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from repro.errors import DataError
from repro.wording import duration

SLOWEST_BYTES_PER_SECOND = 10_000
_BLOCK_BYTES = 1 << 18


class TooSlow(ConnectionError):
    """The server answers, and too slowly ever to end."""


class _Redirects(HTTPRedirectHandler):
    """Follows redirects to web addresses only."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        if urlsplit(newurl).scheme not in ("http", "https"):
            raise DataError(f"the server redirects to {newurl}, which is no web address", where=req.full_url)
        return super().redirect_request(req, fp, code, msg, headers, newurl)

    def http_error_302(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage
    ) -> HTTPResponse | None:
        try:
            return super().http_error_302(req, fp, code, msg, headers)
        except Exception:
            fp.close()
            raise

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


class WebAnswer:
    """The answer to a request; use it as a context. Raises TooSlow, and what ``urlopen`` raises.

    ``timeout_s`` is the longest wait for a byte; twice as long for all headers, or for a due number of bytes.
    """

    def __init__(self, request: Request, timeout_s: float) -> None:
        self._patience_s = 2 * timeout_s
        self._came: queue.Queue[HTTPResponse | bytes | Exception] = queue.Queue(maxsize=4)
        self._left = threading.Event()
        threading.Thread(target=self._read, args=(request, timeout_s), daemon=True).start()
        head = self._next(self._patience_s)
        if head is None:
            self._left.set()
            raise TooSlow(f"the server sent no whole answer in {duration(self._patience_s)}")
        assert not isinstance(head, bytes)
        self.status, self.headers = head.status, head.headers

    def __enter__(self) -> WebAnswer:
        return self

    def __exit__(self, *_error: object) -> None:
        self._left.set()

    def blocks(self) -> Iterator[bytes]:
        """The content as it arrives."""
        since, count = time.monotonic(), 0
        while True:
            left_s = since + self._patience_s - time.monotonic()
            block = self._next(left_s) if left_s > 0 else None
            if block is None:
                if count < SLOWEST_BYTES_PER_SECOND * self._patience_s:
                    raise TooSlow(f"the server sent {count} bytes in {duration(self._patience_s)}")
                since, count = time.monotonic(), 0
                continue
            assert isinstance(block, bytes)
            if not block:
                return
            count += len(block)
            yield block

    def _next(self, seconds: float) -> HTTPResponse | bytes | None:
        try:
            came = self._came.get(timeout=seconds)
        except queue.Empty:
            return None
        if isinstance(came, Exception):
            raise came
        return came

    def _read(self, request: Request, timeout_s: float) -> None:
        try:
            with build_opener(_Redirects).open(request, timeout=timeout_s) as response:
                self._put(response)
                while not self._left.is_set():
                    block = response.read1(_BLOCK_BYTES)  # whatever has arrived, so that a stall loses nothing
                    self._put(block)
                    if not block:
                        return
        except Exception as error:
            self._put(error)

    def _put(self, came: HTTPResponse | bytes | Exception) -> None:
        while not self._left.is_set():
            with suppress(queue.Full):
                return self._came.put(came, timeout=0.2)
        return None
