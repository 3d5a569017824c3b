"""Joining a Ray cluster that does not let us in, with no Ray running."""

from __future__ import annotations

import os
from typing import Any

import pytest

pytest.importorskip("ray")

import ray
from ray._private import worker

from repro.sweep.ray_cluster import ClusterLost, join


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
