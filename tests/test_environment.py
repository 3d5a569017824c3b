"""Variables that would change what is trained, recorded or submitted reach neither this program nor its children."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from repro.environment import is_ignored, not_used, settle, settled
from repro.machine import package_path

IGNORED = (
    *("PYTHONINSPECT", "PYTHONOPTIMIZE", "PYTHONWARNINGS", "PYTHONIOENCODING", "PYTHONSTARTUP"),
    *("GIT_DIR", "GIT_INDEX_FILE", "SBATCH_QOS", "SBATCH_NO_REQUEUE", "SLURM_HINT", "SUBMITIT_PREEMPT_SIGNAL"),
    *("SQUEUE_STATES", "SCANCEL_INTERACTIVE", "SCONTROL_ALL", "RAY_ADDRESS", "RAY_RUNTIME_ENV", "MPLBACKEND"),
    *("NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "PYTORCH_TUNABLEOP_ENABLED", "ATEN_CPU_CAPABILITY"),
    *("MIOPEN_FIND_MODE", "ROCBLAS_LAYER", "HIPBLASLT_TENSILE_LIBPATH"),
    *("CUBLAS_WORKSPACE_CONFIG", "OMP_DYNAMIC", "MKL_CBWR", "ONEDNN_MAX_CPU_ISA", "OPENBLAS_CORETYPE"),
)
OBEYED = (
    *("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONNOUSERSITE", "SLURM_CONF", "RAY_AUTH_TOKEN"),
    *("CUDA_VISIBLE_DEVICES", "CUDA_LAUNCH_BLOCKING", "OMP_NUM_THREADS", "PYTORCH_CUDA_ALLOC_CONF"),
    *("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HSA_OVERRIDE_GFX_VERSION", "MIOPEN_USER_DB_PATH"),
    *("http_proxy", "HTTPS_PROXY", "NO_COLOR", "BIASREPRO_DATA", "MPLCONFIGDIR"),
)


def test_what_only_places_things_is_obeyed_and_the_rest_is_not() -> None:
    assert [name for name in IGNORED if not is_ignored(name)] == []
    assert [name for name in OBEYED if is_ignored(name)] == []


def test_a_process_loses_them_and_knows_which() -> None:
    environment = dict.fromkeys((*IGNORED, *OBEYED), "/1")
    settle(environment)
    assert sorted(environment) == sorted((*OBEYED, "GOMP_SPINCOUNT", "TORCHINDUCTOR_CACHE_DIR"))
    assert environment["GOMP_SPINCOUNT"] == "1000"
    assert environment["TORCHINDUCTOR_CACHE_DIR"] == str(Path.home() / ".cache" / "torchinductor")
    assert not_used("SBATCH_") == ["SBATCH_NO_REQUEUE", "SBATCH_QOS"]


@pytest.mark.parametrize(("given", "said"), [("0", ["GOMP_SPINCOUNT"]), ("1000", []), (None, [])])
def test_threads_spin_as_long_as_is_chosen_here(
    given: str | None, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.environ", {} if given is None else {"GOMP_SPINCOUNT": given})
    settle(os.environ)
    settle(os.environ)  # as a child of this program does
    assert os.environ["GOMP_SPINCOUNT"] == "1000"
    assert not_used("GOMP_") == said


@pytest.mark.parametrize(("given", "kept"), [(":/a:", "/a"), ("/a::/b", "/a:/b"), ("src", "{here}/src"), (":", "")])
def test_no_path_leads_to_the_current_folder(given: str, kept: str) -> None:
    environment = {"PYTHONPATH": given}
    settle(environment)
    assert environment["PYTHONPATH"] == kept.format(here=Path.cwd())


def test_a_node_gets_neither_the_gpu_nor_the_temporary_folder_of_this_machine() -> None:
    given = {"CUDA_VISIBLE_DEVICES": "3", "TMPDIR": "/tmp/of-this-session", "HOME": "/home/me", "SBATCH_QOS": "low"}
    assert settled(given, for_a_node=True) == {"HOME": "/home/me"}
    assert settled({"HIP_VISIBLE_DEVICES": "3", "ROCR_VISIBLE_DEVICES": "1"}, for_a_node=True) == {}
    assert sorted(settled(given)) == ["CUDA_VISIBLE_DEVICES", "HOME", "TMPDIR"]


def test_the_command_begins_with_it(tmp_path: Path) -> None:
    program = "import atexit, os, sys; atexit.register(lambda: print(sorted(os.environ))); sys.argv = ['', '--version']"
    program += "; from repro.cli import main; main()"
    command = [sys.executable, "-c", program]
    environment = {
        **os.environ,
        "PYTHONPATH": str(package_path()),
        "MPLBACKEND": "nonsense",
        "SQUEUE_STATES": "RUNNING",
    }
    said = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert "'PYTHONPATH'" in said
    assert "MPLBACKEND" not in said
    assert "SQUEUE_STATES" not in said


@pytest.fixture(autouse=True)
def nothing_removed_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("repro.environment._removed", set())
