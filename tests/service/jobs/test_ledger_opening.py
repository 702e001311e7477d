"""Which kind of ledger is opened."""

import sys
from contextlib import closing
from pathlib import Path

import pytest

from service.jobs.opening import LEDGER_NAME, open_ledger
from tests.service.jobs.ledger_steps import SPEC


def test_without_a_url_jobs_are_kept_in_the_data_folder(tmp_path: Path) -> None:
    with closing(open_ledger(tmp_path, None)) as ledger:
        ledger.submit(SPEC)
    assert [path.name for path in tmp_path.iterdir() if path.stat().st_size] == [LEDGER_NAME]


def test_with_a_url_jobs_are_kept_there_and_nothing_in_the_data_folder(
    tmp_path: Path, redis_url: str
) -> None:
    with closing(open_ledger(tmp_path, redis_url)) as ledger:
        job = ledger.submit(SPEC)
    assert list(tmp_path.iterdir()) == []
    with closing(open_ledger(tmp_path / "elsewhere", redis_url)) as ledger:
        assert ledger.jobs() == [job]


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.startswith("service.jobs.redis")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ValueError, match=r"pip install 'stochcon\[redis\]'"):
        open_ledger(tmp_path, "redis://localhost")
