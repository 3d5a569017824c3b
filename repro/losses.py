"""The losses: cross-entropy in which sample i is weighted by z_i, from the diversity of its last feature maps.

With v_i the unbiased variance and m_i the mean of the features of sample i, both scaled over the batch, the loss is
mean_i(z_i * CE_i), where z_i is

    ce                    1
    bias                  exp(alpha * v_i) - beta              main paper, and the authors' released code
    inverse_bias          1 / (exp(alpha * v_i) - beta)        supplement, eq. 1
    mean_bias             exp(alpha * m_i) - beta              supplement, eq. 2
    mean_variance_bias    z(m_i) * z(v_i), z as in `bias`      supplement, last paragraph

and the controls of `bias` (and likewise of `inverse_bias`), each with one property of its z taken away; ours:

    mean_one_bias         z_i / mean z                         the emphasis, without the change of the loss's scale
    constant_bias         mean z                               the scale, without the emphasis
    shuffled_bias         z_p(i), p a random permutation       scale and spread, without the link to the features

No gradient flows through z: the released code detaches the features. The sources differ in how v and m are scaled;
see ``Scale``. Features are feature maps (N, C, H, W), tokens (N, L, D), or any (N, ...) of two or more values a sample.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from repro.errors import UserError, nearest
from repro.experiment import catalog
from repro.experiment.schema import Normalization

NORMALIZATIONS: tuple[str, ...] = get_args(Normalization)


class Scale(nn.Module):
    """Scales a per-sample measure x (N,) of a batch to (about) [0, 1].

    batch       (x - min x) / (max x - min x) over the batch: the released code's "local".
    running     (x - least x ever seen) / (max x - min x): the released code's default, "global"; may exceed 1.
    activation  (x - min a) / (max a - min a) with a all activations of the batch: an interpretation of the main paper.

    Where the denominator is 0, the scaled value is 0: nothing tells the samples apart. So it is in a batch of one under
    the first two.
    """

    least: Tensor

    def __init__(self, normalization: str) -> None:
        super().__init__()
        self.normalization = normalization
        self.register_buffer("least", torch.tensor(float("inf")))

    def forward(self, measure: Tensor, activations: Tensor) -> Tensor:
        """Measure (N,) and activations (N, D), both float32, to the scaled measure (N,)."""
        spread_over = activations if self.normalization == "activation" else measure
        low, high = torch.aminmax(spread_over)
        start = low
        if self.normalization == "running":
            start = torch.minimum(self.least, low)
            if self.training:
                self.least.copy_(start)
        width = high - low
        # A branch on the data would make the host wait for the device at every step.
        return torch.where(width > 0, (measure - start) / width.clamp_min(torch.finfo(width.dtype).tiny), 0.0)


class CrossEntropy(nn.Module):
    """Cross-entropy of each sample, with label smoothing (Szegedy et al., CVPR 2016) as torch's ``cross_entropy``."""

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing

    def forward(self, *, logits: Tensor, features: Tensor, targets: Tensor) -> Tensor:
        """Losses (N,), float32, of logits (N, K) and targets int64 (N,). Raises UserError for other shapes or types."""
        require_class_numbers(logits, targets)
        # The softmax needs float32's precision under bf16.
        return functional.cross_entropy(logits.float(), targets, reduction="none", label_smoothing=self.label_smoothing)


def require_class_numbers(logits: Tensor, targets: Tensor) -> None:
    """Raise UserError unless logits are (N, K) and targets are class numbers, int64 (N,); soft labels are refused.

    It looks at shapes and types alone, so that the host does not wait for a GPU.
    """
    if logits.ndim != 2:
        raise UserError(f"logits must have the shape (N, K), not {tuple(logits.shape)}")
    wanted = f"class numbers, int64 of shape ({len(logits)},)"
    if targets.shape == logits.shape:
        raise UserError(
            "soft labels are not supported: these targets have a number for each class",
            hint=f"Give {wanted}. For smoothed labels: build_loss(..., label_smoothing=0.1).",
        )
    if targets.dtype != torch.int64 or targets.shape != logits.shape[:1]:
        found = f"{str(targets.dtype).removeprefix('torch.')} of shape {tuple(targets.shape)}"
        raise UserError(f"targets must be {wanted}, not {found}")


