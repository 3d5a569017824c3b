"""TensorBoard logs: the scalars of each epoch, while a run trains."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from repro.errors import UserError
from repro.progress import Listener, Progress

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_SCALARS = {
    "loss/train": "train_loss",
    "loss/test": "test_loss",
    "learning_rate": "learning_rate",
    "weight_z/mean": "weight_mean",
    "top1_percent/train": "train_top1_percent",
    "top1_percent/test": "test_top1_percent",
    "speed/images_per_second": "images_per_second",
}


def require_tensorboard(folder: Path | None) -> Path | None:
    """Raise UserError if the option is given and the package is not installed; returns ``folder``."""
    if folder is not None and find_spec("tensorboard") is None:
        raise UserError(
            "TensorBoard is not installed", where="--tensorboard", hint="pip install 'biasrepro[tensorboard]'"
        )
    return folder


class TensorBoardLog:
    """A listener that logs epochs and passes every message on. If it cannot write, only the log ends, not the run."""

    def __init__(self, folder: Path, then: Listener) -> None:
        self._folder, self._then = folder, then
        self._writer: SummaryWriter | None = None
        self._broken = False

    def hear(self, progress: Progress) -> None:
        """Log a finished epoch and flush the file."""
        self._then(progress)
        if progress.phase == "epoch_done" and not self._broken:
            try:
                self._log(progress)
            except OSError as error:
                from repro.cli.console import say

                self._broken = True
                say(f"TensorBoard's log in {self._folder} ends here: {error.strerror}", stderr=True)

    def _log(self, progress: Progress) -> None:
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            # A resumed run replaces what the attempt before it logged after its last checkpoint.
            self._writer = SummaryWriter(self._folder, purge_step=progress.epoch)
        for tag, name in _SCALARS.items():
            value = getattr(progress, name)
            if value is not None:
                self._writer.add_scalar(tag, value, progress.epoch)
        self._writer.flush()
