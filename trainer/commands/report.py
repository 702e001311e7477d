"""`stochcon report`."""

import json
from pathlib import Path
from typing import Annotated

import typer


def report(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN", help="Run folders, or folders of run folders.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the pictures and the page.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of lines.")] = False,
) -> None:
    """Draw each figure of the paper from runs, as PNG and one page, the paper's own numbers beside ours."""
    if out.exists() and not out.is_dir():
        raise typer.BadParameter(f"{out} is a file: give another folder as --out")
    from trainer.report.writing import write_report

    try:
        written = write_report(runs, out)
    except ValueError as exc:
        raise typer.BadParameter(str(exc)) from exc
    if as_json:
        missing = [{"what": m.what, "reason": m.reason, "command": m.command} for m in written.missing]
        paths = {"pictures": written.pictures, "unfinished": written.unfinished}
        named = {name: [str(path) for path in found] for name, found in paths.items()}
        typer.echo(json.dumps({"page": str(written.page), **named, "missing": missing}))
        return
    for folder in written.unfinished:
        typer.echo(f"{folder} is not finished, and in no figure", err=True)
    for part in written.missing:
        typer.echo(f"missing: {part.what}: {part.reason}", err=True)
    typer.echo(f"{written.page} and {len(written.pictures)} pictures")
