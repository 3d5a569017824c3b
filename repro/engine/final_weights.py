"""The final weights of a run as safetensors: made for its folder, and read back into the network."""

from __future__ import annotations

import json

import safetensors.torch
from safetensors import SafetensorError
from torch import nn

from repro.data import Dataset
from repro.errors import DataError
from repro.experiment.schema import Run
from repro.results.weights_file import METADATA_KEY


def weights_to_bytes(model: nn.Module, run: Run, dataset: Dataset) -> bytes:
    """Parameters and buffers of ``model`` as a safetensors file: under their own names, in their own types, contiguous.

    Equal for equal weights of the same run. The metadata name the run, and what its images were normalized with.
    """
    # Copied: two names of one tensor are stored twice, which every reader understands.
    tensors = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in model.state_dict().items()}
    facts = {
        "run": run.id,
        "configuration_hash": run.hash,
        "network": run.cell.row.model,
        "num_classes": run.cell.dataset.num_classes,
        "image_size": run.cell.dataset.image_size,
        "mean": dataset.mean,
        "std": dataset.std,
    }
    raw: bytes = safetensors.torch.save(tensors, metadata={METADATA_KEY: json.dumps(facts, sort_keys=True)})
    return raw


def load_weights(model: nn.Module, raw: bytes, *, where: str) -> None:
    """Copy the weights in the file with bytes ``raw`` into ``model``, in place.

    Raises DataError if they are not a safetensors file, or are of another network.
    """
    try:
        tensors = safetensors.torch.load(raw)
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise DataError(f"not a safetensors file ({error})", where=where) from error
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        details = [line.strip() for line in str(error).splitlines()[1:2]]
        raise DataError(
            ": ".join(["these are the weights of another network", *details]),
            where=where,
            hint="Or another version of biasrepro trained them: its record names the commit.",
        ) from error
