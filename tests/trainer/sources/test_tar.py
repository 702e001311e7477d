import ctypes
import gc
import mmap
import os
import tarfile
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from contracts.manifest import Preprocessing
from tests.tiny_images import make_png, write_tar
from trainer.dataset import Dataset
from trainer.sources import order as order_module
from trainer.sources import tar as tar_module
from trainer.sources.tar import TarSource

ROOT = Path(__file__).parents[3]


def noise(number: int, size: int = 4000) -> bytes:
    return np.random.default_rng(number).bytes(size)


@pytest.fixture
def shards(tmp_path: Path) -> list[Path]:
    """1200 images of 4,000 bytes, with their labels before or after them, in three shards."""
    return [
        write_tar(
            tmp_path / f"{shard}.tar",
            (
                member
                for number in range(400 * shard, 400 * (shard + 1))
                for member in sorted(
                    [(f"{number:05}.jpg", noise(number)), (f"{number:05}.cls", b"%d" % (number % 10))],
                    reverse=bool(number % 2),
                )
            ),
        )
        for shard in range(3)
    ]


@pytest.fixture
def small_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make those 4.8 MB a large set."""
    monkeypatch.setattr(tar_module, "WINDOW_BYTES", 600_000)
    monkeypatch.setattr(order_module, "RUN_BYTES", 100_000)


def test_images_names_and_labels_are_those_that_tarfile_reads(shards: list[Path]) -> None:
    source = TarSource(shards)
    expected = []
    for path in shards:
        with tarfile.open(path) as shard:
            images = [member for member in shard.getmembers() if member.name.endswith(".jpg")]
            expected += [(f"{path.name}, {m.name}", shard.extractfile(m).read()) for m in images]
    assert len(source) == 1200
    assert [(source.name(i), source.read(i)) for i in range(1200)] == expected
    assert source.classes == [str(number) for number in range(10)]
    assert [source.label(i) for i in range(1200)] == [i % 10 for i in range(1200)]


def test_labels_may_be_names_and_missing(tmp_path: Path) -> None:
    first = write_tar(
        tmp_path / "0.tar",
        [
            ("1.png", b"x"),
            ("1.json", b'{"label": "dog"}'),
            ("2.png", b"x"),
            ("3.json", b"{}"),
            ("3.png", b"x"),
        ],
    )
    second = write_tar(tmp_path / "1.tar", [("1.json", b'{"label": "cat"}'), ("1.png", b"x")])
    source = TarSource([first, second])
    assert source.classes == ["cat", "dog"]
    assert [source.label(i) for i in range(4)] == [1, None, None, 0]
    unlabelled = TarSource([write_tar(tmp_path / "2.tar", [("1.png", b"x")])])
    assert unlabelled.classes is None
    assert unlabelled.label(0) is None
    numbered = write_tar(tmp_path / "3.tar", [("9.png", b"x"), ("9.cls", b"1")])
    with pytest.raises(ValueError, match=r"3\.tar, 9 has the label 1, .* of the other kind"):
        TarSource([first, numbered])


def test_a_shard_without_images_is_refused(tmp_path: Path, shards: list[Path]) -> None:
    for members in ([], [("1.txt", b"x"), ("1.mask.png", b"x")]):
        empty = write_tar(tmp_path / "empty.tar", members)
        with pytest.raises(ValueError, match=r"empty\.tar holds no images: looked for members such as"):
            TarSource([*shards, empty])


def test_broken_images_are_named_as_in_the_shard(tmp_path: Path) -> None:
    long = "folder/" + "n" * 120
    members = [("a.png", make_png(0, 0)), (f"{long}.png", make_png(0, 1)[:60]), ("b.png", b"")]
    with Dataset(
        TarSource([write_tar(tmp_path / "x.tar", members)]), Preprocessing(height=16, width=16)
    ) as dataset:
        (batch,) = dataset.batches([np.arange(3)])
    assert batch.samples.tolist() == [0]
    assert dataset.broken[1].startswith(f"x.tar, {long}.png: ")
    assert dataset.broken[2].startswith("x.tar, b.png: ")


def test_a_shard_that_shrinks_or_goes_breaks_its_images_only(tmp_path: Path) -> None:
    paths = [
        write_tar(tmp_path / f"{shard}.tar", [(f"{i}.png", make_png(0, i)) for i in range(3)])
        for shard in range(3)
    ]
    source = TarSource(paths)
    paths[0].unlink()
    os.truncate(paths[1], 512 + 100)
    with Dataset(source, Preprocessing(height=16, width=16)) as dataset:
        (batch,) = dataset.batches([np.arange(9)])
    assert batch.samples.tolist() == [6, 7, 8]
    assert "No such file" in dataset.broken[0]
    assert dataset.broken[0].startswith("0.tar, image at byte 512: ")
    assert "1.tar ends at byte 612, within the image" in dataset.broken[3]


def test_names_that_are_no_utf_8_can_be_written(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", [("caf\udce9.png", b"x")], tarfile.GNU_FORMAT)
    assert TarSource([path]).name(0) == r"x.tar, caf\udce9.png"


def test_an_epochs_order_of_a_small_set_is_a_plain_permutation(shards: list[Path]) -> None:
    expected = np.random.default_rng([3, 4]).permutation(1200)
    np.testing.assert_array_equal(TarSource(shards).epoch_order(3, 4), expected)


@pytest.mark.usefixtures("small_window")
def test_an_epochs_order_of_a_large_set_is_local(shards: list[Path]) -> None:
    source = TarSource(shards)
    order = source.epoch_order(0, 1)
    assert sorted(order) == list(range(1200))
    np.testing.assert_array_equal(order, TarSource(shards).epoch_order(0, 1))
    # Where each image lies, after its header and, if even, its label. Runs are stretches of 100 kB.
    sample = 512 + 4096 + 512 + 512
    offsets = order % 400 * sample + np.where(order % 2, 512, 512 + 512 + 512)
    runs = (order // 400 * 1000 + offsets // 100_000).tolist()
    last = {run: place for place, run in enumerate(runs)}
    first = {run: place for place, run in reversed(list(enumerate(runs)))}
    in_use = max(sum(first[run] <= now <= last[run] for run in first) for now in range(1200))
    # 600 kB are 150 images, or 8.5 runs; two more may be used in part, and the last of a shard is short.
    assert len(first) == 69
    assert 8 <= in_use <= 12


@pytest.mark.usefixtures("small_window")
def test_memory_does_not_grow_with_the_bytes_of_a_set(tmp_path: Path) -> None:
    paths = [
        write_tar(tmp_path / f"{shard}.tar", ((f"{i}.jpg", bytes(100_000)) for i in range(100)))
        for shard in range(4)
    ]
    tracemalloc.start()
    try:
        source = TarSource(paths)
        num_bytes = sum(len(source.read(number)) for number in source.epoch_order(0, 0).tolist())
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert num_bytes == 40_000_000
    assert most < 1_000_000


def test_an_image_costs_some_twenty_bytes_of_memory(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", ((f"{i}.jpg", b"x") for i in range(4000)))
    TarSource([path])  # what is allocated once
    tracemalloc.start()
    try:
        source = TarSource([path])
        gc.collect()
        kept, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(source) == 4000
    assert kept < 4000 * 20 + 20_000
    assert most < 4000 * 60 + 100_000


def open_files() -> set[Path]:
    return {path for path in Path("/proc/self/fd").iterdir() if path.exists()}


def test_few_shards_are_held_open_and_all_are_closed(
    shards: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tar_module, "_MAX_OPEN", 1)
    before = open_files()
    source = TarSource(shards)
    with ThreadPoolExecutor(4) as pool:
        numbers = np.random.default_rng(0).integers(0, 1200, 400).tolist()
        assert list(pool.map(source.read, numbers)) == [noise(number) for number in numbers]
    assert len(open_files() - before) == 1
    del source
    gc.collect()
    assert open_files() <= before


def test_targets_are_numbers_in_the_json_beside_an_image(tmp_path: Path) -> None:
    first = write_tar(
        tmp_path / "0.tar",
        [
            ("1.jpg", b"x"),
            ("1.json", b'{"age": 3, "note": "x", "flag": true}'),
            ("2.json", b'{"age": 9}'),  # beside no image
            ("3.json", b'{"age": null, "flag": false}'),
            ("3.jpg", b"x"),
            ("4.jpg", b"x"),
        ],
    )
    second = write_tar(tmp_path / "1.tar", [("1.json", b'{"age": -2.5e3}'), ("1.jpg", b"x")])
    source = TarSource([first, second])
    nan = np.nan
    assert source.targets("age").dtype == np.float64
    np.testing.assert_array_equal(source.targets("age"), [3, nan, nan, -2500])
    np.testing.assert_array_equal(source.targets("flag"), [1, 0, nan, nan])
    for column, message in (
        ("note", r"0\.tar, 1\.json has note of type str: targets are numbers"),
        ("size", r"0\.tar and the other shards has no column size .*: it has age, flag, note"),
    ):
        with pytest.raises(ValueError, match=message):
            source.targets(column)
    write_tar(second, [("1.jpg", b"x"), ("2.jpg", b"x")])
    with pytest.raises(ValueError, match=r"1\.tar had 1 images when opened and has 2 now"):
        source.targets("age")


def share_in_memory(path: Path, start: int, stop: int) -> float:
    """The share of these bytes that the kernel has in memory. Asking does not change it."""
    start = start // mmap.PAGESIZE * mmap.PAGESIZE
    pages = (ctypes.c_ubyte * ((stop - start - 1) // mmap.PAGESIZE + 1))()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as mapped:
        view = (ctypes.c_char * len(mapped)).from_buffer(mapped)
        place = ctypes.c_void_p(ctypes.addressof(view) + start)
        assert ctypes.CDLL(None).mincore(place, ctypes.c_size_t(stop - start), pages) == 0
        del view
    return sum(page & 1 for page in pages) / len(pages)


def test_runs_being_read_are_fetched_and_forgotten_when_used_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order_module, "RUN_BYTES", 4 * 2**20)
    monkeypatch.setattr(tar_module, "WINDOW_BYTES", 4 * 2**20)
    monkeypatch.setattr(tar_module, "_memory_bytes", lambda: 32 * 2**20)
    size = 64 * 1024 - 512
    path = write_tar(tmp_path / "x.tar", ((f"{i}.jpg", bytes(size)) for i in range(64 * 7)))
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if share_in_memory(path, 0, path.stat().st_size) > 0:
        pytest.skip("this file system keeps files in memory")

    source = TarSource([path])  # passes over the images, and what little of them was read ahead
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def share_of_run(run: int) -> float:
        return share_in_memory(path, run * 4 * 2**20, (run + 1) * 4 * 2**20)

    for run in (5, 3, 1):
        for image in (40, 20, 60, 0):
            source.read(64 * run + image)
        deadline = time.monotonic() + 30
        while share_of_run(run) < 1 and time.monotonic() < deadline:
            pass
        assert share_of_run(run) == 1
    # Twice the window, and one run more: the first of four is used up.
    assert share_of_run(5) == 1
    source.read(64 * 6)
    assert share_of_run(5) < 0.1
    assert share_of_run(3) == share_of_run(1) == 1
