import threading
import time
import tracemalloc

import numpy as np
import pytest
from PIL import ExifTags, Image

from contracts.errors import InvalidImage, TooLarge
from contracts.manifest import Preprocessing
from contracts.pixels import ImageLimits, load_pixels
from service.encoding import resize
from service.encoding.decode import Decoder, LargeImage, PixelBudget
from tests import image_files
from tests.costly_images import COSTLY, SLOW_BMP
from tests.image_files import encode, jpeg, photo

SQUARE = Preprocessing(height=32, width=32)
WIDE = Preprocessing(height=24, width=48)
SQUASHED = Preprocessing(height=24, width=48, resize="squash")


def decode(
    data: bytes, preprocessing: Preprocessing = SQUARE, limits: ImageLimits | None = None
) -> np.ndarray:
    return Decoder(preprocessing, limits or ImageLimits()).decode(data)


def drift(data: bytes, preprocessing: Preprocessing) -> tuple[float, int]:
    """Mean and largest difference in grey levels between the two ways."""
    fast, reference = decode(data, preprocessing), load_pixels(data, preprocessing)
    difference = np.abs(fast.astype(int) - reference.astype(int))
    return difference.mean(), difference.max()


@pytest.mark.parametrize("kind", image_files.GOOD)
def test_every_kind_of_image_comes_out_as_the_reference_has_it(kind: str) -> None:
    mean, largest = drift(image_files.GOOD[kind], SQUARE)
    assert mean <= 0.5
    assert largest <= 4


@pytest.mark.parametrize("preprocessing", [SQUARE, WIDE, SQUASHED])
@pytest.mark.parametrize("size", [(640, 480), (300, 800), (65, 64), (40, 30), (1200, 100)])
def test_a_scaled_decode_stays_near_the_reference(
    size: tuple[int, int], preprocessing: Preprocessing
) -> None:
    mean, largest = drift(jpeg(3, *size), preprocessing)
    assert mean <= 1.5
    assert largest <= 24


@pytest.mark.parametrize("preprocessing", [SQUARE, WIDE, SQUASHED])
@pytest.mark.parametrize("size", [(60, 60), (61, 47), (20, 90)])
def test_an_image_that_needs_no_scaled_decode_is_the_reference_but_for_rounding(
    size: tuple[int, int], preprocessing: Preprocessing
) -> None:
    mean, largest = drift(jpeg(0, *size), preprocessing)
    assert mean <= 0.5
    assert largest <= 1


def test_without_the_fast_library_the_reference_resizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resize, "fast", None)
    assert drift(jpeg(0, 60, 60), SQUARE) == (0, 0)


def test_a_large_jpeg_is_never_held_in_full() -> None:
    data = jpeg(0, 1600, 1200)
    tracemalloc.start()
    try:
        decode(data)
        assert tracemalloc.get_traced_memory()[1] < 1600 * 1200 * 3 / 10
    finally:
        tracemalloc.stop()


