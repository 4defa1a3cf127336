"""Quality of edits against the work that they take: steps, solvers, and what is computed again or not.

    pixrt export tests/data/shapes_checkpoint -o out/deep-shapes --compact --deep-cache --defaults-from shapes
    python benchmarks/less_work.py out/deep-shapes --search --count 100 --json docs/results/less-work.json
    python benchmarks/less_work.py demo --photo --search --count 100 --json docs/results/less-work-photo.json
    python benchmarks/less_work.py out/deep-shapes [--count 90] [--steps N] [--repeat 3] [--picture FILE]...

The edits are those of held-out scenes of the world that the model `shapes` was trained on, by the judge of `pixrt eval
world`; with `--photo` those of held-out photographs, by that of `pixrt eval photo`; with `--picture` pictures after the
bundle's own examples, and there is no judge. The exact edit is the bundle's default one. A line for each setting: edits
that are right, the median and the worst PSNR to the exact edit in dB, and network rows of an edit, whole and shallow.
Work is in whole rows, a shallow one weighing what `--shallow-work` says: its share of the FLOPs.

Without `--search` some settings of both intervals are tried at the bundle's own solver and steps. With it every solver
is tried at few steps, then with the best of each number of steps what else saves work, on `--screen` edits; what is
nearer to the exact edit than all of less work goes on to all `--count` of them. No figure of it depends on time. With
`--repeat` the settings take turns so many times, and the last columns are seconds of an edit, the median and the range:
on a quiet machine only. `--json` keeps the lines; `--keep` writes into the bundle's manifest what `--preset` and
`--budget-ms` choose from: the settings that lose at most 1 point of accuracy (fast) or 3 (turbo), none worse than one
of less work.
"""

import json
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image

from pixrt.bundles.manifest import MANIFEST_NAME, Component, Manifest, RungSpec
from pixrt.bundles.store import find_bundle
from pixrt.editor.editor import Editor
from pixrt.options.ladder import LEVERS
from pixrt.options.tasks import EditOptions
from pixrt.tasks.jobs import Job
from pixrt_export.evaluation.accuracy import PSNR_CAP_DB, psnr_db
from pixrt_export.evaluation.cases import held_out_cases
from pixrt_export.evaluation.photo import photo_cases
from pixrt_export.evaluation.statistics import Loss, Share
from pixrt_export.photo.judge import find_mistake
from pixrt_export.world.judge import nearest_is_right

INTERVALS = ((1, 1), (1, 2), (1, 3), (1, 5), (2, 1), (4, 1), (2, 2), (2, 3))  # of branches and of the cache
STEPS = (2, 3, 4, 6, 8, 10, 12)  # from a fifth of the exact edit's
SOLVERS = ("dpmpp_2m", "dpmpp_2m_karras", "unipc", "euler", "ddim", "lcm")
BRANCHES, CACHES = (1, 2, 20), (1, 2, 3)
WINDOWS = ((0.0, 1.0), (0.0, 0.5))
Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Setting:
    """How an edit is made."""

    steps: int
    scheduler: str
    branch_interval: int = 1
    cache_interval: int = 1
    guidance_interval: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Question:
    """A picture, what is asked of it, and whether an edit is right; None where nobody can tell."""

    picture: Pixels
    text: str
    judge: Callable[[Pixels], bool] | None


