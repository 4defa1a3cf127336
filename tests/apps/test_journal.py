"""The journal of a gallery survives what a crash can do to it, and knows whose it is."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixrt.apps.journal import JOURNAL_NAME, earlier_seed, open_journal
from pixrt.errors import OutputError

JOB: dict[str, Any] = {"instruction": "make it darker", "options": {"seed": 7, "guidance_interval": (0.0, 1.0)}}


def fill(folder: Path, count: int) -> None:
    with open_journal(folder, JOB) as journal:
        for number in range(count):
            journal.write(f"key{number}", {"input": f"名{number}.png"}, failed=number % 3 == 0)


def test_states_are_there_again(tmp_path: Path) -> None:
    fill(tmp_path, 5)
    with open_journal(tmp_path, JOB) as journal:
        assert [journal.state(f"key{n}") for n in range(6)] == ["failed", "done", "done", "failed", "done", None]
        journal.write("key0", {}, failed=False)
    with open_journal(tmp_path, JOB) as journal:
        assert journal.state("key0") == "done"
    assert earlier_seed(tmp_path) == 7


@settings(max_examples=60)
@given(cut=st.integers(0, 600))
def test_cut_anywhere_it_goes_on(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    folder = tmp_path_factory.mktemp("journal")
    fill(folder, 5)
    path = folder / JOURNAL_NAME
    whole = path.read_bytes()
    path.write_bytes(whole[:cut])
    lines = whole[:cut].count(b"\n")
    with open_journal(folder, JOB) as journal:
        assert sum(journal.state(f"key{n}") is not None for n in range(5)) == max(0, lines - 1)
        journal.write("new", {}, failed=False)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(rows) == max(lines, 1) + 1
    assert rows[0]["job"]["options"]["seed"] == 7


@pytest.mark.parametrize(
    ("job", "named"),
    [
        ({**JOB, "instruction": "x"}, "instruction"),
        ({**JOB, "options": {"seed": 8, "guidance_interval": (0.0, 1.0)}}, "seed 7, and now it is 8"),
        ({**JOB, "loras": [{"name": "a"}]}, "loras None"),
    ],
)
def test_another_job_is_refused(tmp_path: Path, job: dict[str, Any], named: str) -> None:
    fill(tmp_path, 2)
    before = (tmp_path / JOURNAL_NAME).read_bytes()
    with pytest.raises(OutputError, match=named), open_journal(tmp_path, job):
        pass
    assert (tmp_path / JOURNAL_NAME).read_bytes() == before


@pytest.mark.parametrize(
    "text", ["hello\n", '{"pixrt_batch": 2, "job": {}}\n', "[1]\n", '{"pixrt_batch": 1, "job": {}}\n{}\n']
)
def test_what_is_no_journal_is_left_alone(tmp_path: Path, text: str) -> None:
    (tmp_path / JOURNAL_NAME).write_text(text)
    with pytest.raises(OutputError, match="is not a journal"), open_journal(tmp_path, JOB):
        pass
    assert (tmp_path / JOURNAL_NAME).read_text() == text
    assert earlier_seed(tmp_path) is None


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with open_journal(tmp_path, JOB), pytest.raises(OutputError, match="another process"), open_journal(tmp_path, JOB):
        pass


def test_threads_write_whole_lines(tmp_path: Path) -> None:
    with open_journal(tmp_path, JOB) as journal:

        def write(part: int) -> None:
            for number in range(200):
                journal.write(f"{part}-{number}", {"input": "x" * 200}, failed=False)

        threads = [threading.Thread(target=write, args=(part,)) for part in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    rows = [json.loads(line) for line in (tmp_path / JOURNAL_NAME).read_text().splitlines()]
    assert len({row["key"] for row in rows[1:]}) == 800
