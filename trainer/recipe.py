"""Everything that decides a run, typed and frozen. It travels in checkpoint and model."""

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import Any, Literal

from contracts.manifest import Preprocessing


@dataclass(frozen=True, slots=True)
class View:
    """How one view of an image is made: t ~ T of Algorithm 1, in the order of application."""

    size: int
    """Side of the view in pixels."""
    scale: tuple[float, float] = (0.08, 1.0)
    """Share of the image's area that the random crop takes."""
    flip: float = 0.5
    """Probability of mirroring."""
    jitter: float = 0.8
    """Probability of colour jitter with the four strengths below (torchvision's meaning)."""
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    grey: float = 0.2
    """Probability of dropping colour."""
    blur: float = 0.0
    """Probability of a Gaussian blur with sigma in `blur_sigma` pixels."""
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    solarize: float = 0.0
    """Probability of inverting values of at least one half."""
    edits: float = 0.0
    """Probability of each edit of `trainer.edits`."""


Precision = Literal["bf16", "fp32"]

Stem = Literal["imagenet", "cifar", "strided"]

Pooling = Literal["average", "gem", "levels"]

Representation = Literal["h", "z", "bits"]
"""What a linear layer reads of an image: pooled features, the latent, or the bits of its stored code."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """One run."""

    name: str
    image_size: int
    """Side at which images are encoded."""
    global_views: tuple[View, ...]
    local_views: tuple[View, ...] = ()
    resize: Literal["crop", "squash"] = "crop"
    """What of an image that is no square is encoded: its middle, or all of it, squashed."""
    held_size: int = 0
    """Side of the squares from which views are cropped; 0 is `image_size`."""

    backbone: Literal["resnet", "efficientnet-lite0"] = "resnet"
    """An EfficientNet-Lite0 has one size: depth, stem and width are a ResNet's."""
    initial_weights: str = ""
    """Digest of the weights that the run starts from; empty for random ones."""
    pooling: Pooling = "average"
    """How the backbone's feature maps become h (`trainer.pooling`)."""
    latent_start: Literal["random", "whitened"] = "random"
    """What pi and rho are before the first step: random; or, from given weights, a random rotation of the
    whitened features, whose signs are good codes already, and the least squares of the features."""
    frozen_stages: int = 0
    """Stages of the backbone, from the first on and with the stem, that stay as they are."""
    head_rate: float = 1.0
    """Learning rate of g, as a multiple of that of f, pi and rho, which may start from good weights."""
    batch_statistics: bool = True
    """Whether the backbone's BatchNorms normalise by the batch; else by the statistics they started with."""
    depth: int = 50
    """ResNet depth: 18, 34, 50, 101, 152 or 200."""
    stem: Stem = "imagenet"
    width: int = 64
    """Channels of the first stage; 64 is the standard network."""
    head_hidden: int = 2048
    head_width: int = 128
    head_layers: int = 3

    objective: Literal["contrastive", "supervised"] = "contrastive"
    """`supervised` trains a linear classifier on one view; it needs labels."""
    latent: Literal["bernoulli", "gaussian", "none"] = "bernoulli"
    """`none` is SimCLR, or a plain supervised network."""
    hard: bool = False
    """Discrete variates forward (Listing 1) rather than relaxed ones."""
    variance: Literal["opposing", "own"] = "opposing"
    """Where a Gaussian latent has its variance from (section 4.2); `own` collapses."""
    placement: Literal["top", "bottom"] = "top"
    """With local views: the latent on the global views, or on the local ones (section 4.3)."""
    num_bits: int = 2048
    """Width D of the latent: a Bernoulli variate has D bits, a Gaussian one D dimensions."""
    latent_dropout: float = 0.0
    """Supervised only: probability that a sample goes past the latent (appendix A.2)."""
    gumbel_start: float = 1.0
    gumbel_end: float = 0.1

    epochs: int = 100
    batch_size: int = 4096
    chunk_size: int = 0
    """Images that go through the network at a time (gradient caching); 0 is the whole batch.

    The gradients are those of the whole batch. BatchNorm's groups are the chunks.
    """
    base_lr: float = 0.3
    """Learning rate at batch 256; LARS's grows linearly with the batch (Goyal et al. 2017)."""
    warmup_epochs: float = 10.0
    weight_decay: float = 1e-6
    optimizer: Literal["lars", "adam"] = "lars"
    """`adam` has decoupled weight decay, a learning rate that does not grow with the batch, and no momentum
    of the recipe's."""
    momentum: float = 0.9
    temperature: float = 0.1
    """Temperature of InfoNCE; not the Gumbel temperature."""
    code_share: float = 0.0
    """Share of the loss that is InfoNCE of the codes themselves; the rest is Eq. (1)."""
    code_temperature: float = 0.1

    pixel_mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    pixel_std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    precision: Precision = "bf16"
    seed: int = 0

    def __post_init__(self) -> None:
        self._check_views()
        if self.latent_dropout and (self.objective == "contrastive" or self.latent == "none"):
            raise ValueError(f"recipe {self.name} has latent_dropout: only a supervised latent can drop out")
        if self.width < 16:
            # oneDNN's gradient of a strided 1x1 convolution of fewer channels writes past its memory
            # (uxlfoundation/oneDNN, "backward_weights writes past the rtus workspace").
            raise ValueError(f"width is {self.width}: it must be at least 16")
        if self.num_bits < 8 or self.num_bits % 8:
            raise ValueError(f"num_bits is {self.num_bits}: it must be a positive multiple of 8")
        if self.epochs < 1 or self.batch_size < 2:
            raise ValueError(
                f"epochs is {self.epochs} and batch_size {self.batch_size}: give --epochs of at least 1 "
                "and --batch-size of at least 2"
            )
        if self.latent_start == "whitened" and self.latent != "bernoulli":
            raise ValueError(f"recipe {self.name} has a whitened start: its latent must be Bernoulli")
        if self.code_share and (self.latent != "bernoulli" or self.objective != "contrastive"):
            raise ValueError(f"recipe {self.name} has a loss of codes: it must be contrastive and Bernoulli")
        if not 0 <= self.code_share <= 1:
            raise ValueError(f"code_share is {self.code_share}: it must be from 0 to 1")
        if not 0 <= self.latent_dropout < 1:
            raise ValueError(f"latent_dropout is {self.latent_dropout}: it must be at least 0 and below 1")
        if self.chunk_size and not 2 <= self.chunk_size <= self.batch_size:
            raise ValueError(
                f"chunk_size is {self.chunk_size}: give --chunk-size from 2 to {self.batch_size}, the batch, "
                "or 0 for all of it"
            )
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed is {self.seed}: give --seed from 0 to 2^63 - 1")

    def _check_views(self) -> None:
        num_views = len(self.views)
        if self.objective == "supervised":
            if num_views != 1 or not self.global_views:
                raise ValueError(f"recipe {self.name} is supervised: it needs exactly one view, a global one")
            if self.latent == "gaussian":
                raise ValueError(
                    f"recipe {self.name} is supervised: its latent can only be Bernoulli or none"
                )
            return
        if num_views < 2 or not self.global_views:
            raise ValueError(
                f"recipe {self.name} has {num_views} views: give two or more, one of them global"
            )
        if not self.local_views and num_views != 2:
            raise ValueError(f"recipe {self.name} has no local views: then it needs exactly two global ones")

    @property
    def preprocessing(self) -> Preprocessing:
        """What the finished model wants of its images: the service's, and evaluation's."""
        return Preprocessing(height=self.image_size, width=self.image_size, resize=self.resize)

    @property
    def training_preprocessing(self) -> Preprocessing:
        """The whole image, so that every view can be cropped from it."""
        side = self.held_size or self.image_size
        return Preprocessing(height=side, width=side, resize="squash")

    @property
    def peak_lr(self) -> float:
        """Learning rate at the end of the warm-up."""
        return self.base_lr * (self.batch_size / 256 if self.optimizer == "lars" else 1)

    @property
    def views(self) -> tuple[View, ...]:
        """Global views first, then local ones; neighbours of one size share a backbone pass."""
        return self.global_views + self.local_views

    @property
    def stochastic_views(self) -> frozenset[int]:
        """Numbers of the views whose branch goes through the latent."""
        if self.latent == "none":
            return frozenset()
        if self.objective == "supervised":
            return frozenset({0})
        if not self.local_views:
            return frozenset({1})  # Figure 1: the bottom branch
        count = len(self.global_views)
        return frozenset(range(count) if self.placement == "top" else range(count, len(self.views)))

    @property
    def representations(self) -> tuple[Representation, ...]:
        """What a linear layer can read of this recipe's networks."""
        if self.latent == "none":
            return ("h",)
        return ("h", "z", "bits") if self.latent == "bernoulli" else ("h", "z")

    @property
    def view_pairs(self) -> tuple[tuple[int, int], ...]:
        """The pairs of views that the loss compares: a global with a local one, or the only two."""
        if not self.local_views:
            return ((0, 1),)
        count = len(self.global_views)
        return tuple((i, j) for i in range(count) for j in range(count, len(self.views)))

    def to_dict(self) -> dict[str, Any]:
        """Plain values only, as JSON would hold them."""
        plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return plain

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Recipe":
        """The recipe that `to_dict` wrote."""
        known = dict(values)
        for key in ("global_views", "local_views"):
            known[key] = tuple(_view(view) for view in known[key])
        for key in ("pixel_mean", "pixel_std"):
            known[key] = tuple(known[key])
        return cls(**known)


@dataclass(frozen=True, slots=True)
class FineTuning:
    """How a trained network goes on with labels (appendix A.3)."""

    on: Representation
    """What the new linear layer reads."""
    weights: str
    """Digest of the weights that it starts from."""
    epochs: int = 20
    batch_size: int = 256
    lr: float = 3e-4
    """Of Adam, at every batch size; a tenth of it from 80 % of the steps on."""
    precision: Precision = "bf16"
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.lr < math.inf:
            raise ValueError(f"lr is {self.lr}: give --lr above 0")


def _view(values: dict[str, Any]) -> View:
    known: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
    return View(**known)
