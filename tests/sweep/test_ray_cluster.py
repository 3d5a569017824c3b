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
from repro.sweep.cluster_node import NodeSettings
from repro.sweep.ray import cluster as ray_cluster
from repro.sweep.ray.backend import RayBackend, RayOptions
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


def refuse(folder: Path) -> None:
    raise PermissionError(1, f"{folder} is another user's")


@pytest.mark.parametrize("mode", [None, "disabled"])
def test_a_ray_of_this_machine_takes_commands_of_nobody_else(mode: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, str]] = []
    folders: list[Path] = []

    def init(*, _temp_dir: str, **_: Any) -> None:
        seen.append(dict(os.environ))
        folders.append(Path(_temp_dir))

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setattr(worker, "listen_error_messages", worker.listen_error_messages)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    monkeypatch.setattr(os, "environ", inherited | ({"RAY_AUTH_MODE": mode} if mode else {}))
    join(None)
    (environment,) = seen
    assert environment["RAY_AUTH_MODE"] == (mode or "token")
    assert len(environment.get("RAY_AUTH_TOKEN", "")) == (0 if mode else 64)
    assert environment["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"
    assert folders[0].parent.stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr(ray_cluster, "make_private", refuse)
    with pytest.raises(ClusterLost, match="a Ray on this machine cannot be used"):
        join(None)


def test_an_address_in_the_environment_is_named_and_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    text = RayBackend(RayOptions(address="auto")).submission([], NodeSettings("0" * 12, "/r"))
    assert "not used: RAY_ADDRESS; --address says which cluster" in text
    monkeypatch.setattr(ray, "init", refuse_to_join)
    monkeypatch.setattr(worker, "listen_error_messages", worker.listen_error_messages)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    with pytest.raises(ClusterLost) as lost:
        join("auto")
    assert "Set, but ignored: RAY_ADDRESS" in str(lost.value.hint)


def refuse_to_join(**_: Any) -> None:
    raise ConnectionError("no cluster")