def turned(orientation: int, width: int, height: int) -> bytes:
    """A JPEG with that EXIF orientation."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return jpeg(5, width, height, exif=exif)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_on_the_fast_way_as_on_the_reference(orientation: int) -> None:
    data = turned(orientation, 400, 260)
    mean, largest = drift(data, WIDE)
    assert mean <= 1.5
    assert largest <= 24
    if orientation != 1:  # Otherwise the bounds would hold without any turning.
        assert np.abs(decode(data, WIDE).astype(int) - decode(jpeg(5, 400, 260), WIDE)).mean() > 10


def test_an_image_on_its_side_keeps_the_pixels_that_it_needs_upright() -> None:
    # Upright it is 160 wide, so that 48 of them need a decode of 5/8, and not the 3/8 of 640.
    mean, _ = drift(turned(6, 640, 160), WIDE)
    unturned, _ = drift(turned(1, 160, 640), WIDE)
    assert mean <= 1.25 * unturned


def test_the_first_frame_of_an_animation_is_taken() -> None:
    first = photo(48, 40, seed=1).quantize(256).convert("RGB")
    assert np.array_equal(decode(image_files.animated_gif()), decode(encode(first)))


def test_16_bit_grey_keeps_its_whole_range() -> None:
    pixels = decode(image_files.grey_16_bit())[0, :, 0].astype(int)
    assert pixels[0] < 40
    assert pixels[-1] > 215
    assert (np.diff(pixels) >= 0).all()


def test_transparent_pixels_are_white() -> None:
    assert (decode(image_files.with_alpha())[:, -8:] == 255).all()


@pytest.mark.parametrize("kind", image_files.INVALID)
def test_what_is_no_image_is_invalid_with_a_remedy(kind: str) -> None:
    with pytest.raises(InvalidImage, match=r"send|save it|damaged|truncated"):
        decode(image_files.INVALID[kind])


@pytest.mark.parametrize("cut", [1, 2, 50, 500])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_truncated_jpeg_is_refused_wherever_it_ends(cut: int, progressive: bool) -> None:
    with pytest.raises(InvalidImage):
        decode(jpeg(0, 320, 240, progressive=progressive)[:-cut])


@pytest.mark.parametrize("kind", image_files.TOO_LARGE)
def test_too_many_pixels_are_refused_from_the_header(kind: str) -> None:
    with pytest.raises(TooLarge, match="20000x20000"):
        decode(image_files.TOO_LARGE[kind])


def test_a_sound_jpeg_over_the_limit_is_refused() -> None:
    with pytest.raises(TooLarge, match="160x120"):
        decode(jpeg(0, 160, 120), limits=ImageLimits(max_pixels=19_199))
    decode(jpeg(0, 160, 120), limits=ImageLimits(max_pixels=19_200))


def test_too_many_bytes_are_refused() -> None:
    with pytest.raises(TooLarge, match="bytes"):
        decode(jpeg(), limits=ImageLimits(max_bytes=100))


@pytest.mark.filterwarnings("ignore")  # As in the service; Pillow warns of what it cannot read.
@pytest.mark.parametrize("content", [b"no tags", b"MM\0*\xff\xff\xff\xff", b"II*\0\x08\0\0\0\x05\0\x12\1"])
@pytest.mark.parametrize("has_density", [False, True])
def test_a_jpeg_whose_exif_cannot_be_read_is_taken_as_it_lies(content: bytes, has_density: bool) -> None:
    data = image_files.jpeg_with_exif(content, **({"dpi": (72, 72)} if has_density else {}))
    assert np.array_equal(decode(data), decode(jpeg()))
    assert np.array_equal(load_pixels(data, SQUARE), load_pixels(jpeg(), SQUARE))


@pytest.mark.filterwarnings("ignore")
def test_an_orientation_counts_beside_tags_that_are_broken() -> None:
    tags = b"\x01\x12\0\3\0\0\0\1\0\6\0\0" + b"\x02\x13\0\5\xff\xff\xff\xff\xff\xff\xff\xff"
    data = image_files.jpeg_with_exif(b"MM\0*\0\0\0\x08\0\x09" + tags)
    upright = np.rot90(decode(jpeg()), k=-1).astype(int)
    for turn in (decode(data), load_pixels(data, SQUARE)):
        assert np.abs(turn - upright).mean() < 2


@pytest.mark.parametrize("kind", COSTLY | SLOW_BMP)
def test_a_file_that_is_made_to_cost_is_refused_before_it_is_decoded(kind: str) -> None:
    start = time.process_time()
    with pytest.raises((InvalidImage, TooLarge), match="save it"):
        decode((COSTLY | SLOW_BMP)[kind])
    assert time.process_time() - start < 1


def test_a_small_image_in_a_large_tile_is_large() -> None:
    tile = {322: [4096], 323: [4096], 324: [8]}
    decoder = Decoder(SQUARE, ImageLimits())
    with pytest.raises(LargeImage):
        decoder.decode(image_files.tiff(1, 1, 8, b"x", tile), may_be_large=False)


def test_large_images_are_decoded_one_after_the_other() -> None:
    budget = PixelBudget(100)
    order = []
    entered = threading.Event()

    def second() -> None:
        entered.set()
        with budget.hold(60):
            order.append("second")

    with budget.hold(60):
        thread = threading.Thread(target=second)
        thread.start()
        entered.wait(5)
        with budget.hold(40):  # What fits goes past what does not.
            order.append("small")
        thread.join(0.05)
        order.append("first")
    thread.join(5)
    assert order == ["small", "first", "second"]


def test_an_image_over_the_whole_budget_still_gets_its_turn() -> None:
    with PixelBudget(100).hold(1000):
        pass


@pytest.mark.parametrize(
    ("data", "is_large"),
    [
        (image_files.huge_png(4000, 2500), False),
        (image_files.huge_png(4001, 2500), True),
        (encode(Image.new("RGB", (4001, 2500)), "JPEG"), False),
        (encode(Image.new("CMYK", (4001, 2500)), "JPEG"), True),
        (image_files.huge_jpeg_header(4001, 2500), True),
        (encode(Image.new("L", (10_000, 5001)), "JPEG"), True),
    ],
    ids=["small", "large", "scaled", "not scaled", "damaged", "scaled and very large"],
)
def test_an_image_is_large_by_what_its_decoding_costs(data: bytes, is_large: bool) -> None:
    decoder = Decoder(SQUARE, ImageLimits())
    if is_large:
        with pytest.raises(LargeImage):
            decoder.decode(data, may_be_large=False)
    else:
        assert decoder.decode(data, may_be_large=False).shape == (32, 32, 3)
