"""The figures as Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

Figures = Mapping[str, Any]


def report(figures: Figures) -> str:
    """Everything that was measured, a section for each model."""
    machine = figures["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    bf16 = "with" if machine["has_bf16"] else "without"
    parts = [f"{machine['processor']}, {machine['cores']} cores, {bf16} bf16 matrix units. {versions}."]
    for name, model in figures["models"].items():
        parts += [f"## {name}", *_sections(model)]
    return "\n\n".join(parts) + "\n"


def _sections(model: Figures) -> Iterable[str]:
    if "throughput" in model:
        yield _ceiling(model["ceiling"])
        yield _throughput(model["throughput"])
        yield _own_words(model["throughput"]["ours"]["metrics"], "ours in closed loop")
    if "latency" in model:
        yield _latency(model["latency"])
        yield from (
            _own_words(entry["our_metrics"], f"ours at {entry['offered_rate']:.0f} requests/s")
            for entry in model["latency"]
        )
    if "index" in model:
        yield _index(model["index"])
    if "large" in model:
        yield _large(model["large"])
    if "memory" in model:
        yield _memory(model["memory"])


def _ceiling(ceiling: Figures) -> str:
    return (
        f"Ceiling ({ceiling['provider']}; {ceiling['way']}): {median(ceiling['rates']):.1f} images/s; "
        f"decode and resize alone {ceiling['decode_rate']:.0f}, model alone {ceiling['model_rate']:.1f}."
    )


def _throughput(subjects: Mapping[str, Figures]) -> str:
    rows = [
        [
            name,
            _settings(found),
            f"{found['rate']:.1f}",
            "" if name == "ours" else _spread(found["ours_to_it"], "{:.2f}×"),
            _spread(found["of_ceiling"], "{:.0%}"),
            f"{found['p50_ms']:.0f} / {found['p99_ms']:.0f}",
            f"{found['server_cores']:.2f}",
            f"{found['generator_cores']:.2f}",
        ]
        for name, found in subjects.items()
    ]
    head = ["closed loop", "best settings", "images/s", "ours to it", "of the ceiling", "p50 / p99 ms"]
    return _table([*head, "server's cores", "generator's cores"], rows)


def _settings(found: Figures) -> str:
    chosen = [f"{key.replace('_', ' ')} {value}" for key, value in found["settings"].items()]
    return ", ".join([*chosen, f"{found['connections']} connections"])


def _own_words(metrics: Figures, when: str) -> str:
    return (
        f"`/metrics` of {when}: {metrics['requests']:.0f} requests, p50 {metrics['request_p50_ms']:.0f} and "
        f"p99 {metrics['request_p99_ms']:.0f} ms by its histogram; {metrics['batch_mean']:.1f} images a "
        f"batch, {metrics['batch_filled']:.0%} of what an accelerator would pad them to; decoding an image "
        f"{metrics['decode_mean_ms']:.1f} ms, a batch's wait {metrics['wait_mean_ms']:.1f} ms and its run "
        f"{metrics['model_mean_ms']:.1f} ms."
    )


def _latency(entries: Sequence[Figures]) -> str:
    rows = [
        [
            f"{entry['share']:.0%} of {entry['peer']}",
            f"{entry['offered_rate']:.1f}",
            *(f"{entry[f'{who}_p{percent}_ms']:.0f}" for percent in (50, 99) for who in ("ours", "peer")),
        ]
        for entry in entries
    ]
    head = ["open loop at", "requests/s", "p50 ms, ours", "p50 ms, it", "p99 ms, ours", "p99 ms, it"]
    return _table(head, rows)


def _index(found: Figures) -> str:
    shares = [row["of_ceiling"] for row in found["rounds"]]
    return (
        f"`stochcon index` of {found['images']:.0f} photos: {found['rate']:.1f} images/s, the whole command, "
        f"{_spread(shares, '{:.0%}')} of the ceiling; {found['of_ceiling_after_start']:.0%} once started "
        f"(one photo takes {found['one_image_s']:.1f} s)."
    )


def _large(found: Figures) -> str:
    rows = [
        [
            name,
            f"{median(rates):.1f}",
            "" if name == "ours" else _spread(found["ours_to_it"][name], "{:.1f}×"),
        ]
        for name, rates in found["rates"].items()
    ]
    head = f"12 MP photos of {found['image_bytes'] / 2**20:.1f} MiB"
    return _table([head, "images/s", "ours to it"], rows)


def _memory(found: Figures) -> str:
    return (
        f"Resident memory over {found['requests']:,} requests, 1 to {max(found['cycles_mib'][0])} at a time "
        f"(batches of {found['batch_means'][0]:.1f} to {found['batch_means'][1]:.1f} on average): "
        f"{found['start_mib']:.0f} MiB at the start, {found['plateau_mib']:.0f} at the first plateau, "
        f"{found['end_mib']:.0f} at the end ({found['growth_percent']:+.1f} %)."
    )


def _spread(values: Sequence[float], form: str) -> str:
    """The median, and the least and the most if there are several."""
    middle = form.format(median(values))
    if len(values) == 1:
        return middle
    return f"{middle} ({form.format(min(values))} to {form.format(max(values))})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