@dataclass(slots=True)
class Line:
    """A setting, rows of an edit, and of each edit whether it is right and its PSNR to the exact one."""

    setting: Setting
    whole_rows: int
    shallow_rows: int
    right: list[bool] = field(default_factory=list)
    psnr_db: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def work(self, shallow: float) -> float:
        """In whole rows."""
        return self.whole_rows + shallow * self.shallow_rows

    def loss(self, exact: "Line") -> Loss:
        """Points of accuracy that it has less than the exact edit, in the same edits."""
        return Loss.of(exact.right, self.right)

    def facts(self, exact: "Line", shallow: float) -> dict[str, Any]:
        """As JSON."""
        found: dict[str, Any] = {
            **asdict(self.setting),
            "whole_rows": self.whole_rows,
            "shallow_rows": self.shallow_rows,
        }
        work = self.work(shallow)
        found |= {
            "work": round(work, 2),
            "times_less": round(exact.work(shallow) / work, 2),
            "edits": len(self.psnr_db),
        }
        if self.right:
            found["right"] = sum(self.right)
        if self.right and len(self.right) == len(exact.right):  # of few edits they say nothing
            (low, high), loss = Share.of(self.right).interval, self.loss(exact)
            found |= {"low": round(low, 4), "high": round(high, 4)}
            found |= {"loss": round(loss.value, 2), "loss_interval": [round(end, 2) for end in loss.interval]}
        found |= {"median_psnr_db": round(statistics.median(self.psnr_db), 2)}
        return found | {"worst_psnr_db": round(min(self.psnr_db), 2)}

    @property
    def told_rows(self) -> tuple[Any, ...]:
        """What it computes: settings that have this in common are one."""
        each = self.setting
        return each.steps, each.scheduler, each.guidance_interval, self.whole_rows, self.shallow_rows

    @property
    def levers(self) -> set[str]:
        """What it uses again: see `pixrt.options.ladder`."""
        return {name for name in LEVERS if getattr(self.setting, name) > 1}

    def told(self) -> str:
        """As a line of text."""
        each, right = self.setting, f"{sum(self.right)}/{len(self.right)}" if self.right else "-"
        took, window = "", "-".join(f"{end:g}" for end in each.guidance_interval)
        if self.seconds:
            took = f"{statistics.median(self.seconds):9.3f} ({min(self.seconds):.3f} to {max(self.seconds):.3f})"
        return (
            f"{each.scheduler:>16}{each.steps:>6}{each.branch_interval:>7}{each.cache_interval:>6}{window:>8}"
            f"{self.whole_rows:>6}{self.shallow_rows:>8}{right:>9}"
            f"{statistics.median(self.psnr_db):>9.1f}{min(self.psnr_db):>9.1f}{took}"
        )


HEAD = "       scheduler steps branch cache  window whole shallow    right   median    worst"


class Bench:
    """Makes edits, and keeps what was found of each setting: none is made twice."""

    def __init__(self, editor: Editor, questions: Sequence[Question], exact: Setting, shallow: float) -> None:
        self._editor = editor
        self._questions = questions
        self._pictures: list[Pixels] = []  # the exact edits
        self.exact = exact
        self.shallow = shallow
        self.lines: dict[Setting, Line] = {}

    def plan(self, setting: Setting) -> Line:
        """Its rows; nothing is run."""
        first = self._questions[0]
        requests = self._editor.check([Job(options=self._options(setting, 0), text=first.text, image=first.picture)])
        (told,) = self._editor.estimate(requests)
        return Line(setting, told.network_rows - told.shallow_rows, told.shallow_rows)

    def work(self, setting: Setting) -> float:
        """Of an edit, in whole rows."""
        return self.plan(setting).work(self.shallow)

    def measure(self, settings: Iterable[Setting], count: int) -> list[Line]:
        """Of the first `count` edits. All settings of a picture share calls of the network where they can."""
        settings = list(dict.fromkeys([self.exact, *settings]))
        self.lines |= {setting: self.plan(setting) for setting in settings if setting not in self.lines}
        for number, question in enumerate(self._questions[:count]):
            missing = [setting for setting in settings if len(self.lines[setting].psnr_db) <= number]
            made = self._edit(question, number, missing)
            if self.exact in made and len(self._pictures) <= number:
                self._pictures.append(made[self.exact])
            for setting, picture in made.items():
                line = self.lines[setting]
                line.psnr_db.append(min(PSNR_CAP_DB, psnr_db(picture, self._pictures[number])))
                if question.judge is not None:
                    line.right.append(question.judge(picture))
        return [self.lines[setting] for setting in settings]

    def time(self, settings: Iterable[Setting], few: int) -> None:
        """Seconds of an edit by each, in turn: everything has run once."""
        for setting in settings:
            started = time.perf_counter()
            for number, question in enumerate(self._questions[:few]):
                self._edit(question, number, [setting])
            self.lines[setting].seconds.append((time.perf_counter() - started) / min(few, len(self._questions)))

    def _edit(self, question: Question, number: int, settings: Sequence[Setting]) -> dict[Setting, Pixels]:
        jobs = [
            Job(options=self._options(setting, number), text=question.text, image=question.picture)
            for setting in settings
        ]
        results = self._editor.run(self._editor.check(jobs)) if jobs else ()
        return {settings[result.index]: np.asarray(result.image) for result in results}

    @staticmethod
    def _options(setting: Setting, seed: int) -> EditOptions:
        return EditOptions(seed=seed, **asdict(setting))

    def front(self, lines: Sequence[Line]) -> list[Line]:
        """Of lines of at most 2 / 5 of the exact work those that are nearer to the exact edit than all of less work.

        Nearer by 2 dB at least: what is between is left out. Of an edit that is short anyway it is 4 / 5 of the work.
        """
        most, kept = (0.4 if self.exact.steps > 10 else 0.8) * self.work(self.exact), list[Line]()
        for line in sorted(lines, key=lambda line: (line.work(self.shallow), -nearness(line))):
            if line.work(self.shallow) <= most and (not kept or nearness(line) >= nearness(kept[-1]) + 2):
                kept.append(line)
        return kept


