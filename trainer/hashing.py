"""Compressed forms of float features that need no network: what learned bits have to be compared with.

Each is fitted on the gallery's features alone, and gives the same codes for the same seed. `sizes` says
which numbers of bits a method is defined for.
"""

import warnings
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from contracts.codes import Codes, pack_logits

Method = Literal["sign", "itq", "projection", "pq"]
METHODS: tuple[Method, ...] = get_args(Method)

SIZES = (32, 64, 128, 256, 512, 1024, 2048)
"""Bits an image at which baselines are compared."""

_FITTED = 20_000
"""Images of the gallery, drawn at random, that ITQ and PQ are fitted on: 78 for each centroid of PQ."""

_LEAST_VARIANCE = 0.01

_CENTROIDS = 256
"""Of each sub-quantiser, so that it gives 8 bits."""

_ROWS = 65_536
"""Vectors quantised at a time: 64 MiB of distances."""


def sizes(method: Method, num_features: int, num_images: int) -> tuple[int, ...]:
    """Bits for which `method` is defined on a gallery [num_images, num_features]; there may be none.

    `sign` gives one bit a feature; ITQ at most as many bits as features; PQ cuts the features into equal
    parts, one for every 8 bits, and needs an image for each centroid. Codes are whole bytes.
    """
    if method == "sign":
        return (num_features,) if num_features % 8 == 0 else ()
    if method == "itq":
        return tuple(size for size in SIZES if size <= num_features)
    if method == "pq":
        return tuple(size for size in SIZES if num_features % (size // 8) == 0 and num_images >= _CENTROIDS)
    return SIZES


@dataclass(frozen=True, slots=True)
class Planes:
    """Bits that say on which side of hyperplanes through `mean` a vector lies."""

    mean: Tensor
    """float32 [num_features]. Without it every plane would miss the cloud of ReLU features."""
    normals: Tensor
    """float32 [num_features, num_bits]."""

    def encode(self, features: Tensor) -> Codes:
        """Packed codes, uint8 [n, num_bits / 8], of float32 [n, num_features]."""
        return pack_logits(((features - self.mean) @ self.normals).numpy())


def fit_sign(gallery: Tensor) -> Planes:
    """Signs of centred features: a bit each."""
    return Planes(gallery.mean(0), torch.eye(gallery.shape[1]))


def fit_projection(gallery: Tensor, num_bits: int, seed: int = 0) -> Planes:
    """Signs of a Gaussian random projection of centred features (Charikar 2002): no training at all.

    The share of differing bits of two vectors estimates the angle between them.
    """
    generator = torch.Generator().manual_seed(seed)
    return Planes(gallery.mean(0), torch.randn(gallery.shape[1], num_bits, generator=generator))


def fit_whitened(gallery: Tensor, num_bits: int, seed: int = 0) -> Planes:
    """Signs of a random rotation of whitened features, after Jegou and Chum (2012), "Negative evidences and
    co-occurences in image retrieval": what most images share counts for less.

    Principal components below a hundredth of the largest variance are not scaled up further.
    """
    mean = gallery.mean(0)
    variances, axes = _principal_axes(gallery - mean, num_bits)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(num_bits, axes.shape[1], generator=generator, dtype=torch.float64)
    rotation, _ = torch.linalg.qr(drawn)
    whitened = axes / (variances.clamp(min=0) + _LEAST_VARIANCE * variances[0]).sqrt()
    return Planes(mean, (whitened @ rotation.T).float())


def fit_itq(gallery: Tensor, num_bits: int, iterations: int = 50, seed: int = 0) -> Planes:
    """Iterative quantisation (Gong and Lazebnik 2011): signs of rotated principal components.

    Raises ValueError for more bits than features.
    """
    if num_bits > gallery.shape[1]:
        raise ValueError(
            f"num_bits is {num_bits} and there are {gallery.shape[1]} features: ITQ needs one for each bit"
        )
    fitted = _drawn(gallery, seed)
    mean = fitted.mean(0)
    components = _principal_axes(fitted - mean, num_bits)[1].float()
    rotation, _ = learn_rotation((fitted - mean) @ components, iterations, seed)
    return Planes(mean, components @ rotation)


def learn_rotation(components: Tensor, iterations: int, seed: int) -> tuple[Tensor, list[float]]:
    """The orthogonal R, [c, c], that brings V = `components`, [n, c], near to corners of the cube.

    By turns B = sign(VR) and R = argmin ||B - VR||^2 (an orthogonal Procrustes problem), from a random
    rotation. Also returns the loss ||B - VR||^2 / n of each iteration before its R is replaced, and of the
    last R: it never rises.
    """
    generator = torch.Generator().manual_seed(seed)
    width = components.shape[1]
    rotation, _ = torch.linalg.qr(torch.randn(width, width, generator=generator))
    losses: list[float] = []
    for _ in range(iterations):
        rotated = components @ rotation
        signs = torch.where(rotated >= 0, 1.0, -1.0)
        losses.append(_loss(signs, rotated))
        left, _, right = torch.linalg.svd(signs.T @ components)
        rotation = right.T @ left.T
    rotated = components @ rotation
    losses.append(_loss(torch.where(rotated >= 0, 1.0, -1.0), rotated))
    return rotation, losses


@dataclass(frozen=True, slots=True)
class ProductQuantizer:
    """Product quantisation (Jegou et al. 2011): a vector is cut into parts, each coded by 8 bits."""

    centroids: Tensor
    """float32 [num_parts, 256, num_features / num_parts]."""

    def encode(self, vectors: Tensor) -> Codes:
        """The nearest centroid of each part: uint8 [n, num_parts] of float32 [n, num_features]."""
        parts = vectors.reshape(len(vectors), len(self.centroids), -1)
        codes = torch.empty(parts.shape[:2], dtype=torch.uint8)
        for number, centroids in enumerate(self.centroids):
            squares = centroids.square().sum(1)
            for start in range(0, len(vectors), _ROWS):
                part = parts[start : start + _ROWS, number]
                codes[start : start + _ROWS, number] = (squares - 2 * part @ centroids.T).argmin(1)
        encoded: Codes = codes.numpy()
        return encoded

    def decode(self, codes: Codes) -> Tensor:
        """The centroids that stand for coded vectors, float32 [n, num_features].

        Distances of float queries from these are the asymmetric ones of the paper.
        """
        places = torch.from_numpy(codes).long()
        decoded = torch.empty(len(codes), self.centroids.shape[0], self.centroids.shape[2])
        for number, centroids in enumerate(self.centroids):
            decoded[:, number] = centroids[places[:, number]]
        return decoded.flatten(1)


def fit_pq(vectors: Tensor, num_bits: int, iterations: int = 25, seed: int = 0) -> ProductQuantizer:
    """A quantiser of `num_bits` bits for float32 [n, num_features], by k-means of each part.

    Raises ValueError if the features cannot be cut into `num_bits / 8` equal parts, or if there are fewer
    vectors than centroids.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    num_parts = num_bits // 8
    count, num_features = vectors.shape
    if num_parts < 1 or num_features % num_parts or count < _CENTROIDS:
        raise ValueError(
            f"num_bits is {num_bits} for {count} vectors of {num_features} features: PQ cuts the features "
            f"into num_bits / 8 equal parts, and needs at least {_CENTROIDS} vectors"
        )
    fitted = _drawn(vectors, seed)
    parts = fitted.reshape(len(fitted), num_parts, -1)
    centroids = torch.empty(num_parts, _CENTROIDS, num_features // num_parts)
    for number in range(num_parts):
        means = KMeans(_CENTROIDS, n_init=1, max_iter=iterations, random_state=seed)
        # scikit-learn's threads are others than torch's, and would take every core.
        with warnings.catch_warnings(), threadpool_limits(torch.get_num_threads()):
            # Fewer different vectors than centroids, as where a feature is dead, are coded exactly.
            warnings.simplefilter("ignore", ConvergenceWarning)
            means.fit(parts[:, number].numpy())
        centroids[number] = torch.from_numpy(means.cluster_centers_)
    return ProductQuantizer(centroids)


def _principal_axes(centred: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Energies [c] and axes [num_features, c] of the `count` largest principal components, or of all."""
    centred = centred.double()
    energies, axes = torch.linalg.eigh(centred.T @ centred)  # ascending
    return energies.flip(0)[:count], axes.flip(1)[:, :count]


def _drawn(vectors: Tensor, seed: int) -> Tensor:
    """`_FITTED` of the rows, or all if there are fewer."""
    if len(vectors) <= _FITTED:
        return vectors
    generator = torch.Generator().manual_seed(seed)
    return vectors[torch.randperm(len(vectors), generator=generator)[:_FITTED]]


def _loss(signs: Tensor, rotated: Tensor) -> float:
    return float((signs - rotated).square().sum(1).double().mean())