class BiasLoss(nn.Module):
    """z from the scaled ``measures``: ``variance``, ``mean``, or both. ``inverse`` takes 1 / z.

    ``measured`` (2, N), float32, are the variance and the mean of the features of each sample of the last batch.
    """

    measured: Tensor | None = None

    def __init__(
        self,
        measures: tuple[str, ...],
        alpha: float,
        beta: float,
        normalization: str,
        *,
        inverse: bool = False,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self.alpha = alpha
        self.beta = beta
        self.inverse = inverse
        self.label_smoothing = label_smoothing
        self.scales = nn.ModuleDict({measure: Scale(normalization) for measure in measures})

    def forward(self, *, logits: Tensor, features: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Losses z * CE (N,) and weights z (N,), float32, of logits (N, K), features (N, ...), targets int64 (N,).

        Raises UserError for other shapes or types, and for features of fewer than 2 values a sample.
        """
        require_class_numbers(logits, targets)
        if len(features) != len(targets):
            raise UserError(f"features of {len(features)} samples, but targets of {len(targets)}")
        # The softmax and the sums over a feature map need float32's precision under bf16.
        cross_entropy = functional.cross_entropy(
            logits.float(), targets, reduction="none", label_smoothing=self.label_smoothing
        )
        with torch.no_grad():
            z = self.weights(features.detach())
        return z * cross_entropy, z

    def weights(self, features: Tensor) -> Tensor:
        """The weights z (N,), float32, of features (N, ...).

        Raises UserError for fewer than 2 activations a sample, which have no variance.
        """
        if math.prod(features.shape[1:]) < 2:
            raise UserError(
                f"features of shape {tuple(features.shape)} have no variance within a sample",
                hint="Give feature maps (N, C, H, W), tokens (N, L, D) or vectors (N, D), not one value a sample.",
            )
        activations = features.flatten(1).float()
        variance, mean = _variance_and_mean(activations)
        self.measured = torch.stack([variance, mean])
        measured = {"variance": variance, "mean": mean}
        z = torch.ones_like(mean)
        for name, scale in self.scales.items():
            z = z * (torch.exp(self.alpha * scale(measured[name], activations)) - self.beta)
        return 1 / z if self.inverse else z


class BiasControl(BiasLoss):
    """The weights of a ``BiasLoss`` with one property taken away: ``control`` is mean_one, constant or shuffled.

    The permutation of ``shuffled`` is drawn from torch's generator of the device. Training seeds it before each step
    from the run's seed, the epoch and the step, so that a resumed run draws the same, and a CUDA graph a new one each
    time.
    """

    def __init__(
        self,
        control: Literal["mean_one", "constant", "shuffled"],
        measures: tuple[str, ...],
        alpha: float,
        beta: float,
        normalization: str,
        *,
        inverse: bool = False,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(measures, alpha, beta, normalization, inverse=inverse, label_smoothing=label_smoothing)
        self.control = control

    def weights(self, features: Tensor) -> Tensor:
        """The weights (N,), float32, of features (N, ...). Raises UserError as ``BiasLoss`` does."""
        z = super().weights(features)
        if self.control == "mean_one":
            return z / z.mean()
        if self.control == "constant":
            return z.mean().expand_as(z)
        return z[torch.rand(len(z), device=z.device).argsort()]


def _variance_and_mean(activations: Tensor) -> tuple[Tensor, Tensor]:
    """Unbiased variance (N,) and mean (N,) of activations (N, D), float32."""
    if activations.is_cuda:
        return torch.var_mean(activations, dim=1)
    # On a CPU, var_mean's single pass takes five times as long as these two.
    mean = activations.mean(dim=1)
    squares = (activations - mean[:, None]).square_().sum(dim=1)
    return squares / (activations.shape[1] - 1), mean


def per_sample(loss: nn.Module, *, logits: Tensor, features: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Losses (N,) and weights (N,) of a batch; the weights are 1 if ``loss`` returns losses alone.

    Raises UserError if ``loss`` returns anything but one number per sample, or two such tensors.
    """
    returned = loss(logits=logits, features=features, targets=targets)
    parts = returned if isinstance(returned, tuple) else (returned,)
    found = [tuple(part.shape) if isinstance(part, Tensor) else type(part).__name__ for part in parts]
    expected = (len(targets),)
    if found not in ([expected], [expected, expected]):
        raise UserError(
            f"the loss {type(loss).__name__} returned {' and '.join(map(str, found))} for {len(targets)} samples",
            hint=f"It must return one loss per sample, shape {expected}, or a pair of losses and weights. "
            "Do not take the mean: training does.",
        )
    return parts[0], parts[1] if len(parts) == 2 else torch.ones_like(parts[0])


def build_loss(
    name: str, alpha: float = 0.3, beta: float = 0.3, normalization: str = "batch", label_smoothing: float = 0.0
) -> nn.Module:
    """The loss of that name; with ``label_smoothing`` it weights the smoothed cross-entropy.

    Raises UserError for an unknown name or normalization, and for label smoothing below 0, from 1 on, or of a loss
    that has none.
    """
    if normalization not in NORMALIZATIONS:
        raise UserError(f"unknown normalization '{normalization}'", hint=nearest(normalization, NORMALIZATIONS))
    loss = catalog.loss(name)
    if not 0 <= label_smoothing < 1:
        raise UserError(f"label_smoothing must be at least 0 and below 1, not {label_smoothing}")
    if label_smoothing and not loss.label_smoothing:
        raise UserError(f"the loss '{name}' has no label smoothing", hint="Leave label_smoothing out.")
    options: dict[str, object] = {"label_smoothing": label_smoothing} if loss.label_smoothing else {}
    if loss.weighted:
        options |= {"alpha": alpha, "beta": beta, "normalization": normalization}
    built: nn.Module = catalog.builder_of(loss)(**loss.arguments, **options)
    return built
