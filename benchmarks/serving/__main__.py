"""Serving: ours beside what people write and use, over real HTTP on real photos, in one run.

    python -m benchmarks.serving --photos DIR [--model FILE ...] [--work DIR] [--only PART ...] [--quick]
        [--json FILE] [--markdown FILE]

For each model: the rate in closed loop, in rounds of all servers so that drift of the machine hits all alike,
with the ceiling (decode, resize and model with nothing around them) in each round; latencies in open loop at
shares of each peer's best rate; bulk indexing; photos of 12 megapixels; and, for the last model, resident
memory over many requests. Peers are FastAPI, LitServe and BentoML, each with the settings found best, and
once more with our provider and session options. Without `--model` it takes a ResNet-50 with random weights
and the starter that ships. `--work` keeps the one, and enlarged photos, between runs.

An error that any server answers makes the run fail. It takes about half an hour a model; for figures to quote
nothing else should run.
"""

import argparse
import dataclasses
import json
import platform
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.serving import parts
from benchmarks.serving.contest import QUICK, Contest, Scale
from benchmarks.serving.photos import enlarge, find_photos
from benchmarks.serving.subjects import FASTAPI, FASTAPI_THREADS, OURS, PEERS
from benchmarks.serving.tables import report
from contracts.model_file import SHIPPED_MODELS, read_manifest

PARTS = ("throughput", "latency", "index", "large", "memory")

_NUM_PHOTOS = 64
"""Sent in turn; enough that no cache holds what a processor makes of them."""
_NUM_LARGE = 8
_MODULES = {"pillow": "PIL"}
_PACKAGES = ("onnxruntime", "fastapi", "uvicorn", "litserve", "bentoml", "pillow", "simplejpeg", "numpy")


def main() -> None:
    """Run everything, print the tables, and write the figures if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True, help="folder of .jpg files")
    parser.add_argument("--model", type=Path, action="append", default=[], help=".onnx file; repeatable")
    parser.add_argument("--work", type=Path, help="folder kept between runs; a temporary one by default")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS))
    parser.add_argument("--rounds", type=int, help="of closed loops")
    parser.add_argument("--memory-requests", type=int)
    parser.add_argument("--quick", action="store_true", help="a rehearsal: its figures mean little")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    asked = {"rounds": options.rounds, "memory_requests": options.memory_requests}
    scale = dataclasses.replace(
        QUICK if options.quick else Scale(), **{key: value for key, value in asked.items() if value}
    )
    figures: dict[str, Any] = {
        "machine": _machine(),
        "scale": dataclasses.asdict(scale),
        "models": {},
        "rows": [],
        "errors": [],
    }
    with tempfile.TemporaryDirectory(prefix="stochcon-serving-") as temporary:
        work = options.work or Path(temporary)
        photos = _spaced(find_photos(options.photos), _NUM_PHOTOS)
        models = options.model or _default_models(work)
        for number, model in enumerate(models):
            wanted = [part for part in options.only if part != "memory" or number == len(models) - 1]
            name = read_manifest(model).name
            folder = Path(temporary) / f"{number}-{name}"
            folder.mkdir()
            print(f"{name} ({model})", flush=True)
            with Contest(model, photos, folder, scale, _say) as contest:
                figures["models"][name] = _measure(contest, wanted, options.peers, work)
            figures["rows"] += [{"model": name} | row for row in contest.rows]
            figures["errors"] += [f"{name}: {error}" for error in contest.errors]
    text = report(figures)
    print(f"\n{text}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    if options.markdown:
        options.markdown.write_text(text)
    if figures["errors"]:
        sys.exit("\n".join(["errors were answered, so the figures do not count:", *figures["errors"]]))


def _say(line: str) -> None:
    print(f"  {line}", flush=True)


def _measure(contest: Contest, wanted: Sequence[str], peers: Sequence[str], work: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    needs_rates = {"throughput", "latency"} & set(wanted)
    if needs_rates or "index" in wanted:
        with parts.Ceiling(contest) as ceiling:
            if needs_rates:
                ours = contest.enter(OURS)
                others = [contest.enter(kind) for kind in peers]
                equipped = [contest.enter(kind, our_session=True) for kind in peers]
                found["throughput"] = parts.throughput(contest, [ours, *others, *equipped], ceiling)
                if "latency" in wanted:
                    found["latency"] = parts.latency(contest, ours, others)
            if "index" in wanted:
                found["index"] = parts.bulk(contest, ceiling)
            found["ceiling"] = ceiling.facts | {"rates": ceiling.rates, "cores": ceiling.cores}
    if "large" in wanted:
        large = enlarge(_spaced(contest.photos, _NUM_LARGE), work / "large")
        others = [contest.enter(kind) for kind in (FASTAPI, FASTAPI_THREADS) if kind in peers]
        found["large"] = parts.large(contest, contest.enter(OURS), others, large)
    if "memory" in wanted:
        found["memory"] = parts.memory(contest)
    return found


def _spaced(photos: Sequence[Path], count: int) -> list[Path]:
    """At most so many, evenly spaced."""
    step = max(1, len(photos) // count)
    return list(photos[::step][:count])


def _default_models(work: Path) -> list[Path]:
    from benchmarks.serving.exports import random_export

    starter = SHIPPED_MODELS / "starter.onnx"
    small = starter if starter.exists() else random_export("lite0", work)
    return [random_export("resnet50", work), small]


def _machine() -> dict[str, Any]:
    facts = Path("/proc/cpuinfo").read_text()
    entries = dict(line.split(":", 1) for line in facts.splitlines() if ":" in line)
    fields = {key.strip(): value.strip() for key, value in entries.items()}
    return {
        "processor": fields.get("model name", platform.machine()),
        "cores": parts.NUM_CORES,
        "has_bf16": "amx_bf16" in fields.get("flags", "").split(),
        "versions": {name: version(name) for name in _PACKAGES if find_spec(_MODULES.get(name, name))},
    }


if __name__ == "__main__":
    main()
