"""A linear layer on a trained encoder, and what it reads (appendix A.3)."""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from trainer.latent import gumbel_bernoulli
from trainer.model import Encoder
from trainer.recipe import Recipe, Representation

TEMPERATURE: Final = 0.1
"""Of Bernoulli variates throughout probing and fine-tuning (appendix A.3)."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """N images as an encoder sees them."""

    h: Tensor
    """float32 [N, num_features]."""
    latent: Tensor | None
    """float32 [N, num_bits]: logits of a Bernoulli latent, means of a Gaussian one; None without a latent."""


def latent_of(encoder: Encoder, features: Tensor) -> Tensor | None:
    """`Encoded.latent` of features [N, num_features]."""
    if encoder.recipe.latent == "none":
        return None
    return encoder.logits(features) if encoder.recipe.latent == "bernoulli" else encoder.moments(features)[0]


def represent(recipe: Recipe, on: Representation, encoded: Encoded, noise: Tensor | None = None) -> Tensor:
    """What a linear layer on `on` reads, float32 [N, width].

    The z of a Bernoulli latent is sigmoid(logit / 0.1), or with `noise` (uniform in (0, 1), [N, num_bits]) a
    relaxed variate at that temperature; that of a Gaussian one is its mean. Bits are those of the stored
    code, 1 where logit >= 0, with the gradient of sigmoid(logit / 0.1).
    """
    if on == "h":
        return encoded.h
    assert encoded.latent is not None  # `on` is one of the recipe's representations
    if recipe.latent == "gaussian":
        return encoded.latent
    if on == "z" and noise is not None:
        return gumbel_bernoulli(encoded.latent, noise, TEMPERATURE)
    relaxed = torch.sigmoid(encoded.latent / TEMPERATURE)
    if on == "z":
        return relaxed
    return (encoded.latent >= 0).float() + (relaxed - relaxed.detach())


def width_of(encoder: Encoder, on: Representation) -> int:
    """Width of a representation."""
    return encoder.backbone.num_features if on == "h" else encoder.recipe.num_bits


class Classifier(Encoder):
    """A fine-tuned network: class logits from one of the encoder's representations."""

    def __init__(self, recipe: Recipe, on: Representation, num_classes: int) -> None:
        if on not in recipe.representations:
            raise ValueError(
                f"recipe {recipe.name} has no {on}: give --on {' or '.join(recipe.representations)}"
            )
        super().__init__(recipe)
        self.on: Representation = on
        self.head = nn.Linear(width_of(self, on), num_classes)

    def adopt(self, encoder: Encoder) -> None:
        """Take over the weights and statistics of backbone and latent."""
        kept = self.state_dict()
        theirs = encoder.state_dict()
        self.load_state_dict(
            {name: kept[name] if name.startswith("head.") else theirs[name] for name in kept}
        )

    def class_logits(self, features: Tensor, noise: Tensor | None = None) -> Tensor:
        """float32 [N, num_classes] from features [N, num_features]; without `noise` nothing is sampled."""
        encoded = Encoded(features, None if self.on == "h" else latent_of(self, features))
        logits: Tensor = self.head(represent(self.recipe, self.on, encoded, noise))
        return logits.float()

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
        """Class logits of images [N, 3, H, W] in [0, 1]."""
        return self.class_logits(self.features(images), noise)
