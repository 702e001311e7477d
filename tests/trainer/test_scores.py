import json
from pathlib import Path

from trainer.scores import summary, write_json


def test_the_last_epoch_stands_beside_the_best_counted_from_one() -> None:
    found = summary("top1", [0.25, 0.7500001234, 0.75, 0.5])
    assert found == {"top1": [0.25, 0.75, 0.75, 0.5], "best": 0.75, "last": 0.5, "best_epoch": 2}


def test_scores_below_zero_have_a_best_one_too() -> None:
    assert summary("r2", [-3.0, -1.0])["best"] == -1.0


def test_a_result_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "probe.json"
    write_json(path, {"a": 1})
    write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 2}
    assert list(tmp_path.iterdir()) == [path]
