"""`models`: the models there are, and which one is in use."""

from typing import Annotated

import typer

from contracts.errors import NotFound
from stochcon.commands import activation
from stochcon.commands.compare import compare_models
from stochcon.commands.options import DataOption, JsonOption, ModelsOption, UrlOption, opened_models
from stochcon.output import print_json, print_table

app = typer.Typer(help="List, compare and activate models.")
app.command("compare")(compare_models)
app.command("add")(activation.add_model)
app.command("activate")(activation.activate_model)
app.command("cancel")(activation.cancel_activation)
app.command("rollback")(activation.rollback_model)
app.command("delete")(activation.delete_model)


@app.command("list")
def list_models(
    as_json: JsonOption = False,
    data: DataOption = None,
    models: ModelsOption = None,
    url: UrlOption = None,
) -> None:
    """List models. With --json: one line each."""
    with opened_models(data, models, url) as encoder:
        found = encoder.models()
    if as_json:
        for info in found:
            print_json(info)
        return
    rows = [(i.name, i.version, i.num_bits, "active" if i.active else "", i.id) for i in found]
    print_table(("name", "version", "bits", "", "id"), rows)


@app.command("show")
def show_model(
    name: Annotated[str, typer.Argument(metavar="MODEL", help="Its name, or the beginning of its id.")],
    data: DataOption = None,
    models: ModelsOption = None,
    url: UrlOption = None,
) -> None:
    """Print one model's card as JSON."""
    with opened_models(data, models, url) as encoder:
        found = [info for info in encoder.models() if info.name == name or info.id.startswith(name)]
    if len(found) != 1:
        raise NotFound(f"{len(found)} models match {name!r}: `stochcon models list` names them")
    print_json(found[0])
