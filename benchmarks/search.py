"""Hamming search: the embedded store beside FAISS's own index, in one run.

    python -m benchmarks.search [--codes 1000000] [--bits 2048] [--threads N] [--json FILE]

Contestants take turns of several searches, and the median of all of one's searches counts. For figures to
quote, nothing else should run: one query is short of memory bandwidth, and a busy processor stalls OpenMP
above all. FAISS searches one query on one thread in any case, so it is measured with a single OpenMP
thread too: waiting for idle ones costs it time. Before anything is timed, all must give the same distances.
Takes 4 bytes of disk and of memory for each byte of code, in a temporary folder.
"""

import argparse
import json
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from contracts.codes import Codes, num_bytes
from index.embedded import EmbeddedStore
from index.protocol import Item, ModelRef
from index.search import Searcher
from index.segments import Layout, Segment, Snapshot, build_segment

_SEED = 0
_BATCH = 64
_K = 10
_WRITE_ITEMS = 10_000
_ROUNDS = {1: 9, _BATCH: 3}
_SEARCHES_A_TURN = 5
_MIN_ROUNDS, _MAX_RACE_S = 3, 20.0
_PAUSE_S = 0.05
"""Between turns: OpenMP's threads spin for a while after a search, on the next one's processors."""
_FAISS_BLOCKS = (65_536, 4096, 2048)
"""Values of `faiss.cvar.hamming_batch_size`; FAISS comes with the first."""


