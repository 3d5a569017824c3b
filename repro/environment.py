"""Environment variables: which of them this program and its children obey.

A variable of somebody else's purpose (a hook's GIT_DIR, a profile's SBATCH_QOS, a notebook's MPLBACKEND) would change
what is trained, recorded, submitted or shown, and no option or record would say so. ``settle`` removes all such from
this process, and so from its children. ``settled`` is for the child of a process that is not ours, on a cluster's node.

Everything else is obeyed: places (PATH, HOME, TMPDIR, CUDA_VISIBLE_DEVICES, HIP_VISIBLE_DEVICES), proxies, which only
``data fetch`` uses, and the look of a terminal.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, MutableMapping
from pathlib import Path

_IGNORED = (
    "PYTHON",  # how Python starts, optimizes, warns, encodes
    "GIT_",  # which repository: a hook or a rebase names another one
    *("SBATCH_", "SLURM_", "SUBMITIT_"),  # settings that sbatch obeys before the file that --dry-run shows
    *("SQUEUE_", "SCANCEL_", "SCONTROL_"),  # which jobs are listed and cancelled
    "RAY_",  # which cluster, on which interfaces; some hundred settings of its parts
    *("MPLBACKEND", "MATPLOTLIBRC"),
    # What selects other kernels, and so gives other numbers:
    *("TORCH", "PYTORCH_", "ATEN_", "CUBLAS", "CUDNN_", "NVIDIA_TF32_OVERRIDE", "TRITON_"),
    *("MIOPEN_", "ROCBLAS_", "HIPBLASLT_"),
    *("OMP_", "GOMP_", "KMP_", "MKL_", "DNNL_", "ONEDNN_", "OPENBLAS_", "NPY_"),
)
_OBEYED = frozenset(
    (
        # Where packages are, and Python's own places and encoding
        *("PYTHONPATH", "PYTHONHOME", "PYTHONUSERBASE", "PYTHONNOUSERSITE", "PYTHONUTF8", "PYTHONFAULTHANDLER"),
        *("PYTHONPYCACHEPREFIX", "PYTHONDONTWRITEBYTECODE", "PYTHONPLATLIBDIR"),
        # Which cluster, and who asks
        *("SLURM_CONF", "SLURM_CLUSTERS", "SLURM_JWT", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"),
        *("RAY_USE_TLS", "RAY_TLS_SERVER_CERT", "RAY_TLS_SERVER_KEY", "RAY_TLS_CA_CERT"),
        *("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "RAY_TMPDIR", "RAY_worker_niceness"),
        # Which job this is: they change nothing
        *("SLURM_JOB_ID", "RAY_RAYLET_PID"),
        # Threads, which records name, memory, and places
        *(
            "OMP_NUM_THREADS",
            "MKL_NUM_THREADS",
            "OPENBLAS_NUM_THREADS",
            "PYTORCH_ALLOC_CONF",
            "PYTORCH_CUDA_ALLOC_CONF",
        ),
        *("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "MIOPEN_USER_DB_PATH", "MIOPEN_CUSTOM_CACHE_DIR"),
    )
)
# Threads that wait for each other soon sleep. By default they spin for milliseconds, and beside other work each step
# then waits for one that does not run: docs/performance.md. It changes no number. Read by GNU's OpenMP alone.
_CHOSEN = {"GOMP_SPINCOUNT": "1000"}
# They are of this machine, not of the node that a cluster chooses.
_OF_THIS_MACHINE = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "TMPDIR")

_removed: set[str] = set()


def is_ignored(name: str) -> bool:
    """Whether the variable is one that nothing here may obey."""
    return name.startswith(_IGNORED) and name not in _OBEYED


def settled(environment: Mapping[str, str], *, for_a_node: bool = False) -> dict[str, str]:
    """``environment`` without what is ignored, and ``for_a_node`` of a cluster without what is of this machine."""
    kept = {name: value for name, value in environment.items() if not is_ignored(name)}
    return {name: value for name, value in kept.items() if not (for_a_node and name in _OF_THIS_MACHINE)}


def settle(environment: MutableMapping[str, str] = os.environ) -> None:
    """Remove from this process's environment what is ignored, and from its paths what depends on the current folder.

    How long threads spin is read as OpenMP is loaded: so this comes before torch. Compiled code is kept where
    nobody else puts some.
    """
    for name in list(filter(is_ignored, environment)):
        if environment[name] != _CHOSEN.get(name):
            _removed.add(name)
        del environment[name]
    environment.update(_CHOSEN)
    if paths := environment.get("PYTHONPATH"):  # an empty part of it means the current folder
        environment["PYTHONPATH"] = os.pathsep.join(
            str(Path(path).absolute()) for path in paths.split(os.pathsep) if path
        )
    with contextlib.suppress(RuntimeError):  # nobody's home; torch's default is in the folder of temporary files
        environment.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path("~/.cache/torchinductor").expanduser()))


def not_used(prefix: str) -> list[str]:
    """The variables that were set, begin with ``prefix``, and are ignored."""
    present = {name for name, value in os.environ.items() if is_ignored(name) and value != _CHOSEN.get(name)}
    return sorted(name for name in {*_removed, *present} if name.startswith(prefix))
