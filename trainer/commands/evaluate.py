"""`stochcon evaluate`."""

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trainer.commands.options import (
    NOT_KEPT,
    Device,
    Images,
    Queries,
    Threads,
    prepare_torch,
    tell_if_unfinished,
)

if TYPE_CHECKING:
    from trainer.embedding import Embeddings
    from trainer.runs import Trained

_FOREST_UNITS = 256
"""Width of a latent up to which forests are grown unasked: minutes. Figure 2 right has 64."""


class Measure(StrEnum):
    """What is measured, in the order in which it is done."""

    RETRIEVAL = "retrieval"
    BASELINES = "baselines"
    UNITS = "units"
    PROBE = "probe"


def evaluate(
    model: Annotated[Path, typer.Argument(help="A run folder, or an exported .onnx file.")],
    images: Images,
    queries: Queries,
    only: Annotated[
        list[Measure] | None,
        typer.Option(help="Do this alone; may be repeated. Everything that applies if left out."),
    ] = None,
    k: Annotated[int, typer.Option(help="Neighbours that vote.", min=1, max=1000)] = 20,
    max_queries: Annotated[
        int | None,
        typer.Option(help="Measure on so many of the queries, but for the probe; all if left out.", min=1),
    ] = None,
    device: Device = "cpu",
    threads: Threads = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of tables.")] = False,
) -> None:
    """Measure retrieval by codes and floats, rival codes, units of the latent, and a linear probe.

    `--images` is the gallery, on which rivals are fitted and the probe learns. What is found for a finished
    run is kept in it.
    """
    if not model.exists():
        raise typer.BadParameter(f"{model} does not exist: give a run folder or an .onnx file")
    if device == "cuda" and not model.is_dir():
        raise typer.BadParameter(f"{model} is an exported file, which is run on the CPU: leave out --device")
    prepare_torch(device, threads)
    kept = model.is_dir() and not tell_if_unfinished(model, NOT_KEPT)
    found: dict[str, Any] = {}
    try:
        evaluation = _Evaluation(model, images, queries, k, max_queries, device, threads, kept)
        wanted = evaluation.choose(only)
        for measure in wanted:
            try:
                found[measure] = evaluation.measure(measure)
            except ValueError as exc:
                if only or measure is Measure.RETRIEVAL:
                    raise
                _leave_out(measure, str(exc))
                continue
            if not as_json:
                evaluation.show(measure, found[measure])
    except ValueError as exc:
        raise typer.BadParameter(str(exc)) from exc
    except FloatingPointError as exc:
        typer.echo(f"Error: {exc}", err=True)
        raise typer.Exit(1) from exc
    if as_json:
        typer.echo(json.dumps(found))


