import itertools

import faiss
import numpy as np
import pytest
import torch
from scipy.linalg import orthogonal_procrustes
from sklearn.decomposition import PCA
from torch import Tensor

from contracts.codes import unpack
from trainer.hashing import (
    METHODS,
    SIZES,
    fit_itq,
    fit_pq,
    fit_projection,
    fit_sign,
    learn_rotation,
    sizes,
)


def clouds(count: int, num_features: int, seed: int = 0) -> Tensor:
    """Correlated features that are never negative, as pooled ReLU features are."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(count, 8)) @ rng.normal(size=(8, num_features))
    return torch.from_numpy(np.maximum(mixed + rng.normal(size=(count, num_features)), 0)).float()


def test_sign_says_which_features_are_above_the_gallerys_mean() -> None:
    h = clouds(50, 16)
    np.testing.assert_array_equal(unpack(fit_sign(h).encode(h[:5])), (h[:5] >= h.mean(0)).numpy())


def test_a_random_projection_keeps_angles() -> None:
    h = clouds(50, 16)
    codes = fit_projection(h, num_bits=16384).encode(h)
    centred = torch.nn.functional.normalize(h - h.mean(0), dim=1)
    angles = torch.arccos((centred @ centred.T).clamp(-1, 1)) / torch.pi
    bits = np.unpackbits(codes, axis=1)
    shares = (bits[:, None] != bits[None]).mean(axis=-1)
    assert np.abs(shares - angles.numpy())[~np.eye(50, dtype=bool)].max() < 0.03


def test_the_rotation_of_itq_is_that_of_alternating_procrustes_problems() -> None:
    v = clouds(400, 12, seed=1) - clouds(400, 12, seed=1).mean(0)
    rotation, _ = learn_rotation(v, iterations=0, seed=3)
    rotation = rotation.double().numpy()
    for _ in range(20):
        signs = np.where(v.numpy() @ rotation >= 0, 1.0, -1.0)
        rotation, _ = orthogonal_procrustes(v.numpy().astype(np.float64), signs)
    learned, _ = learn_rotation(v, iterations=20, seed=3)
    np.testing.assert_allclose(learned.numpy(), rotation, atol=1e-4)


def test_the_rotation_of_itq_stays_orthogonal_and_its_loss_never_rises() -> None:
    v = clouds(500, 24) - clouds(500, 24).mean(0)
    rotation, losses = learn_rotation(v, iterations=50, seed=0)
    torch.testing.assert_close(rotation.T @ rotation, torch.eye(24), atol=1e-5, rtol=0)
    assert len(losses) == 51
    assert (np.diff(losses) <= 1e-5 * losses[0]).all()
    assert losses[-1] < 0.98 * losses[0]


def test_itq_turns_the_principal_components() -> None:
    h = clouds(300, 24)
    planes = fit_itq(h, 16)
    pca = PCA(16).fit(h.numpy())
    # The same subspace, whatever the axes in it: projecting on one or the other is the same.
    expected = pca.components_.T @ pca.components_
    np.testing.assert_allclose((planes.normals @ planes.normals.T).numpy(), expected, atol=1e-4)
    torch.testing.assert_close(planes.mean, h.mean(0))


def test_pq_codes_and_reconstructs_as_that_of_faiss() -> None:
    vectors = clouds(3000, 32) - clouds(3000, 32, seed=1)
    ours = fit_pq(vectors, 64)
    codes = ours.encode(vectors)
    theirs = faiss.ProductQuantizer(32, 8, 8)
    theirs.cp.min_points_per_centroid = 1
    theirs.train(vectors.numpy())
    decoded = theirs.decode(theirs.compute_codes(vectors.numpy()))
    error = float((ours.decode(codes) - vectors).square().sum(1).mean())
    expected = float(((decoded - vectors.numpy()) ** 2).sum(1).mean())
    # k-means++ starts better than the random start of theirs where vectors are few.
    assert 0.85 * expected < error < 1.02 * expected
    # With our centroids in theirs, the same codes and the same vectors.
    faiss.copy_array_to_vector(ours.centroids.numpy().ravel(), theirs.centroids)
    assert (theirs.compute_codes(vectors.numpy()) == codes).mean() > 0.9999  # but for rounding
    np.testing.assert_array_equal(theirs.decode(codes), ours.decode(codes).numpy())


def test_each_part_of_a_vector_gets_its_nearest_centroid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.hashing._ROWS", 7)
    vectors = clouds(300, 12)
    quantizer = fit_pq(vectors, 32)
    codes, decoded = quantizer.encode(vectors[:40]), quantizer.decode(quantizer.encode(vectors[:40]))
    for row, part in itertools.product(range(40), range(4)):
        own = vectors[row, part * 3 : part * 3 + 3]
        distances = (quantizer.centroids[part] - own).square().sum(1)
        assert distances[codes[row, part]] == pytest.approx(float(distances.min()), abs=1e-5)
        torch.testing.assert_close(
            decoded[row, part * 3 : part * 3 + 3], quantizer.centroids[part][codes[row, part]]
        )


def test_dead_features_are_quantised_exactly() -> None:
    vectors = clouds(400, 8)
    vectors[:, 4:] = 0
    quantizer = fit_pq(vectors, 16)
    assert (quantizer.decode(quantizer.encode(vectors))[:, 4:] == 0).all()


@pytest.mark.parametrize("num_features", [32, 60])
def test_sizes_are_those_that_can_be_fitted(num_features: int) -> None:
    h = clouds(256, num_features)
    assert set(METHODS) == {"sign", "itq", "projection", "pq"}
    assert sizes("projection", num_features, 256) == SIZES
    fits = {"itq": lambda size: fit_itq(h, size, iterations=1), "pq": lambda size: fit_pq(h, size, 1)}
    for method, fit in fits.items():
        for size in SIZES:
            if size in sizes(method, num_features, len(h)):
                fit(size)
            else:
                with pytest.raises(ValueError, match="features"):
                    fit(size)
    assert sizes("pq", num_features, 255) == ()
    with pytest.raises(ValueError, match="at least 256 vectors"):
        fit_pq(h[:255], 32)
    assert sizes("sign", num_features, 256) == ((num_features,) if num_features % 8 == 0 else ())


def test_what_is_fitted_depends_on_the_seed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.hashing._FITTED", 300)  # of 600, drawn
    h = clouds(600, 16)
    for fit in (fit_itq, fit_projection, fit_pq):
        codes = fit(h, 16).encode(h)
        torch.manual_seed(5)
        np.random.seed(5)
        np.testing.assert_array_equal(fit(h, 16).encode(h), codes)
        assert (fit(h, 16, seed=1).encode(h) != codes).any()
