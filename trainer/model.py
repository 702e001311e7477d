"""The StochCon model of Figure 1: backbone f, projector pi, latent q(z|x), decoder rho and head g."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.backbone import ResNet
from trainer.efficientnet import EfficientNetLite0
from trainer.latent import gaussian, gumbel_bernoulli
from trainer.recipe import Recipe

_SMALLEST_VARIANCE = 1e-12
"""Keeps the gradient of a deviation finite where a variance collapses."""


@dataclass(frozen=True, slots=True)
class ViewInput:
    """One view of N images, and the random numbers of its branch."""

    images: Tensor
    """float [N, 3, H, W] in [0, 1]."""
    noise: Tensor | None = None
    """Uniform in (0, 1), [N, num_bits], for a stochastic view; None for a deterministic one."""
    bypass: Tensor | None = None
    """bool [N, 1]: samples that go past the latent (appendix A.2); None if none does."""


@dataclass(frozen=True, slots=True)
class Branches:
    """What one training step needs of a batch seen in V views."""

    vectors: list[Tensor]
    """v of each view, [N, head_width]; for a supervised recipe the class logits, [N, num_classes]."""
    codes: list[Tensor]
    """Of each view, `sign` of its logits, if the recipe has a loss of codes; none otherwise."""
    parameters: list[Tensor]
    """Of each stochastic view what its variates were drawn with, float32 [N, num_bits]: the logits of a
    Bernoulli latent, the variances of a Gaussian one."""


@dataclass(frozen=True, slots=True)
class _Draw:
    variates: Tensor
    parameters: Tensor


class Encoder(nn.Module):
    """f, pi and q(z|x): the part of Figure 1 that is kept when training is over.

    Inputs are float RGB in [0, 1], [N, 3, H, W]; the mean and deviation are the model's own, so that
    training, evaluation and the exported graph share them.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        self.register_buffer("mean", torch.tensor(recipe.pixel_mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(recipe.pixel_std).view(3, 1, 1), persistent=False)
        self.backbone: ResNet | EfficientNetLite0
        if recipe.backbone == "resnet":
            self.backbone = ResNet(recipe.depth, recipe.stem, recipe.width, recipe.pooling)
        else:
            self.backbone = EfficientNetLite0(recipe.pooling)
        for stage in self.backbone.stages[: recipe.frozen_stages]:
            for module in stage:
                module.requires_grad_(False)
        width = self.backbone.num_features
        if recipe.latent != "none":
            # pi stays even at full width: pooled ReLU features are never negative, and as logits
            # they would make nearly every bit 1.
            parameters = 2 if recipe.latent == "gaussian" else 1
            self.projector = nn.Linear(width, parameters * recipe.num_bits)

    def train(self, mode: bool = True) -> Self:
        """Training mode, but for BatchNorms whose statistics stay: the frozen stages', or the backbone's."""
        super().train(mode)
        stages = self.backbone.stages
        for stage in stages[: self.recipe.frozen_stages] if self.recipe.batch_statistics else stages:
            for module in stage:
                module.eval()
        return self

    def features(self, images: Tensor) -> Tensor:
        """h = f(x): [N, 3, H, W] in [0, 1] to [N, num_features]."""
        h: Tensor = self.backbone((images - self.mean) / self.std)
        return h

    def logits(self, features: Tensor) -> Tensor:
        """phi = pi(h), the natural parameters of a Bernoulli q(z|x): float32 [N, num_bits]."""
        phi: Tensor = self.projector(features)
        return phi.float()

    def moments(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """mu and sigma^2 of pi(h), for a Gaussian q(z|x): float32 [N, num_bits] each (section 4.2)."""
        mu, spread = self.projector(features).float().chunk(2, dim=1)
        return mu, F.softplus(spread) + _SMALLEST_VARIANCE


class StochCon(Encoder):
    """Figure 1 with any latent; SimCLR, or a plain classifier, when the recipe has none."""

    def __init__(self, recipe: Recipe, num_classes: int = 0) -> None:
        if (recipe.objective == "supervised") != (num_classes > 0):
            raise ValueError(f"recipe {recipe.name} is {recipe.objective} and num_classes is {num_classes}")
        super().__init__(recipe)
        width = self.backbone.num_features
        if recipe.latent != "none":
            self.decoder = nn.Linear(recipe.num_bits, width)
        if recipe.objective == "supervised":
            self.head: nn.Module = nn.Linear(width, num_classes)
        else:
            self.head = _head(width, recipe.head_hidden, recipe.head_width, recipe.head_layers)

    def class_logits(self, features: Tensor) -> Tensor:
        """Of a supervised recipe, without sampling: float32 [N, num_classes].

        A Bernoulli layer gives sigmoid(logit / tau) at the last temperature, or with `hard` its bits.
        """
        h = features
        if self.recipe.latent == "bernoulli":
            logits = self.logits(h)
            z = (logits >= 0).float() if self.recipe.hard else torch.sigmoid(logits / self.recipe.gumbel_end)
            h = self.decoder(z)
        logits_of_classes: Tensor = self.head(h)
        return logits_of_classes.float()

    def forward(self, views: Sequence[ViewInput], temperature: float) -> Branches:
        """Algorithm 1 for V views of N images.

        One backbone pass per resolution and one pass of g over all views, so that BatchNorm cannot tell
        the branches apart.
        """
        features = self._features_of([view.images for view in views])
        drawn = self._draw(features, views, temperature)
        head_inputs = []
        for h, draw, view in zip(features, drawn, views, strict=True):
            decoded = h if draw is None else self.decoder(draw.variates).to(h.dtype)  # h'' = rho(z')
            head_inputs.append(decoded if view.bypass is None else torch.where(view.bypass, h, decoded))
        vectors = self.head(torch.cat(head_inputs))
        codes = [sign(self.logits(h)) for h in features] if self.recipe.code_share else []
        parameters = [draw.parameters for draw in drawn if draw is not None]
        return Branches(list(vectors.chunk(len(views))), codes, parameters)

    def _draw(
        self, features: list[Tensor], views: Sequence[ViewInput], temperature: float
    ) -> list[_Draw | None]:
        """z' ~ q(z|x) of each stochastic view, and None for each deterministic one."""
        if self.recipe.latent == "gaussian":
            return self._draw_gaussian(features, views)
        drawn: list[_Draw | None] = []
        for h, view in zip(features, views, strict=True):
            if view.noise is None:
                drawn.append(None)
                continue
            phi = self.logits(h)
            drawn.append(_Draw(gumbel_bernoulli(phi, view.noise, temperature, self.recipe.hard), phi))
        return drawn

    def _draw_gaussian(self, features: list[Tensor], views: Sequence[ViewInput]) -> list[_Draw | None]:
        """mu comes from a view's own h' and sigma^2 from the opposing set of views, the deterministic
        ones, over which it is averaged; from its own h', it collapses to 0 (section 4.2).
        """
        moments = [self.moments(h) for h in features]
        opposing = [sigma2 for (_, sigma2), view in zip(moments, views, strict=True) if view.noise is None]
        drawn: list[_Draw | None] = []
        for (mu, own), view in zip(moments, views, strict=True):
            if view.noise is None:
                drawn.append(None)
                continue
            sigma2 = own if self.recipe.variance == "own" else torch.stack(opposing).mean(0)
            drawn.append(_Draw(gaussian(mu, sigma2, view.noise), sigma2))
        return drawn

    def _features_of(self, views: Sequence[Tensor]) -> list[Tensor]:
        features: list[Tensor] = []
        start = 0
        while start < len(views):
            end = start
            while end < len(views) and views[end].shape == views[start].shape:
                end += 1
            features += self.features(torch.cat(list(views[start:end]))).chunk(end - start)
            start = end
        return features


def sign(logits: Tensor) -> Tensor:
    """The stored code as numbers, 1 where logit >= 0 and -1 elsewhere, with the gradient of tanh(logit)."""
    smooth = torch.tanh(logits)
    return smooth + (torch.where(logits >= 0, 1.0, -1.0) - smooth).detach()


def _head(width: int, hidden: int, out: int, layers: int) -> nn.Sequential:
    """g: `layers` linear layers with BatchNorm, as SimCLR's projection head (Chen et al. 2020b)."""
    parts: list[nn.Module] = []
    for _ in range(layers - 1):
        parts += [nn.Linear(width, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True)]
        width = hidden
    parts += [nn.Linear(width, out, bias=False), nn.BatchNorm1d(out)]
    return nn.Sequential(*parts)