class _Evaluation:
    """The measurements of one command; what several of them need is made once, and when first needed."""

    def __init__(
        self,
        model: Path,
        images: list[Path],
        queries: list[Path],
        k: int,
        max_queries: int | None,
        device: str,
        threads: int | None,
        kept: bool,
    ) -> None:
        from trainer.embedding import Encoder, FileEncoder, RunEncoder

        self._model = model
        self._paths = images, queries
        self._k = k
        self._max_queries = max_queries
        self._device = device
        self._kept = kept
        self._encoder: Encoder
        self._trained: Trained | None = None
        if model.is_dir():
            encoder = RunEncoder(model, device)
            self._encoder, self._trained = encoder, encoder.trained
        else:
            self._encoder = FileEncoder(model, threads)
        self._embedded: dict[str, Embeddings] = {}

    def choose(self, only: list[Measure] | None) -> list[Measure]:
        """What to do, in order. Raises ValueError for a measurement that was asked for and cannot be."""
        chosen: list[Measure] = []
        for measure in Measure:
            if only and measure not in only:
                continue
            reason = _obstacle(measure, self._trained)
            if reason is None and not only:
                reason = _cost(measure, self._trained)
            if reason is None:
                chosen.append(measure)
            elif only:
                raise ValueError(
                    f"{self._model} has no {measure} to measure, since {reason}: leave out --only {measure}"
                )
            else:
                _leave_out(measure, reason)
        return chosen

    def measure(self, measure: Measure) -> dict[str, Any]:
        """Measure, and keep what is found in the run if it is one that is finished."""
        from trainer.baselines import BASELINES
        from trainer.evaluate import EVALUATION
        from trainer.scores import write_json
        from trainer.units import UNITS

        if measure is Measure.PROBE:
            return self._probe()
        made, name = {
            Measure.RETRIEVAL: (self._retrieval, EVALUATION),
            Measure.BASELINES: (self._baselines, BASELINES),
            Measure.UNITS: (self._units, UNITS),
        }[measure]
        values = made()
        if self._kept:
            write_json(self._model / name, values)
        return values

    def show(self, measure: Measure, values: dict[str, Any]) -> None:
        """Print what was found."""
        from trainer.commands import evaluation_tables
        from trainer.commands.probe import print_table

        shown = {
            Measure.RETRIEVAL: evaluation_tables.print_retrieval,
            Measure.BASELINES: evaluation_tables.print_baselines,
            Measure.UNITS: evaluation_tables.print_units,
            Measure.PROBE: print_table,
        }
        shown[measure](values)

    @property
    def _gallery(self) -> "Embeddings":
        return self._embed("images", self._paths[0], None)

    @property
    def _queries(self) -> "Embeddings":
        return self._embed("queries", self._paths[1], self._max_queries)

    def _embed(self, name: str, paths: list[Path], at_most: int | None) -> "Embeddings":
        from trainer.embedding import embed
        from trainer.sources import open_source

        if name not in self._embedded:
            found = embed(self._encoder, open_source(paths), at_most)
            if found.broken:
                typer.echo(
                    f"{len(found.broken)} of --{name} cannot be read and are left out; the first: "
                    f"{found.broken[0]}",
                    err=True,
                )
            self._embedded[name] = found
        return self._embedded[name]

    def _retrieval(self) -> dict[str, Any]:
        from trainer.evaluate import evaluate as run_evaluation

        values = run_evaluation(self._queries, self._gallery, self._k)
        return {name: round(value, 6) for name, value in values.items()}

    def _baselines(self) -> dict[str, Any]:
        from trainer.baselines import compare

        made = compare(self._queries, self._gallery, self._k, lambda name: typer.echo(name, err=True))
        return {
            method: {
                str(size): {name: round(value, 6) for name, value in scores.items()}
                for size, scores in sizes.items()
            }
            for method, sizes in made.items()
        }

    def _units(self) -> dict[str, Any]:
        import torch

        from contracts.codes import unpack
        from trainer.units import unit_curve

        assert self._trained is not None
        seen, labels = self._queries.seen, self._queries.labels.numpy()
        if seen.means is not None:
            representation = seen.means.numpy()
        else:
            assert seen.codes is not None
            representation = unpack(seen.codes)
        curve = unit_curve(representation, labels, threads=torch.get_num_threads())
        recipe = self._trained.recipe
        return {"latent": recipe.latent, "width": recipe.num_bits} | curve.to_dict()

    def _probe(self) -> dict[str, Any]:
        from trainer.commands.probe import run_probe
        from trainer.probe import ProbeSettings

        images, queries = self._paths
        return run_probe(self._model, images, queries, ProbeSettings(), device=self._device, kept=self._kept)


def _obstacle(measure: Measure, trained: "Trained | None") -> str | None:
    """Why a measurement does not apply to a run, or to an exported file (None); None if it does."""
    if measure is Measure.RETRIEVAL:
        return None
    if trained is None:
        return "it is an exported file, and this takes a run"
    if measure is Measure.UNITS and trained.recipe.latent == "none":
        return "it has no latent"
    if measure is Measure.PROBE and trained.finetuning is not None:
        return "it is fine-tuned, and its own layer is measured already"
    if measure is Measure.PROBE and trained.recipe.objective == "supervised":
        return "it is supervised, and its own layer is measured already"
    return None


def _cost(measure: Measure, trained: "Trained | None") -> str | None:
    """Why a measurement is done only if it is asked for; None if that need not be."""
    if measure is Measure.UNITS and trained is not None and trained.recipe.num_bits > _FOREST_UNITS:
        return (
            f"forests on {trained.recipe.num_bits} units take an hour or more: ask for it by --only {measure}"
        )
    return None


def _leave_out(measure: Measure, reason: str) -> None:
    typer.echo(f"{measure}: left out, since {reason}", err=True)
