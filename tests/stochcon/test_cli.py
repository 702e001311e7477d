import json
import sqlite3
from base64 import b64decode

import pytest
import typer

from stochcon import cli
from stochcon.cli import app, run
from stochcon.output import print_table
from tests.image_files import png
from tests.tiny_model import write_tiny_model


@pytest.fixture(autouse=True)
def here(tmp_path, models, monkeypatch):
    """Every test in a folder of its own, with the tiny model and no other settings."""
    for name in ("URL", "DATA", "API_KEY", "HOST", "PORT", "MODEL", "PROVIDER"):
        monkeypatch.delenv(f"STOCHCON_{name}", raising=False)
    monkeypatch.setenv("STOCHCON_MODELS", str(models))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def stochcon(capsys, own_logs):
    """Run a command line; its exit code, the lines it printed, and those on stderr."""

    def call(*arguments: object):
        code = run([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, out.splitlines(), err.splitlines()

    return call


def verbs(command=None, path=()):
    """Every verb with its command, `items get` as ("items", "get")."""
    command = command or typer.main.get_command(app)
    for name, child in getattr(command, "commands", {}).items():
        if hasattr(child, "commands"):
            yield from verbs(child, (*path, name))
        else:
            yield (*path, name)


@pytest.mark.parametrize("arguments", [[], ["--help"], ["index", "--help"], ["items", "--help"]])
def test_help_is_printed_and_succeeds(stochcon, arguments):
    code, out, err = stochcon(*arguments)
    assert (code, err) == (0, [])
    assert "Usage: stochcon" in "\n".join(out)


@pytest.mark.parametrize("verb", list(verbs()), ids=" ".join)
def test_every_verb_refuses_an_unknown_option_in_one_line(stochcon, verb):
    code, out, err = stochcon(*verb, "--no-such-option")
    assert (code, out) == (2, [])
    assert len(err) == 1
    assert "--no-such-option" in err[0] or "Missing argument" in err[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["items"], "Missing command"),
        (["search"], "exactly one of IMAGE, --id and --code"),
        (["search", "a.jpg", "--id", "b"], "exactly one of IMAGE, --id and --code"),
        (["search", "missing.jpg"], "missing.jpg cannot be read: No such file"),
        (["search", "--id", "a", "-k", "0"], "'-k'"),
        (["search", "--id", "a", "-k", "1000000000"], "'-k'"),
        (["search", "--id", "a", "--radius", "-1"], "'--radius'"),
        (["search", "--id", "a", "--filter", "{"], "--filter: not JSON"),
        (["search", "--id", "a", "--filter", "[]"], "--filter: not a JSON object"),
        (["search", "--code", "!"], "--code: not standard base64"),
        (["index"], "Missing argument 'PATH...'"),
        (["index", "missing"], "missing does not exist"),
        (["index", ".", "--labels", "colours"], "colours"),
        (["encode", "missing.jpg"], "missing.jpg does not exist"),
        (["items", "put", "a"], "exactly one of IMAGE and --code"),
        (["collections", "delete", "mine"], "--yes"),
        (["models", "list", "--url", "nonsense"], "must start with http"),
        (["items", "list", "--url", "http://localhost", "--data", "x"], "exclude each other"),
        (["serve", "--host", "0.0.0.0"], "--insecure"),
        (["serve", "--port", "99999"], "--port"),
        (["serve", "--provider", "abacus"], "--provider"),
        (["train"], "recipe"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(stochcon, arguments, words):
    code, out, err = stochcon(*arguments)
    assert (code, out, len(err)) == (2, [], 1)
    assert words in err[0]
    assert err[0].startswith("stochcon")


def test_a_wrong_environment_variable_is_named(stochcon, monkeypatch):
    monkeypatch.setenv("STOCHCON_PORT", "many")
    code, _, err = stochcon("serve")
    assert (code, len(err)) == (2, 1)
    assert "STOCHCON_PORT" in err[0]
    assert "'many'" in err[0]


def test_a_flag_is_named_as_it_is_written(stochcon, monkeypatch):
    monkeypatch.setenv("STOCHCON_KEEP_ORIGINALS", "perhaps")
    code, _, err = stochcon("serve")
    assert code == 2
    assert "--keep-originals or STOCHCON_KEEP_ORIGINALS" in err[0]


def test_a_variable_without_a_flag_is_named_alone(stochcon, monkeypatch):
    monkeypatch.setenv("STOCHCON_MAX_IMAGES", "0")
    _, _, err = stochcon("serve")
    assert "STOCHCON_MAX_IMAGES" in err[0]
    assert "--max" not in err[0]


@pytest.mark.parametrize("extra", ["cpu", "trainer"])
def test_a_missing_extra_is_named_with_the_command_that_installs_it(stochcon, monkeypatch, extra):
    monkeypatch.setattr(
        "stochcon.extras._MODULES", {"cpu": ("no_such_cpu",), "trainer": ("no_such_trainer",)}
    )
    code, _, err = stochcon(*(["serve"] if extra == "cpu" else ["train", "--help"]))
    assert (code, len(err)) == (2, 1)
    assert f"no_such_{extra}" in err[0]
    assert f"pip install 'stochcon[{extra}]'" in err[0]


@pytest.mark.parametrize(
    "arguments", [["search", "--id", "a"], ["items", "list"], ["collections", "list"], ["verify"]]
)
def test_reading_a_store_that_is_not_there_makes_none(stochcon, here, arguments):
    code, out, err = stochcon(*arguments, "--data", "nowhere")
    assert (code, out, len(err)) == (1, [], 1)
    assert "nowhere" in err[0]
    assert list(here.iterdir()) == []


def test_a_data_folder_is_taken_from_the_flag_before_the_environment(stochcon, here, monkeypatch):
    monkeypatch.setenv("STOCHCON_DATA", "from_environment")
    assert stochcon("collections", "create", "one")[0] == 0
    assert stochcon("collections", "create", "two", "--data", "from_flag")[0] == 0
    assert {path.name for path in here.iterdir()} == {"from_environment", "from_flag"}
    assert [line.split("\t")[0] for line in stochcon("collections", "list")[1]] == ["one"]


def test_a_flag_for_a_store_here_beats_a_service_in_the_environment(stochcon, monkeypatch):
    monkeypatch.setenv("STOCHCON_URL", "http://127.0.0.1:9")
    assert stochcon("collections", "list")[0] == 1
    assert stochcon("collections", "create", "one", "--data", "here")[0] == 0


def test_items_are_put_got_listed_searched_and_deleted(stochcon, here):
    (here / "a.png").write_bytes(png(1))
    uri = (here / "a.png").as_uri()
    put = stochcon("items", "put", "x/a", "a.png", "--label", "cat", "--metadata", '{"year": 2024}')
    assert put == (0, [], [])
    item = json.loads(stochcon("items", "get", "x/a")[1][0])
    assert (item["label"], item["metadata"], item["uri"]) == ("cat", {"year": 2024}, uri)
    assert stochcon("items", "put", "b", "--code", item["code"])[0] == 0
    assert stochcon("items", "list")[1] == ["b\t\t", f"x/a\tcat\t{uri}"]
    first, after = (["--limit", 1], ["--after", "b"])
    assert [json.loads(line)["id"] for line in stochcon("items", "list", "--json", *first)[1]] == ["b"]
    assert [json.loads(line)["id"] for line in stochcon("items", "list", "--json", *after)[1]] == ["x/a"]
    assert stochcon("search", "a.png")[1] == ["0\tb\t", "0\tx/a\tcat"]
    assert stochcon("search", "--code", item["code"], "--filter", '{"label": "cat"}')[1] == ["0\tx/a\tcat"]
    answer = json.loads(stochcon("search", "--id", "b", "--json", "-k", 1)[1][0])
    assert answer.keys() == {"hits", "model", "exact", "certified", "truncated"}
    assert answer["hits"][0].keys() == {"id", "distance", "label", "metadata", "uri"}
    assert stochcon("classify", "a.png")[1] == ["1.0000\tcat"]
    answer = json.loads(stochcon("classify", "a.png", "--json")[1][0])
    assert answer["labels"] == [{"label": "cat", "score": 1.0}]
    assert stochcon("items", "delete", "b", "x/a") == (0, [], [])
    code, _, err = stochcon("items", "delete", "b")
    assert (code, len(err)) == (1, 1)


def test_an_unknown_item_collection_or_model_is_one_line_and_exit_code_1(stochcon, here):
    stochcon("collections", "create", "mine")
    for arguments in (
        ["items", "get", "nothing"],
        ["search", "--id", "nothing"],
        ["search", "--id", "a", "-c", "nothing"],
        ["collections", "show", "nothing"],
        ["models", "show", "nothing"],
    ):
        code, out, err = stochcon(*arguments)
        assert (code, out, len(err)) == (1, [], 1)
        assert "nothing" in err[0]


def test_encode_prints_a_line_an_image_and_fails_if_one_is_bad(stochcon, here):
    (here / "in").mkdir()
    (here / "in" / "a.png").write_bytes(png(1))
    (here / "in" / "b.png").write_bytes(b"broken")
    (here / "c").write_bytes(png(2))
    code, out, _ = stochcon("encode", "in", "c", "--raw", "codes.bin")
    lines = [json.loads(line) for line in out]
    assert code == 1
    assert [line["path"] for line in lines] == ["in/a.png", "in/b.png", "c"]
    assert lines[0].keys() == {"path", "code", "active_bits", "entropy_bits"}
    assert lines[1].keys() == {"path", "error"}
    raw = (here / "codes.bin").read_bytes()
    assert raw == b64decode(lines[0]["code"]) + b64decode(lines[2]["code"])
    assert stochcon("encode", "c")[0] == 0
    assert not (here / "data").exists()


def test_models_are_listed_and_shown(stochcon, models):
    (line,) = stochcon("models", "list")[1]
    name, _, bits, active, id = line.split("\t")
    assert (name, bits, active) == ("tiny", "64", "active")
    card = json.loads(stochcon("models", "show", "tiny")[1][0])
    assert (card["id"], card["manifest"]["latent"]) == (id, "bernoulli")
    assert json.loads(stochcon("models", "show", id[:8])[1][0]) == card


def test_indexing_with_another_model_is_refused_before_the_first_image(stochcon, here, photos):
    assert stochcon("index", photos / "cats")[0] == 0
    (here / "others").mkdir()
    write_tiny_model(here / "others" / "b.onnx", seed=1, name="other")
    code, out, err = stochcon("index", photos / "cats", "--models", "others")
    assert (code, out) == (1, [])
    assert "the model that was activated is not there" in err[0]
    assert "tiny" in err[-1]
    assert "other" in err[-1]


def test_prune_spares_what_it_should(stochcon, here, photos):
    stochcon("index", photos, "--json")
    for path in (photos / "cats").iterdir():
        path.unlink()
    assert json.loads(stochcon("index", photos, "--json")[1][-1])["deleted"] == 0
    assert json.loads(stochcon("index", photos, "--json", "--prune")[1][-1])["deleted"] == 6
    for path in (photos / "dogs").iterdir():
        path.unlink()
    (photos / "broken.jpg").unlink()
    _, out, err = stochcon("index", photos, "--json", "--prune")
    assert json.loads(out[-1])["deleted"] == 0
    assert "holds no images" in err[0]


def test_verify_finds_a_sound_store_sound_and_a_damaged_one_not(stochcon, here, photos):
    stochcon("index", photos)
    assert stochcon("verify") == (0, [], ["the store is sound"])
    (catalog,) = (here / "data").rglob("catalog.sqlite")
    connection = sqlite3.connect(catalog)
    (table,) = [
        name
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        if any(column[1] == "code" for column in connection.execute(f"PRAGMA table_info({name})"))
    ]
    connection.execute(f"UPDATE {table} SET code = x'00'")
    connection.commit()
    connection.close()
    code, out, err = stochcon("verify")
    assert code == 1
    assert out or err


def test_output_for_a_terminal_is_a_table_without_control_characters(stochcon, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    print_table(("distance", "id"), [(1, "[red]a\x1b[31m"), (23, "b")])
    out = capsys.readouterr().out
    assert "distance" in out
    assert "[red]a" in out
    assert "\x1b[31m" not in out


def test_no_failure_ends_in_a_traceback(stochcon, here):
    (here / "data").write_text("a file where the store's folder should be")
    code, _, err = stochcon("index", str(here))
    assert (code, len(err)) == (1, 1)
    assert cli.run(["models", "list", "--models", "nowhere"]) == 0


def test_an_answer_with_nothing_in_it_says_so(stochcon, here):
    (here / "plain.png").write_bytes(png())
    assert stochcon("index", "plain.png")[0] == 0
    assert stochcon("classify", "plain.png") == (
        0,
        [],
        ["no item of the collection 'default' that answers this has a label: index with --labels"],
    )
    assert stochcon("collections", "create", "empty")[0] == 0
    code, out, err = stochcon("search", "plain.png", "--collection", "empty")
    assert (code, out, err) == (0, [], ["nothing in the collection 'empty' answers this"])
