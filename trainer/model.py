"""The StochCon model of Figure 1: backbone f, projector pi, latent q(z|x), decoder rho and head g."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainer.backbone import ResNet
from trainer.latent import gumbel_bernoulli
from trainer.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Branches:
    """What one training step needs of a batch seen in V views."""

    vectors: list[Tensor]
    """v of each view, [N, head_width]; from the latent for stochastic views."""
    logits: list[Tensor]
    """Logits of each stochastic view, float32 [N, num_bits]."""


class StochCon(nn.Module):
    """Figure 1, and SimCLR when the recipe has no latent.

    Inputs are float RGB in [0, 1], [N, 3, H, W]; the mean and deviation are the model's own, so that
    training, evaluation and the exported graph share them.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.latent = recipe.latent
        self.hard = recipe.hard
        self.register_buffer("mean", torch.tensor(recipe.pixel_mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(recipe.pixel_std).view(3, 1, 1), persistent=False)
        self.backbone = ResNet(recipe.depth, recipe.stem, recipe.width)
        width = self.backbone.num_features
        if recipe.latent == "bernoulli":
            # pi stays even at full width: pooled ReLU features are never negative, and as logits
            # they would make nearly every bit 1.
            self.projector = nn.Linear(width, recipe.num_bits)
            self.decoder = nn.Linear(recipe.num_bits, width)
        self.head = _head(width, recipe.head_hidden, recipe.head_width, recipe.head_layers)

    def features(self, images: Tensor) -> Tensor:
        """h = f(x): [N, 3, H, W] in [0, 1] to [N, num_features]."""
        h: Tensor = self.backbone((images - self.mean) / self.std)
        return h

    def logits(self, features: Tensor) -> Tensor:
        """phi = pi(h), the natural parameters of q(z|x): float32 [N, num_bits]."""
        phi: Tensor = self.projector(features)
        return phi.float()

    def forward(
        self, views: Sequence[Tensor], noise: Sequence[Tensor | None], temperature: float
    ) -> Branches:
        """Algorithm 1 for V views of N images.

        `views[i]` is [N, 3, H_i, W_i]; `noise[i]` is uniform in (0, 1), [N, num_bits], for a stochastic
        view and None for a deterministic one. One backbone pass per resolution and one pass of g over
        all views, so that BatchNorm cannot tell the branches apart.
        """
        head_inputs: list[Tensor] = []
        logits: list[Tensor] = []
        for h, u in zip(self._features_of(views), noise, strict=True):
            if u is None:
                head_inputs.append(h)
                continue
            phi = self.logits(h)
            z = gumbel_bernoulli(phi, u, temperature, self.hard)
            logits.append(phi)
            head_inputs.append(self.decoder(z).to(h.dtype))  # h'' = rho(z')
        vectors = self.head(torch.cat(head_inputs))
        return Branches(vectors=list(vectors.chunk(len(views))), logits=logits)

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


def _head(width: int, hidden: int, out: int, layers: int) -> nn.Sequential:
    """g: `layers` linear layers with BatchNorm, as SimCLR's projection head (Chen et al. 2020b)."""
    parts: list[nn.Module] = []
    for _ in range(layers - 1):
        parts += [nn.Linear(width, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True)]
        width = hidden
    parts += [nn.Linear(width, out, bias=False), nn.BatchNorm1d(out)]
    return nn.Sequential(*parts)
