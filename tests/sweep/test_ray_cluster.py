"""A Ray cluster that does not let us in, or does not know us any more, with no Ray running."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")

import ray
from ray._private import worker

from repro.machine import package_path
from repro.sweep.ray import cluster as ray_cluster
from repro.sweep.ray.cluster import ClusterLost, join


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (b"W gcs_client.cc:210: InvalidAuthToken: Authentication token is missing\n", "know this process's token"),
        (b"W gcs_client.cc:210: no answer\n", "cannot be used: no cluster"),
    ],
)
def test_ray_s_own_warnings_become_one_message(
    words: bytes, what: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def init(**_: Any) -> None:
        os.write(2, words)
        raise ConnectionError("no cluster")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(worker, "listen_error_messages", worker.listen_error_messages)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    with pytest.raises(ClusterLost, match=what):
        join("auto")
    os.write(2, b"heard again\n")
    assert capfd.readouterr().err == "heard again\n"


def test_a_head_that_was_started_anew_and_knows_us_not_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def look() -> list[dict[str, float]]:
        asked.append(len(asked))
        if len(asked) > 1:
            raise RuntimeError("no such job")
        return []

    monkeypatch.setattr(ray_cluster, "HEAD_SECONDS", 0.05)
    monkeypatch.setattr(ray_cluster, "answers", lambda *_: True)
    head = ray_cluster.Head("127.0.0.1:6379", look)
    for _ in range(300):
        if len(asked) < 4 or not head.is_silent:
            time.sleep(0.01)
    head.close()
    assert len(asked) >= 4
    assert head.is_silent


def test_ray_s_workers_do_not_get_the_current_folder_on_their_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Path, str | None]] = []
    monkeypatch.setattr(ray, "init", lambda **_: seen.append((Path.cwd(), os.environ.get("RAY_USAGE_STATS_ENABLED"))))
    monkeypatch.setattr(worker, "listen_error_messages", worker.listen_error_messages)
    monkeypatch.setattr(os, "environ", {**os.environ, "RAY_USAGE_STATS_ENABLED": "1"})
    monkeypatch.chdir(tmp_path)
    join("auto")
    assert seen == [(package_path(), "0")]
    assert Path.cwd() == tmp_path