def main() -> None:
    """Run everything, print the tables, and write the figures if asked to."""
    parser = argparse.ArgumentParser(description="Hamming search: the embedded store beside FAISS")
    parser.add_argument("--codes", type=int, default=1_000_000)
    parser.add_argument("--bits", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()

    logging.getLogger("index").setLevel(logging.ERROR)  # Segment files go missing on purpose below.
    random = np.random.default_rng(_SEED)
    codes = random.integers(0, 256, (options.codes, num_bytes(options.bits)), dtype=np.uint8)
    queries = random.integers(0, 256, (_BATCH, num_bytes(options.bits)), dtype=np.uint8)
    figures: dict[str, Any] = {"codes": options.codes, "bits": options.bits, "threads": options.threads}
    print(f"{options.codes:,} random codes of {options.bits} bits, k = {_K}, {options.threads} threads\n")
    with tempfile.TemporaryDirectory(prefix="stochcon-bench-") as folder:
        figures["store"] = _fill(Path(folder), codes, options.bits, options.threads)
        with EmbeddedStore.open(Path(folder), num_threads=options.threads) as store:
            figures["search"] = _race(store, codes, queries, options.threads)
            figures["filters_ms"] = _time_filters(store, queries[:1])
    _print(figures)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def _items(codes: Codes) -> Iterator[list[Item]]:
    """Items as a folder of photos gives them, in the portions in which they are written."""
    for start in range(0, len(codes), _WRITE_ITEMS):
        yield [
            Item(
                id=f"photos/{i:09d}.jpg",
                code=codes[i].tobytes(),
                label=f"class-{i % 10}",
                metadata={"year": 2000 + i % 25, "camera": f"camera {i % 7}", "score": i / 7},
                uri=f"file:///home/someone/photos/{i:09d}.jpg",
            )
            for i in range(start, min(start + _WRITE_ITEMS, len(codes)))
        ]


def _fill(folder: Path, codes: Codes, num_bits: int, num_threads: int) -> dict[str, float]:
    """Write all codes through the store, and open it with its segment files and without."""
    model = ModelRef("0" * 64, "benchmark", num_bits)
    writing_s = 0.0
    with EmbeddedStore.open(folder, num_threads=num_threads) as store:
        for items in _items(codes):
            started = time.perf_counter()
            store.upsert("default", items, model)
            writing_s += time.perf_counter() - started
    segment_files = list(folder.glob("collections/default/segments/*"))
    opening_s = _time_opening(folder, num_threads)
    segments_bytes = sum(path.stat().st_size for path in segment_files)
    for path in segment_files:
        path.unlink()
    rebuilding_s = _time_opening(folder, num_threads)
    with EmbeddedStore.open(folder, num_threads=num_threads) as store:
        info = store.collection("default")
    return {
        "upsert_items_per_s": len(codes) / writing_s,
        "open_s": opening_s,
        "open_without_segment_files_s": rebuilding_s,
        "disk_bytes_per_item": info.disk_bytes / len(codes),
        "of_which_segment_files": segments_bytes / len(codes),
        "memory_bytes_per_item": info.memory_bytes / len(codes),
    }


def _time_opening(folder: Path, num_threads: int) -> float:
    started = time.perf_counter()
    with EmbeddedStore.open(folder, num_threads=num_threads):
        return time.perf_counter() - started


def _race(store: EmbeddedStore, codes: Codes, queries: Codes, num_threads: int) -> list[dict[str, Any]]:
    """Median seconds of each contestant, for one query and for a batch."""
    flat = faiss.IndexBinaryFlat(codes.shape[1] * 8)
    flat.add(codes)
    searcher, snapshot = Searcher(num_threads), _snapshot(codes)

    def search_flat(block: int, threads: int, batch: Codes) -> np.ndarray:
        before, faiss.cvar.hamming_batch_size = faiss.cvar.hamming_batch_size, block
        faiss.omp_set_num_threads(threads)
        distances = flat.search(batch, _K)[0]
        faiss.cvar.hamming_batch_size = before
        return distances

    def search_store(batch: Codes) -> np.ndarray:
        results = store.search("default", batch, k=_K)
        return np.array([[hit.distance for hit in result.hits] for result in results])

    def contestants(num_queries: int) -> dict[str, Callable[[Codes], np.ndarray]]:
        thread_counts = {num_threads, 1} if num_queries == 1 else {num_threads}
        peers = {
            f"faiss.IndexBinaryFlat, {threads} threads, blocks of {block}": partial(
                search_flat, block, threads
            )
            for block, threads in product(_FAISS_BLOCKS, sorted(thread_counts, reverse=True))
        }
        return peers | {
            "our searcher": lambda batch: searcher.search(snapshot, batch, _K).distances,
            "our store, hits with their data": search_store,
        }

    rows: list[dict[str, Any]] = []
    for num_queries, rounds in _ROUNDS.items():
        batch = queries[:num_queries]
        searches = contestants(num_queries)
        answers = {name: search(batch) for name, search in searches.items()}
        first = next(iter(answers.values()))
        for name, answer in answers.items():
            if not np.array_equal(answer, first):
                raise SystemExit(f"{name} gives other distances than FAISS")
        times: dict[str, list[float]] = {name: [] for name in searches}
        give_up_at = time.perf_counter() + _MAX_RACE_S
        for done in range(rounds):
            if done >= _MIN_ROUNDS and time.perf_counter() > give_up_at:
                break  # On a busy machine OpenMP's threads wait for one another for seconds.
            for name, search in searches.items():
                time.sleep(_PAUSE_S)
                search(batch)  # Wakes the processors and its own threads, as the first of many does.
                for _ in range(_SEARCHES_A_TURN):
                    started = time.perf_counter()
                    search(batch)
                    times[name].append(time.perf_counter() - started)
        medians = {name: statistics.median(values) for name, values in times.items()}
        best = min(median for name, median in medians.items() if name.startswith("faiss"))
        rows += [
            {
                "queries": num_queries,
                "contestant": name,
                "ms": median * 1e3,
                "codes_per_s": num_queries * len(codes) / median,
                "speed_against_best_faiss": best / median,
            }
            for name, median in medians.items()
        ]
    searcher.close()
    return rows


def _snapshot(codes: Codes) -> Snapshot:
    """What a store would search, without the store."""
    layout = Layout(codes.shape[1])
    segments: dict[int, Segment] = {}
    for number, start in enumerate(range(0, len(codes), layout.segment_slots)):
        part = codes[start : start + layout.segment_slots]
        slots = np.arange(start, start + len(part))
        labelled = np.zeros(len(part), dtype=np.bool_)
        segments[number] = build_segment(number, layout, len(part), slots, part, labelled)
    return Snapshot(0, len(codes), layout, segments)


def _time_filters(store: EmbeddedStore, query: Codes) -> dict[str, dict[str, float]]:
    """Milliseconds of one query with a filter: the first time, and again."""
    filters: dict[str, dict[str, Any]] = {
        "none": {},
        "label, 1 in 10": {"label": "class-3"},
        "metadata equal, 1 in 25": {"metadata.year": 2003},
        "metadata range, 1 in 5": {"metadata.year": {"gte": 2020}},
    }
    figures = {}
    for name, where in filters.items():
        times = []
        for _ in range(6):
            started = time.perf_counter()
            store.search("default", query, k=_K, where=where)
            times.append((time.perf_counter() - started) * 1e3)
        figures[name] = {"first": times[0], "again": statistics.median(times[1:])}
    return figures


def _print(figures: dict[str, Any]) -> None:
    print(f"{'queries':>7}  {'':44}{'ms':>8}{'M codes/s':>11}{'of best FAISS':>15}")
    for row in figures["search"]:
        print(
            f"{row['queries']:>7}  {row['contestant']:44}{row['ms']:>8.1f}{row['codes_per_s'] / 1e6:>11.0f}"
            f"{row['speed_against_best_faiss']:>14.2f}x"
        )
    store = figures["store"]
    print(
        f"\nupsert, {_WRITE_ITEMS:,} a call   {store['upsert_items_per_s']:>10,.0f} items/s"
        f"\nopen with segment files  {store['open_s']:>10.2f} s"
        f"\nopen without, rebuilding {store['open_without_segment_files_s']:>10.2f} s"
        f"\non disk                  {store['disk_bytes_per_item']:>10.0f} bytes an item, "
        f"{store['of_which_segment_files']:.0f} of them in segment files"
        f"\nin memory                {store['memory_bytes_per_item']:>10.1f} bytes an item\n"
    )
    print(f"{'one query with a filter':26}{'first, ms':>10}{'again, ms':>11}")
    for name, times in figures["filters_ms"].items():
        print(f"{name:26}{times['first']:>10.1f}{times['again']:>11.1f}")


if __name__ == "__main__":
    main()