def nearness(line: Line) -> float:
    """To the exact edits: the median PSNR."""
    return statistics.median(line.psnr_db)


def search(bench: Bench, has_shallow: bool, screen: int, count: int) -> None:
    """See the module: solvers at few steps, the other levers with the best of each, the best of all on all edits."""
    exact, most = bench.exact, bench.work(bench.exact)
    steps = [each for each in STEPS if exact.steps / 5 <= each < exact.steps]
    solvers = dict.fromkeys((exact.scheduler, *SOLVERS))
    tried = bench.measure((Setting(each, name) for each in steps for name in solvers), screen // 2)
    print_lines(tried)
    # A solver of distilled networks is told, and never taken.
    usual = [line for line in tried if line.setting.scheduler != "lcm" or exact.scheduler == "lcm"]
    best = {each: max((line for line in usual if line.setting.steps == each), key=nearness) for each in steps}
    guided = most > exact.steps
    levers = [
        replace(best[each].setting, branch_interval=b, cache_interval=c, guidance_interval=window)
        for each in steps
        for b in (BRANCHES if guided else (1,))
        for c in (CACHES if has_shallow else (1,))
        for window in (WINDOWS if guided else WINDOWS[:1])
        if c < each
    ]
    cheap = {bench.plan(each).told_rows: each for each in reversed(levers) if bench.work(each) <= most / 2}
    lines = bench.measure(reversed(cheap.values()), screen)
    print_lines(lines)
    print(f"on {count} edits", flush=True)
    print_lines(bench.measure(finals_of(bench, [*usual, *lines]), count))


def finals_of(bench: Bench, lines: Sequence[Line]) -> list[Setting]:
    """The best of little work, with each set of levers, as not every bundle and backend has all, and with a window.

    So few edits tell by their PSNR, where one more is wrong than of the exact ones at most: accuracy is for all edits.
    """
    least = sum(bench.lines[bench.exact].right[: len(lines[-1].right)]) - 1
    sound = [line for line in lines if sum(line.right) >= least or len(line.right) < len(lines[-1].right)]
    whole = [line for line in sound if line.setting.guidance_interval == WINDOWS[0]]
    fronts = [
        bench.front([line for line in whole if line.levers <= levers]) for levers in (LEVERS, {"branch_interval"})
    ]
    fronts.append(bench.front([line for line in sound if line not in whole])[:3])
    return list(dict.fromkeys(line.setting for front in fronts for line in front))


def ladder_of(bench: Bench, count: int) -> tuple[RungSpec, ...]:
    """What presets and budgets may take of what was tried on all edits, the most work first.

    It loses at most three points of accuracy, and nothing that takes no other lever and no more work is as good.
    """
    exact = bench.lines[bench.exact]
    tried = [line for line in bench.lines.values() if len(line.psnr_db) == count and line is not exact]
    tried = [line for line in tried if line.setting.guidance_interval == WINDOWS[0] and line.loss(exact).value <= 3]
    kept = [
        line
        for line in tried
        if not any(
            other.levers <= line.levers and other.work(bench.shallow) <= line.work(bench.shallow)
            for other in tried
            if other is not line
            and other.loss(exact).value <= line.loss(exact).value
            and nearness(other) >= nearness(line)
        )
    ]
    return tuple(
        RungSpec(
            line.setting.steps,
            line.setting.scheduler,
            line.setting.branch_interval,
            line.setting.cache_interval,
            "fast" if line.loss(exact).value <= 1 else "turbo",
        )
        for line in sorted(kept, key=lambda line: -line.work(bench.shallow))
    )


def questions_of(editor: Editor, count: int, pictures: Sequence[Path], photo: bool) -> list[Question]:
    """What is asked."""
    size = editor.manifest.native_resolution
    if pictures:
        made = [np.asarray(Image.open(path).convert("RGB")) for path in pictures]
        return [Question(each, text, None) for each in made for text in editor.manifest.examples]
    if photo:
        return [
            Question(
                case.source, case.text, lambda edit, case=case: not find_mistake(case.source, case.instruction, edit)
            )
            for case in photo_cases(count, size)
        ]
    return [
        Question(
            case.source(size), case.text, lambda edit, case=case: nearest_is_right(case.scene, case.instruction, edit)
        )
        for case in held_out_cases(count)
    ]


def print_lines(lines: Iterable[Line]) -> None:
    """One for each setting."""
    print(*(line.told() for line in lines), sep="\n", flush=True)


def main(
    bundle: Annotated[str, typer.Argument(help="With a shallow network if it was exported with --deep-cache.")],
    count: Annotated[int, typer.Option(help="Edits.")] = 90,
    steps: Annotated[int | None, typer.Option(help="The bundle's by default.")] = None,
    repeat: Annotated[int, typer.Option(help="How often the settings take turns; 0 takes no times.")] = 0,
    picture: Annotated[list[Path] | None, typer.Option(help="Instead of scenes; may be repeated.")] = None,
    photo: Annotated[bool, typer.Option(help="Held-out photographs instead of scenes.")] = False,
    searches: Annotated[bool, typer.Option("--search", help="Look for the settings that cost least.")] = False,
    screen: Annotated[
        int, typer.Option(help="With --search: edits that every setting is tried with; solvers with half.")
    ] = 18,
    shallow_work: Annotated[float, typer.Option(help="A row of the shallow network, of a whole row's FLOPs.")] = 0.12,
    keep: Annotated[bool, typer.Option(help="Write what presets and budgets choose from into the manifest.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Where the lines are kept.")] = None,
    backend: Annotated[str, typer.Option()] = "ort-cpu",
    threads: Annotated[int, typer.Option()] = 1,
) -> None:
    """Print a line for each setting."""
    with Editor(bundle, backend=backend, threads=threads) as editor:
        manifest = editor.manifest
        exact = Setting(steps or manifest.defaults.steps, manifest.defaults.scheduler)
        bench = Bench(editor, questions_of(editor, count, picture or (), photo), exact, shallow_work)
        print(HEAD + ("  seconds" if repeat else ""), flush=True)
        has_shallow = Component.UNET_SHALLOW in manifest.components
        if searches:
            search(bench, has_shallow, screen, count)
        else:
            settings = [
                replace(exact, branch_interval=b, cache_interval=c) for b, c in INTERVALS if has_shallow or c == 1
            ]
            lines = bench.measure(settings, count)
            for _ in range(repeat):
                bench.time(settings, 9)
            print_lines(lines)
        ladder = ladder_of(bench, count) if searches and bench.lines[exact].right else ()
        print(*ladder, sep="\n")
        if keep and ladder:
            path = find_bundle(bundle) / MANIFEST_NAME
            told = replace(manifest, defaults=replace(manifest.defaults, ladder=ladder))
            path.write_text(told.to_json(), encoding="utf-8")
        if json_file is not None:
            json_file.write_text(as_json(bench, manifest, count))


def as_json(bench: Bench, manifest: Manifest, count: int) -> str:
    """One line of text for each setting, so that a change of the file can be read."""
    exact = bench.lines[bench.exact]
    lines = sorted(bench.lines.values(), key=lambda line: (-len(line.psnr_db), -line.work(bench.shallow)))
    head = {
        "model": manifest.name,
        "model_sha256": manifest.source.sha256,
        "shallow_work": bench.shallow,
        "edits": count,
    }
    told = ",\n  ".join(json.dumps(line.facts(exact, bench.shallow)) for line in lines)
    return json.dumps(head)[:-1] + f',\n "lines": [\n  {told}\n ]}}\n'


if __name__ == "__main__":
    typer.run(main)
