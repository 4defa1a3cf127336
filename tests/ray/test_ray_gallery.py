"""A gallery whose pictures actors of a Ray cluster make, one of which is killed."""

import json
import os
import signal
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("ray")
from pixrt.apps.entries import read_entries
from pixrt.apps.gallery import Gallery
from pixrt.apps.journal import JOURNAL_NAME, open_journal
from pixrt.editor.editor import Editor
from pixrt.options.ray import ShareOptions
from pixrt.options.session import SessionOptions
from pixrt.ray.clusters import cluster
from pixrt.ray.crew import Crew, Opening

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
COUNT, BATCH = 40, 4
SESSION = SessionOptions(backend="ort-cpu", max_batch=BATCH, threads=1)


def test_it_is_the_gallery_of_one_machine_although_an_actor_is_killed(tmp_path: Path) -> None:
    import ray

    source, spread, single = (tmp_path / name for name in ("in", "spread", "single"))
    for folder in (source, spread, single):
        folder.mkdir()
    for number in range(COUNT):
        Image.new("RGB", (64 if number % 3 else 48, 64), (6 * number, 90, 200)).save(source / f"{number:02d}.png")

    def entries(output: Path):  # type: ignore[no-untyped-def]
        return read_entries([str(source)], "make it red", {"seed": 1, "steps": 2}, output)

    with Editor("shapes", SESSION) as editor:
        with open_journal(single, {}) as journal:
            alone = list(Gallery(editor, single, journal, max_batch=BATCH).run(entries(single)))
        opening, share = Opening("shapes", SESSION), ShareOptions(replicas=2, replica_cpus=0.5)
        with cluster(), Crew(editor, opening, share, BATCH) as crew, open_journal(spread, {}) as journal:
            victim = ray.get(crew.makers[0].pid.remote())
            states: Counter[str] = Counter()
            for outcome in Gallery(crew, spread, journal, max_batch=BATCH).run(entries(spread)):
                if not states:
                    os.kill(victim, signal.SIGKILL)
                states[outcome.state] += 1
    assert states == {"done": COUNT}
    assert Counter(each.state for each in alone) == states
    lines = [json.loads(line) for line in (spread / JOURNAL_NAME).read_text().splitlines()[1:]]
    assert len({line["output"] for line in lines}) == len(lines) == COUNT, "nothing twice"
    for outcome in alone:
        assert (spread / outcome.entry.target).read_bytes() == outcome.target.read_bytes()
