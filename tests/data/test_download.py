"""Downloading, against a server on this machine that behaves well, badly, and in between."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from repro.data.download import download
from repro.errors import DataError

CONTENT = bytes(i * i % 251 for i in range(600_000))
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves CONTENT; each request takes the next of ``manners``, the last one again and again."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.manners = ["ranges"]
        self.requested_ranges: list[str | None] = []
        self.released = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/archive.zip"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        server = self.server
        requested = self.headers.get("Range")
        server.requested_ranges.append(requested)
        manner = server.manners.pop(0) if len(server.manners) > 1 else server.manners[0]
        start = int(requested.removeprefix("bytes=").removesuffix("-")) if requested else 0
        if manner.isdigit():
            self.send_error(int(manner))
            return
        if manner.startswith("HTTP/"):
            self.wfile.write(manner.encode())
            return
        if manner.startswith("for ever"):
            if "continue" not in manner:
                self.send_response(200)
                self.flush_headers()
            if "content" in manner:
                self.end_headers()
            said = b"HTTP/1.1 100 Continue\r\n\r\n" if "continue" in manner else b"x"
            while not server.released.wait(0.01):
                self.wfile.write(said)
            return
        body = CONTENT
        if manner == "wrong bytes":
            body = CONTENT[:-1] + b"?"
        elif manner in ("short file", "no length, short file"):
            body = CONTENT[:-100]
        elif manner in ("long file", "no length, long file"):
            body = CONTENT + b"more"
        if requested and manner not in ("no ranges", "other range"):
            if start >= len(body):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            body = body[start:]
        elif requested and manner == "other range":
            self.send_response(206)
            self.send_header("Content-Range", f"bytes 0-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        if "no length" not in manner:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if manner == "breaks off":
            self.wfile.write(body[:200_000])
        elif manner == "breaks off at once":
            pass
        elif manner == "stalls":
            self.wfile.write(body[:200_000])
            self.wfile.flush()
            server.released.wait(10)
        else:
            self.wfile.write(body)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.released.set()
        running.shutdown()
        thread.join()


def get(server: Server, destination: Path, md5: str = MD5, size_bytes: int | None = len(CONTENT)) -> list[int]:
    """Downloads without pauses; returns the progress."""
    seen: list[int] = []
    download(
        server.url,
        destination,
        md5=md5,
        size_bytes=size_bytes,
        progress=lambda done, total: seen.append(done),
        timeout_s=0.3,
        attempts=3,
        pause_s=0.0,
    )
    return seen


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("size_bytes", [len(CONTENT), None])
def test_a_whole_download_is_moved_into_place(server: Server, tmp_path: Path, size_bytes: int | None) -> None:
    seen = get(server, tmp_path / "archive.zip", size_bytes=size_bytes)
    assert (tmp_path / "archive.zip").read_bytes() == CONTENT
    assert names(tmp_path) == ["archive.zip"]
    assert seen == sorted(seen)
    assert seen[-1] == len(CONTENT)


def test_a_broken_download_goes_on_where_it_ended(server: Server, tmp_path: Path) -> None:
    server.manners = ["breaks off", "503", "breaks off", "ranges"]
    get(server, tmp_path / "archive.zip")
    assert (tmp_path / "archive.zip").read_bytes() == CONTENT
    assert server.requested_ranges == [None, "bytes=200000-", "bytes=200000-", "bytes=400000-"]


def test_a_later_call_goes_on_where_an_earlier_one_ended(server: Server, tmp_path: Path) -> None:
    (tmp_path / "archive.zip.part").write_bytes(CONTENT[:599_999])
    get(server, tmp_path / "archive.zip")
    assert server.requested_ranges == ["bytes=599999-"]
    assert names(tmp_path) == ["archive.zip"]


def test_a_server_that_ignores_ranges_is_read_from_the_beginning(server: Server, tmp_path: Path) -> None:
    server.manners = ["breaks off", "no ranges"]
    get(server, tmp_path / "archive.zip")
    assert (tmp_path / "archive.zip").read_bytes() == CONTENT


def test_a_server_that_answers_another_range_is_asked_again(server: Server, tmp_path: Path) -> None:
    server.manners = ["breaks off", "other range", "ranges"]
    get(server, tmp_path / "archive.zip")
    assert (tmp_path / "archive.zip").read_bytes() == CONTENT
    assert server.requested_ranges == [None, "bytes=200000-", None]


def test_a_server_that_falls_silent_is_left_and_resumed(server: Server, tmp_path: Path) -> None:
    server.manners = ["stalls", "ranges"]
    get(server, tmp_path / "archive.zip")
    assert (tmp_path / "archive.zip").read_bytes() == CONTENT
    assert server.requested_ranges == [None, "bytes=200000-"]


def test_wrong_bytes_are_an_error_and_leave_nothing(server: Server, tmp_path: Path) -> None:
    server.manners = ["wrong bytes"]
    with pytest.raises(DataError, match=f"its MD5 is not {MD5}"):
        get(server, tmp_path / "archive.zip")
    assert names(tmp_path) == []


@pytest.mark.parametrize("part", [b"?" * 1000, b"?" * len(CONTENT), b"?" * (len(CONTENT) + 1)])
def test_a_wrong_part_is_thrown_away_once(server: Server, tmp_path: Path, part: bytes) -> None:
    (tmp_path / "archive.zip.part").write_bytes(part)
    get(server, tmp_path / "archive.zip")
    assert (tmp_path / "archive.zip").read_bytes() == CONTENT


def test_a_complete_part_of_unknown_size_is_recognized(server: Server, tmp_path: Path) -> None:
    (tmp_path / "archive.zip.part").write_bytes(CONTENT)
    get(server, tmp_path / "archive.zip", size_bytes=None)
    assert server.requested_ranges == [f"bytes={len(CONTENT)}-"]  # answered 416
    assert names(tmp_path) == ["archive.zip"]


@pytest.mark.parametrize("manner", ["short file", "long file", "no length, long file"])
def test_a_file_of_another_size_is_refused(server: Server, tmp_path: Path, manner: str) -> None:
    server.manners = [manner]
    with pytest.raises(DataError, match=r"the server offers another file: \d+ bytes or more, not 600000"):
        get(server, tmp_path / "archive.zip")
    assert not (tmp_path / "archive.zip").exists()


def test_a_short_file_without_a_length_is_a_broken_transfer(server: Server, tmp_path: Path) -> None:
    server.manners = ["no length, short file"]
    with pytest.raises(DataError, match="the download failed"):
        get(server, tmp_path / "archive.zip")
    assert names(tmp_path) == ["archive.zip.part"]


def test_a_missing_file_is_an_error_at_once(server: Server, tmp_path: Path) -> None:
    server.manners = ["404"]
    with pytest.raises(DataError, match="the server answers 404"):
        get(server, tmp_path / "archive.zip")
    assert len(server.requested_ranges) == 1


def test_giving_up_keeps_what_has_come_and_says_so(server: Server, tmp_path: Path) -> None:
    server.manners = ["breaks off", "breaks off at once"]
    with pytest.raises(DataError, match=r"[0-9.]+ kB are kept, and the same command resumes") as error:
        get(server, tmp_path / "archive.zip")
    assert "--from FILE" in str(error.value)
    assert names(tmp_path) == ["archive.zip.part"]
    assert len(server.requested_ranges) == 3  # the first brought something, and counts


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        ("HTTP/1.1 200 OK\r\nContent-Length: abc\r\n\r\nPK", r"makes no sense \(Content-Length: abc\)"),
        ("HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nPK", r"makes no sense \(Content-Length: -5\)"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nPK", r"makes no sense \(.*: 2, 3\)"),
        ("HTTP/1.1 200 OK\r\n\r\n<html>Moved</html>", "sent a text and no archive: <html>Moved</html>"),
        (f"HTTP/1.1 200 OK\r\n\r\n\ufeff <!DOCTYPE html>{'é' * 100}", "sent a text and no archive: .*<!DOCTYPE html>"),
        (f"HTTP/1.1 200 OK\r\n\r\n{'Quota exceeded. ' * 99}", "sent a text and no archive: Quota exceeded"),
        ("HTTP/1.1 302 F\r\nLocation: ftp://127.0.0.1/x\r\n\r\n", "redirects to ftp://127.0.0.1/x, which is no web"),
        ("HTTP/1.1 302 F\r\nLocation: file:///etc/passwd\r\n\r\n", "the server answers 302"),
        ("HTTP/1.1 302 F\r\nLocation: http://[broken\r\n\r\n", "makes no sense"),
        ("HTTP/1.1 302 F\r\nLocation: http://127.0.0.1:99999999/\r\n\r\n", "makes no sense|the download failed"),
        ("HTTP/1.1 302 F\r\nLocation: http://a b/\r\n\r\n", "makes no sense|the download failed"),
        ("HTTP/1.1 302 F\r\nLocation: /archive.zip\r\n\r\n", "the server answers 302 .* infinite loop"),
        (f"HTTP/1.1 {'9' * 100_000}\r\n\r\n", r"the download failed \(.{0,200}\)\n"),
        ("HTTP/1.1 200 OK\r\n" + "X: y\r\n" * 200, "the download failed .got more than 100 headers"),
    ],
    ids=lambda value: None,
)
def test_an_answer_that_makes_no_sense_is_one_message(server: Server, tmp_path: Path, answer: str, what: str) -> None:
    server.manners = [answer]
    with pytest.raises(DataError, match=what):
        get(server, tmp_path / "archive.zip")
    assert not (tmp_path / "archive.zip").exists()
    assert b"<" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())


@pytest.mark.timeout(30)
@pytest.mark.parametrize("manner", ["for ever headers", "for ever continue headers", "for ever content, no length"])
def test_an_answer_without_end_is_left(server: Server, tmp_path: Path, manner: str) -> None:
    server.manners = [manner]
    with pytest.raises(DataError, match=r"the download failed \(the server sent (no whole answer|\d+ bytes) in"):
        download(server.url, tmp_path / "a.zip", md5=MD5, size_bytes=None, timeout_s=0.1, attempts=2, pause_s=0.0)
    assert len(server.requested_ranges) == 2


def test_a_server_that_is_not_there_is_a_data_error(tmp_path: Path) -> None:
    with Server() as never_served:
        url = never_served.url
    with pytest.raises(DataError, match="the download failed"):
        download(url, tmp_path / "x", md5=MD5, size_bytes=None, attempts=2, pause_s=0.0, timeout_s=0.3)


def test_only_web_addresses_are_opened(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not an http or https address"):
        download("file:///etc/passwd", tmp_path / "x", md5=None, size_bytes=None)


@pytest.mark.timeout(30)
def test_no_link_or_pipe_in_the_part_s_place_is_written_to(server: Server, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.touch()
    (tmp_path / "a.zip.part").symlink_to(victim)
    os.mkfifo(tmp_path / "b.zip.part")
    for name in ("a.zip", "b.zip"):
        with pytest.raises(DataError, match="it is a pipe or a symbolic link"):
            download(server.url, tmp_path / name, md5=MD5, size_bytes=len(CONTENT), attempts=1)
    assert victim.read_bytes() == b""
