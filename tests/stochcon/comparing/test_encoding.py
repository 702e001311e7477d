from contextlib import closing

import numpy as np
import pytest

from contracts.errors import InvalidImage
from service.models import ModelFolder
from service.settings import Settings
from stochcon.comparing.encoding import Pair, encode_all
from stochcon.comparing.images import ImageReader
from stochcon.results import Encoding
from stochcon.sources.opening import open_source
from stochcon.sources.source import SourceOptions
from tests.image_files import png


@pytest.fixture
def pair(model_folder):
    """`good` and `wide`, loaded."""
    models = ModelFolder(model_folder)
    settings = Settings(models=model_folder, provider="cpu", threads=2)
    with closing(Pair(models.select("good"), models.select("wide"), settings)) as opened:
        yield opened


def test_a_pair_encodes_with_both_and_keeps_the_order(pair):
    images = [png(1), b"no image", png(2)]
    a, b = pair.encode(images)
    assert [len(result.code) for result in (a[0], a[2], b[0], b[2])] == [8, 8, 32, 32]
    assert isinstance(a[1], InvalidImage)
    assert isinstance(b[1], InvalidImage)
    again = pair.encode(images[::-1])  # The other one begins.
    assert [side[2].code for side in again] == [a[0].code, b[0].code]


def test_turns_of_few_images_do_not_count_as_slow(pair):
    for count in (20, 20, 3):
        pair.encode([png(seed) for seed in range(count)])
    assert [len(pair.images_per_s(side)) for side in (0, 1)] == [2, 2]


def test_images_are_in_one_random_order_with_what_belongs_to_them(pair, labelled_photos):
    reader = ImageReader([open_source(labelled_photos, SourceOptions(labels="folders"))], None, pytest.fail)
    images = encode_all(pair, (64, 256), reader, lambda *_: None, pytest.fail)
    assert images.arrivals != sorted(images.arrivals)
    assert sorted(images.arrivals) == list(range(30))
    # Sorted by label as the folder is, the first ones would be of one kind.
    assert len(set(images.labels[:8])) == 3
    for number, data in enumerate(reader.read_again(images.locations)):
        assert images.labels[number] == images.locations[number].place.split("/")[0]
        for side, result in zip(images.sides, pair.encode([data]), strict=True):
            assert isinstance(result[0], Encoding)
            assert side.codes[number].tobytes() == result[0].code
            assert side.entropy_bits[number] == pytest.approx(result[0].entropy_bits, rel=1e-4)
    assert np.isfinite(images.sides[0].images_per_s).all()
