"""The final weights of a run as safetensors: made for its folder, read back into the network, and evaluated."""

from __future__ import annotations

import json

import safetensors.torch
from safetensors import SafetensorError
from torch import nn

from repro.data import Dataset
from repro.engine.changes import differences
from repro.engine.device import DeviceSettings
from repro.engine.evaluate import Evaluation
from repro.engine.learner import Learner
from repro.engine.provenance import environment_facts, hash_of_code
from repro.errors import DataError
from repro.experiment.schema import Run
from repro.models.classifier import WithFeatures
from repro.results import RunRecord
from repro.results.weights_file import METADATA_KEY


def plain_network(model: nn.Module) -> nn.Module:
    """The network whose names the weights have: the one that is wrapped for its features, if one is, else ``model``."""
    return model.network if isinstance(model, WithFeatures) else model


def weights_to_bytes(model: nn.Module, run: Run, dataset: Dataset) -> bytes:
    """Parameters and buffers of ``model`` as a safetensors file: under their own names, in their own types, contiguous.

    Equal for equal weights of the same run. The metadata name the run, and what its images were normalized with.
    """
    # Copied: two names of one tensor are stored twice, which every reader understands.
    state = plain_network(model).state_dict()
    tensors = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in state.items()}
    facts = {
        "run": run.id,
        "configuration_hash": run.hash,
        "network": run.cell.row.model,
        "num_classes": run.cell.dataset.num_classes,
        "image_size": run.cell.dataset.side_pixels,
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
        plain_network(model).load_state_dict(tensors)
    except RuntimeError as error:
        details = [line.strip() for line in str(error).splitlines()[1:2]]
        raise DataError(
            ": ".join(["these are the weights of another network", *details]),
            where=where,
            hint="Or another version of biasrepro trained them: its record names the commit.",
        ) from error


def evaluate_weights(run: Run, raw: bytes, dataset: Dataset, settings: DeviceSettings, *, where: str) -> Evaluation:
    """Evaluate the weights in the file with bytes ``raw`` as ``run`` evaluates after each epoch.

    Raises DataError as ``load_weights`` does.
    """
    learner = Learner(run, dataset, settings)
    load_weights(learner.state.model, raw, where=where)
    return learner.evaluate()


def what_differs(record: RunRecord, run: Run, settings: DeviceSettings) -> list[str]:
    """What may change an accuracy between the machine that made ``record`` and this one, a line each."""
    made, here = record.provenance, environment_facts(settings.device)
    libraries = ("torch", "CUDA", "cuDNN")
    before = {
        "device_name": made.device_name,
        "packages": {name: made.packages.get(name) for name in libraries},
        "execution": record.execution_in_force,
        "code": made.code_hash[:12],
    }
    in_force = settings.to_record()
    now = {
        "device_name": here["device_name"],
        "packages": {name: here["packages"].get(name) for name in libraries},
        "execution": {key: in_force.get(key) for key in record.execution_in_force},
        "code": hash_of_code(run)[:12],
    }
    return list(differences(before, now).values())
