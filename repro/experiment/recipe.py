"""How a run is trained: the recipe, the constants of the weight z, and how the arithmetic is carried out."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from repro.experiment.catalog import Precision
from repro.experiment.fields import Strict

Epoch = Annotated[int, Field(ge=1, le=10_000)]
Beta = Annotated[float, Field(ge=0, lt=1)]
Normalization = Literal["batch", "running", "activation"]


class Augmentation(Strict):
    """Random crop, then flip, then rotation: torchvision's PIL pipeline."""

    crop_padding_pixels: Annotated[
        int,
        Field(ge=0, le=32, description="Black pixels on each side, then a random crop of the original size; 0: none."),
    ] = 4
    horizontal_flip: Annotated[bool, Field(description="Flip with probability 1/2.")] = True
    rotation_degrees: Annotated[
        float, Field(ge=0, le=180, description="Rotate by a random angle in [-r, r] degrees; 0: none.")
    ] = 0.0


class Recipe(Strict):
    """How a network is trained: an optimizer, and a schedule of its learning rate after an optional linear warm-up."""

    epochs: Annotated[Epoch, Field(description="Passes over the training images.")]
    batch_size: Annotated[int, Field(ge=1, le=65_536, description="Images in a batch.")] = 128
    optimizer: Annotated[Literal["sgd", "adamw"], Field(description="SGD with momentum, or AdamW.")] = "sgd"
    learning_rate: Annotated[float, Field(gt=0, le=100, description="The full learning rate, after the warm-up.")]
    schedule: Annotated[
        Literal["steps", "cosine"], Field(description="How the learning rate falls after the warm-up.")
    ] = "steps"
    decay_epochs: Annotated[
        tuple[Epoch, ...],
        Field(
            strict=False,
            max_length=100,
            description="steps only: multiply the rate by decay_factor after each of these epochs.",
        ),
    ] = ()
    decay_factor: Annotated[
        float, Field(gt=0, le=1, description="steps only: the factor of the rate after each of decay_epochs.")
    ] = 0.1
    final_learning_rate: Annotated[float, Field(ge=0, le=100, description="cosine only: the rate at the end.")] = 0.0
    warmup_epochs: Annotated[
        int, Field(ge=0, le=1_000, description="The rate rises linearly to the full one during these first epochs.")
    ] = 0
    momentum: Annotated[float, Field(ge=0, lt=1, description="sgd only: the momentum.")] = 0.9
    nesterov: Annotated[bool, Field(description="sgd only: Nesterov's momentum.")] = False
    betas: Annotated[
        tuple[Beta, ...],
        Field(
            strict=False,
            min_length=2,
            max_length=2,
            description="adamw only: the decay rates of the first and of the second moment.",
        ),
    ] = (0.9, 0.999)
    epsilon: Annotated[float, Field(gt=0, le=1, description="adamw only: added to the root of the second moment.")] = (
        1e-8
    )
    weight_decay: Annotated[
        float,
        Field(ge=0, le=1, description="On every parameter, as PyTorch does; decoupled from the gradient with adamw."),
    ] = 0.0
    label_smoothing: Annotated[
        float, Field(ge=0, lt=1, description="Smooth the labels of the training loss; the test loss is not smoothed.")
    ] = 0.0
    drop_last: Annotated[bool, Field(description="Leave out the last, shorter batch of an epoch.")] = False
    augmentation: Annotated[Augmentation, Field(description="Random changes of the training images.")] = Augmentation()


class Weighting(Strict):
    """The constants of the weight z, and how variance and mean are scaled to [0, 1]."""

    alpha: Annotated[
        float, Field(ge=0, le=10, description="alpha in the weight: exp(alpha v) - beta for the bias loss.")
    ] = 0.3
    beta: Annotated[
        float, Field(ge=-10, lt=1, description="beta in the weight; below 1, so that no weight is infinite.")
    ] = 0.3
    normalization: Annotated[
        Normalization,
        Field(
            description="How variance and mean are scaled to [0, 1]: over the batch, by a running minimum, "
            "or by the range of the activations."
        ),
    ] = "batch"


class Execution(Strict):
    """How the arithmetic is carried out: the same mathematics, but the last bits (with bf16, more) may change."""

    precision: Annotated[
        Precision,
        Field(
            description="fp32: float32 as PyTorch computes it by default. ieee: without TF32. tf32: TF32 throughout. "
            "bf16: autocast; the losses stay float32."
        ),
    ] = "fp32"
    memory_format: Annotated[
        Literal["auto", "contiguous", "channels_last"],
        Field(description="auto: channels_last on a CPU, contiguous on a GPU; in tf32 and bf16 by the network."),
    ] = "auto"
    compile: Annotated[bool, Field(description="Compile the network with torch.compile.")] = False
    cuda_graph: Annotated[
        bool, Field(description="On a GPU, capture the training step once and replay it: the same numbers, faster.")
    ] = True
    deterministic: Annotated[bool, Field(description="Deterministic algorithms on a GPU, slower.")] = False
    recompute: Annotated[
        bool, Field(description="DenseNets only: recompute activations in the backward pass, to save memory.")
    ] = False
