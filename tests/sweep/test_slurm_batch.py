"""What sbatch is given: the file that --dry-run shows, an environment of our making, and a folder of its own."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("submitit")

from repro.errors import UserError
from repro.experiment.schema import Run
from repro.sweep.backends import Reservation
from repro.sweep.cluster_node import NodeSettings
from repro.sweep.executor import Job
from repro.sweep.slurm.backend import SlurmBackend, SlurmOptions
from repro.sweep.slurm.batch import submit
from repro.sweep.slurm.queue import SlurmError

SBATCH = """\
#!/bin/sh
env > {folder}/environment
cp "$1" {folder}/file
{then}
"""


@pytest.fixture
def jobs(demo_runs: list[Run], make_job: Callable[[Run], Job]) -> list[Job]:
    return [make_job(run) for run in demo_runs[:2]]


@pytest.fixture
def sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """An sbatch that notes what it was given, in the folder that is returned."""

    def make(then: str) -> Path:
        folder = tmp_path / "slurm"
        folder.mkdir()
        for name, text in (("sbatch", SBATCH.format(folder=folder, then=then)), ("scancel", "#!/bin/sh\n")):
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
        return folder

    return make


def test_the_environment_overrules_no_option_and_the_dry_run_names_what_is_not_used(
    sbatch: Callable[[str], Path], jobs: list[Job], results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = sbatch("echo Submitted batch job 41")
    for name in ("SBATCH_QOS", "SBATCH_NO_REQUEUE", "SLURM_HINT", "CUDA_VISIBLE_DEVICES", "TMPDIR", "SLURM_CONF"):
        monkeypatch.setenv(name, "low")
    options, settings = SlurmOptions(qos="high"), NodeSettings("0" * 12, str(results))
    text = SlurmBackend(options).submission(jobs, settings)
    assert "#SBATCH --qos=high" in text
    assert text.endswith(
        "\n# not used: SBATCH_NO_REQUEUE, SBATCH_QOS; give --partition, --qos, --sbatch KEY=VALUE instead\n"
    )
    batch, number = submit([(job,) for job in jobs], options, settings, at_a_time=None)
    names = {line.partition("=")[0] for line in (seen / "environment").read_text().splitlines()}
    assert names & {"SBATCH_QOS", "SBATCH_NO_REQUEUE", "SLURM_HINT", "CUDA_VISIBLE_DEVICES", "TMPDIR"} == set()
    assert {"PATH", "SLURM_CONF"} <= names
    assert number == "41"
    assert (seen / "file").read_text().replace(batch.id, "0" * 12) == text.partition("\n# not used")[0]
    assert {"41_0_submitted.pkl", "41_1_submitted.pkl", "plan.json"} <= {path.name for path in batch.folder.iterdir()}
    assert batch.folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("then", ["echo sbatch: error: no >&2; exit 1", "echo something else"])
def test_what_sbatch_does_not_take_leaves_no_files(
    then: str, sbatch: Callable[[str], Path], jobs: list[Job], results: Path
) -> None:
    sbatch(then)
    with pytest.raises(SlurmError, match="`sbatch") as refused:
        submit([tuple(jobs)], SlurmOptions(), NodeSettings("0" * 12, str(results)), at_a_time=None)
    assert "were not submitted" in str(refused.value.hint)
    assert list((results / ".sweeps" / "slurm").iterdir()) == []


def test_a_percent_sign_in_the_path_is_itself(jobs: list[Job]) -> None:
    text = SlurmBackend(SlurmOptions()).submission(jobs, NodeSettings("0" * 12, "/shared/acc50%user"))
    assert "\n#SBATCH --output=/shared/acc50%%user/.sweeps/slurm/000000000000/%A_%a_0_log.out\n" in text
    assert " submitit.core._submit /shared/acc50%user/.sweeps/slurm/000000000000\n" in text


@pytest.mark.parametrize("name", ["50%accuracy", "%j", "a\\b", "x\nscancel --me"])
def test_a_path_that_slurm_would_read_otherwise_is_refused(name: str, jobs: list[Job]) -> None:
    with pytest.raises(UserError, match="results folder") as refused:
        SlurmBackend(SlurmOptions()).submission(jobs, NodeSettings("0" * 12, f"/shared/{name}"))
    assert "--results" in str(refused.value.hint)


def given(*sbatch: str, gpus: int | None) -> SlurmBackend:
    """The backend with these values of --sbatch, and no other options of its own."""
    own = {**dict.fromkeys(option.name for option in SlurmBackend.own_options), "sbatch": sbatch}
    return SlurmBackend.configured(Reservation(gpus_per_job=gpus, cpus_per_job=8), own)


@pytest.mark.parametrize(
    ("setting", "ours"),
    [
        ("gpus-per-node=a100:1", "gpus-per-node=1"),
        ("gpus_per_node=a100:1", "gpus-per-node=1"),
        ("gres=gpu:a100:1", "gpus-per-node=1"),
        ("gpus=a100:1", "gpus-per-node=1"),
        ("tres-per-task=gres/gpu:a100:1", "gpus-per-node=1"),
        ("cpus-per-task=4", "cpus-per-task=8"),
        ("time=2:00", None),
        ("gres=lscratch:100", None),
    ],
)
def test_a_setting_of_sbatch_is_written_once(setting: str, ours: str | None, jobs: list[Job], results: Path) -> None:
    text = given(setting, gpus=1).submission(jobs, NodeSettings("0" * 12, str(results)))
    key, _, value = setting.partition("=")
    assert text.count(f"\n#SBATCH --{key.replace('_', '-')}=") == 1
    assert f"\n#SBATCH --{key.replace('_', '-')}={value}\n" in text
    own = {"gpus-per-node=1", "cpus-per-task=8"}
    assert {line for line in own if f"\n#SBATCH --{line}\n" in text} == own - {ours}


@pytest.mark.parametrize("setting", ["gres=gpu:a100:1", "gpus-per-node=2", "gpus=1", "gpus_per_task=v100:1"])
def test_gpus_that_no_option_counts_are_refused(setting: str) -> None:
    with pytest.raises(UserError, match="requests GPUs without --gpus-per-job") as refused:
        given("constraint=fast", setting, gpus=None)
    assert "--gpus-per-job 1 --sbatch" in str(refused.value.hint)


@pytest.mark.parametrize("setting", ["gres=lscratch:100", "gpu-bind=closest", "cpus-per-gpu=4", "gres-flags=one"])
def test_settings_that_request_no_gpus_are_not_refused(setting: str) -> None:
    assert not given(setting, gpus=None).uses_gpus


def test_a_reserved_setting_is_refused_however_it_is_written() -> None:
    with pytest.raises(UserError, match="biasrepro sets ntasks-per-node itself"):
        given("ntasks_per_node=4", gpus=None)
