"""The journal of a gallery survives what a crash can do to it, and knows whose it is."""

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixrt.apps.journal import JOURNAL_NAME, Journal, earlier_seed, open_journal
from pixrt.errors import OutputError
from pixrt.files import Content

JOB: dict[str, Any] = {"instruction": "make it darker", "options": {"seed": 7, "guidance_interval": (0.0, 1.0)}}
CONTENT = Content.of(b"a result")


def write(journal: Journal, number: int, key: str = "key") -> None:
    target, facts = f"{number}.png", {"input": f"名{number}.png"}
    if number % 3:
        journal.write_done(target, key, CONTENT, "../in.png", facts)
    else:
        journal.write_failed(target, key, facts)


def fill(folder: Path, count: int) -> None:
    with open_journal(folder, JOB) as journal:
        for number in range(count):
            write(journal, number)


def states(journal: Journal, count: int) -> list[str | None]:
    records = [journal.find(f"{number}.png") for number in range(count)]
    return [record and record.state for record in records]


def test_states_are_there_again(tmp_path: Path) -> None:
    fill(tmp_path, 5)
    with open_journal(tmp_path, JOB) as journal:
        assert states(journal, 6) == ["failed", "done", "done", "failed", "done", None]
        journal.write_done("0.png", "other", CONTENT, "x.png", {})
    with open_journal(tmp_path, JOB) as journal:
        record = journal.find("0.png")
        assert record is not None
        assert (record.key, record.state, record.content, record.made) == ("other", "done", CONTENT, {CONTENT: "x.png"})
    assert earlier_seed(tmp_path) == 7


def test_the_last_line_counts_and_every_result_is_remembered(tmp_path: Path) -> None:
    contents = [Content.of(bytes([number])) for number in range(3)]
    with open_journal(tmp_path, JOB) as journal:
        for number, content in enumerate(contents):
            journal.write_done("a.png", f"key{number}", content, "../a.png", {})
        journal.write_failed("a.png", "key3", {})
    with open_journal(tmp_path, JOB) as journal:
        record = journal.find("a.png")
    assert record is not None
    assert (record.key, record.state, record.content) == ("key3", "failed", None)
    assert record.made == dict.fromkeys(contents, "../a.png")


@settings(max_examples=60)
@given(cut=st.integers(0, 1200))
def test_cut_anywhere_it_goes_on(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    folder = tmp_path_factory.mktemp("journal")
    fill(folder, 5)
    path = folder / JOURNAL_NAME
    whole = path.read_bytes()
    path.write_bytes(whole[:cut])
    lines = whole[:cut].count(b"\n")
    with open_journal(folder, JOB) as journal:
        assert sum(state is not None for state in states(journal, 5)) == max(0, lines - 1)
        write(journal, 9)
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
    "text",
    [
        "hello\n",
        "hello, without an end",
        "name,age\nme,3",
        '{"notes": "of mine"}',
        '{"pixrt_batch": 3, "job": {}}\n',
        "[1]\n",
        "\n",
        '{"pixrt_batch": 2, "job": {}}\n{}\n',
        '{"pixrt_batch": 2, "job": {}}\n' + "[" * 100_000 + "\n",
    ],
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_no_journal_is_left_alone(tmp_path: Path, text: str, overwrite: bool) -> None:
    (tmp_path / JOURNAL_NAME).write_text(text)
    with pytest.raises(OutputError, match="is not a journal"), open_journal(tmp_path, JOB, overwrite=overwrite):
        pass
    assert (tmp_path / JOURNAL_NAME).read_text() == text
    assert earlier_seed(tmp_path) is None


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_pipe_or_a_folder_of_its_name(tmp_path: Path, make: Any) -> None:
    make(tmp_path / JOURNAL_NAME)
    with pytest.raises(OutputError, match="is not a journal"), open_journal(tmp_path, JOB):
        pass
    assert earlier_seed(tmp_path) is None


def test_an_earlier_version_is_told_and_begun_anew_where_asked(tmp_path: Path) -> None:
    path = tmp_path / JOURNAL_NAME
    text = '{"pixrt_batch": 1, "job": {"options": {"seed": 3}}}\n{"key": "0", "state": "done", "output": "a.png"}\n'
    path.write_text(text)
    with pytest.raises(OutputError, match=r"earlier version.*--overwrite"), open_journal(tmp_path, JOB):
        pass
    assert path.read_text() == text
    assert earlier_seed(tmp_path) == 3
    with open_journal(tmp_path, JOB, overwrite=True) as journal:
        assert journal.find("a.png") is None
    assert [json.loads(line).get("pixrt_batch") for line in path.read_text().splitlines()] == [2]


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with open_journal(tmp_path, JOB), pytest.raises(OutputError, match="another process"), open_journal(tmp_path, JOB):
        pass


def test_threads_write_whole_lines(tmp_path: Path) -> None:
    with open_journal(tmp_path, JOB) as journal:

        def write_many(part: int) -> None:
            for number in range(100):
                journal.write_failed(f"{part}-{number}", "key", {"input": "x" * 200})

        threads = [threading.Thread(target=write_many, args=(part,)) for part in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    rows = [json.loads(line) for line in (tmp_path / JOURNAL_NAME).read_text().splitlines()]
    assert len({row["output"] for row in rows[1:]}) == 400
