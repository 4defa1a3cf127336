"""Edit accuracy on editors whose share of right answers is known, its intervals, its sweep and its gate."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pixrt import Editor
from pixrt.errors import OptionError, PixrtError
from pixrt_export.evaluation.accuracy import (
    PSNR_CAP_DB,
    EditFunction,
    difference,
    edit_accuracy,
    editor_at_scales,
    editor_function,
    psnr_db,
    worst_block,
)
from pixrt_export.evaluation.cases import WorldCase, held_out_cases
from pixrt_export.evaluation.gate import Gate
from pixrt_export.evaluation.plots import sweep_plot
from pixrt_export.evaluation.sheets import world_edits_sheet
from pixrt_export.evaluation.statistics import Mean, Share
from pixrt_export.evaluation.sweep import sweep_scales
from pixrt_export.world.instructions import BASE_KINDS, KINDS, Edit, Instruction
from pixrt_export.world.judge import nearest_is_right

SIZE = 32


def identity(pictures: NDArray[np.uint8], texts: Sequence[str]) -> NDArray[np.uint8]:
    return pictures


def fake(cases: Sequence[WorldCase], *, wrong_every: int | None = None) -> EditFunction:
    """Gives the right answers, or the source for every so many."""
    order = iter(enumerate(cases))

    def edit(pictures: NDArray[np.uint8], texts: Sequence[str]) -> Iterator[NDArray[np.uint8]]:
        for picture, text in zip(pictures, texts, strict=True):
            number, case = next(order)
            assert text == case.text
            assert (picture == case.source(len(picture))).all()
            yield picture if wrong_every and number % wrong_every == 0 else case.answer(len(picture))

    return edit


def test_a_perfect_editor_is_always_right() -> None:
    cases = held_out_cases(27)
    report = edit_accuracy(fake(cases), cases, size=SIZE, batch=4)
    assert report.accuracy == Share(27, 27)
    assert report.psnr_db == Mean(PSNR_CAP_DB, (PSNR_CAP_DB, PSNR_CAP_DB), 27)
    assert report.mistakes == {}
    assert (report.worst_block.value, report.spoiled.hits) == (0, 0)


@pytest.mark.parametrize("kind", [None, "grayscale", "border"])
def test_an_editor_that_does_nothing_is_never_right(kind: str | None) -> None:
    cases = held_out_cases(45, kind=kind)
    report = edit_accuracy(identity, cases, size=SIZE)
    assert report.accuracy.hits == 0
    assert report.mistakes == {"unedited": 45}
    assert report.source_similarity.value == 1


def test_a_known_mixture() -> None:
    cases = held_out_cases(36)
    report = edit_accuracy(fake(cases, wrong_every=4), cases, size=SIZE, keep=1)
    assert report.accuracy == Share(27, 36)
    assert sum(part.accuracy.hits for part in report.by_kind().values()) == 27
    assert [verdict.right for verdict in report.verdicts] == [number % 4 != 0 for number in range(36)]
    assert sum(verdict.picture is not None for verdict in report.verdicts) == len(BASE_KINDS)


def test_it_is_the_trainers_measure() -> None:
    cases = held_out_cases(18)
    rng = np.random.default_rng(0)
    made = [case.answer(SIZE) // 3 + rng.integers(0, 100, (SIZE, SIZE, 3), np.uint8) for case in cases]
    report = edit_accuracy(lambda _, texts: made, cases, size=SIZE, batch=18)
    expected = [nearest_is_right(case.scene, case.instruction, made[i]) for i, case in enumerate(cases)]
    assert len(set(expected)) == 2
    assert [verdict.right for verdict in report.verdicts] == expected


@pytest.mark.parametrize(
    ("asked", "done", "name"),
    [
        ([Edit("recolor", "star", "red")], Edit("recolor", "star", "blue"), "other colour"),
        ([Edit("background", value="red")], Edit("background", value="blue"), "other colour"),
        ([Edit("replace", "star", "circle")], Edit("replace", "star", "square"), "other shape"),
        ([Edit("bigger", "star")], Edit("smaller", "star"), "other way"),
        ([Edit("bigger", "star")], Edit("bigger", "circle"), "other object"),
        ([Edit("recolor", "star", "red")], Edit("recolor", "circle", "red"), "other object"),
        ([Edit("recolor", "star", "red")], Edit("remove", "star"), "remove"),
        ([Edit("darken")], Edit("bigger", "star"), "resize"),
        ([Edit("remove", "star"), Edit("background", value="red")], Edit("remove", "star"), "one of two"),
        ([Edit("remove", "star"), Edit("background", value="red")], Edit("background", value="blue"), "other colour"),
    ],
)
def test_mistakes_have_names(asked: list[Edit], done: Edit, name: str) -> None:
    assert difference(Instruction(tuple(asked)), Instruction((done,))) == name


def test_the_chosen_answer_is_the_one_that_was_made() -> None:
    """Every wrong answer is recognised as itself: candidates and names are in one order."""
    from pixrt_export.world.drawing import draw
    from pixrt_export.world.instructions import single_instructions

    (case,) = held_out_cases(1, seed=4, kind="recolor")
    for other in single_instructions(case.scene):
        if other != case.instruction:
            made = draw(other.apply(case.scene), 64)
            report = edit_accuracy(lambda _, texts, made=made: [made], [case], size=64)  # type: ignore[misc]
            assert list(report.mistakes) == [difference(case.instruction, other)]


def test_kinds_have_equal_shares_of_held_out_scenes() -> None:
    cases = held_out_cases(50, seed=2)
    counts = Counter(case.kind for case in cases)
    assert set(counts) == set(BASE_KINDS)
    assert max(counts.values()) - min(counts.values()) <= 1
    assert {case.scene.split for case in cases} == {"held-out"}
    assert len({case.scene for case in cases}) == 50
    assert cases == held_out_cases(50, seed=2)
    assert cases != held_out_cases(50, seed=3)
    assert {case.kind for case in held_out_cases(5, kind="border")} == {"border"}


@pytest.mark.parametrize(("count", "kind"), [(0, None), (5, "bigger"), (5, "nothing")])
def test_cases_that_cannot_be(count: int, kind: str | None) -> None:
    with pytest.raises(OptionError):
        held_out_cases(count, kind=kind)


def test_an_edit_of_another_size_is_refused() -> None:
    with pytest.raises(OptionError, match="edited into"):
        edit_accuracy(lambda pictures, _: pictures[:, :16, :16], held_out_cases(2), size=SIZE)


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    # Newcombe 1998 (Statistics in Medicine 17, 857-872), table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0000, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_intervals_are_the_published_ones(hits: int, count: int, low: float, high: float) -> None:
    assert Share(hits, count).interval == pytest.approx((low, high), abs=5e-5)


def test_means_have_students_interval() -> None:
    mean = Mean.of([1, 2, 3, 4, 5])
    assert mean.value == 3
    assert mean.interval == pytest.approx((3 - 2.776 * np.sqrt(0.5), 3 + 2.776 * np.sqrt(0.5)), abs=1e-3)
    assert mean.text(2) == "3.00 ± 1.96"
    assert Mean.of([2.5]) == Mean(2.5, None, 1)
    assert Mean.of([2.5]).text(1) == "2.5"


def test_a_bar_in_a_right_edit_is_seen() -> None:
    """One eighth of the picture badly wrong: still the nearest to the right answer, and told."""
    cases = held_out_cases(6, kind="darken")
    order = iter(cases)

    def edit(pictures: NDArray[np.uint8], texts: Sequence[str]) -> Iterator[NDArray[np.uint8]]:
        for picture in pictures:
            answer = next(order).answer(len(picture)).copy()
            answer[: SIZE // 8, : SIZE // 2] = 255 - answer[: SIZE // 8, : SIZE // 2]
            yield answer

    report = edit_accuracy(edit, cases, size=SIZE)
    assert report.accuracy.hits == report.spoiled.hits == 6
    with pytest.raises(PixrtError, match=r"the worst square's error is .* levels, above 40"):
        Gate(worst_block=40).require(report)


def test_worst_block() -> None:
    """The square of an eighth of the side, by hand: one of 8 x 8 is wrong by 51 everywhere, the rest by 3."""
    black = np.zeros((64, 96, 3), np.uint8)
    other = np.full_like(black, 3)
    other[16:24, 40:48] = 51
    assert worst_block(other, black) == pytest.approx(51)
    other[16:24, 40:48] = 3
    assert worst_block(other, black) == pytest.approx(3)


def test_psnr() -> None:
    black, grey = np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 51, np.uint8)
    assert psnr_db(black, grey) == pytest.approx(20 * np.log10(255 / 51))
    assert psnr_db(black, black) == PSNR_CAP_DB
    assert psnr_db(grey, black) == psnr_db(black, grey)


def test_facts_are_json() -> None:
    cases = held_out_cases(10)
    facts = json.loads(json.dumps(edit_accuracy(fake(cases, wrong_every=2), cases, size=SIZE).facts(), allow_nan=False))
    assert facts["overall"]["accuracy"]["hits"] == 5
    assert set(facts["kinds"]) == set(BASE_KINDS)
    assert facts["kinds"]["compound"]["psnr_db"]["low"] is None  # one case has no interval
    assert facts["overall"]["mistakes"] == {"unedited": 5}


def test_the_gate_names_every_figure_that_is_too_low() -> None:
    cases = held_out_cases(18)
    report = edit_accuracy(fake(cases, wrong_every=9), cases, size=SIZE)  # the first kind is always wrong
    Gate().require(report)
    Gate(accuracy=16 / 18, kind_accuracy=0, psnr_db=50).require(report)
    with pytest.raises(PixrtError) as caught:
        Gate(accuracy=0.9, kind_accuracy=0.5, psnr_db=59).require(report)
    for part in ("edit accuracy is 88.9 % (16 of 18), below 90 %", "that of recolor is 0.0 %", "PSNR", "below 59"):
        assert part in str(caught.value)
    assert "background" not in str(caught.value)
    with pytest.raises(OptionError):
        Gate(accuracy=90)


def test_a_sweep_measures_every_pair_on_the_same_cases() -> None:
    cases, told = held_out_cases(9), []

    def make_edit(guidance_scale: float, image_guidance_scale: float) -> EditFunction:
        return fake(cases, wrong_every=None if image_guidance_scale == 1 else round(guidance_scale))

    points = sweep_scales(
        make_edit, cases, [1, 3], [1, 1.5], size=SIZE, on_progress=lambda done, total: told.append((done, total))
    )
    assert [(point.guidance_scale, point.image_guidance_scale) for point in points] == [
        (1, 1),
        (1, 1.5),
        (3, 1),
        (3, 1.5),
    ]
    assert [point.accuracy.hits for point in points] == [9, 0, 9, 6]
    assert points[1].source_similarity.value == 1
    assert told[-1] == (36, 36)
    assert told == sorted(told)
    assert sweep_plot(points, title="two by two").size[0] > 800
    for scales in ([], [1, 1]):
        with pytest.raises(OptionError):
            sweep_scales(make_edit, cases, scales, [1], size=SIZE)


def test_an_editor_gives_each_picture_its_own_noise_whatever_the_batch(editor: Editor) -> None:
    cases = held_out_cases(4)
    sources, texts = np.stack([case.source(64) for case in cases]), [case.text for case in cases]
    parameters: Any = {"steps": 2}
    together = editor_function(editor, parameters, seed=7)(sources, texts)
    apart_edit = editor_function(editor, parameters, seed=7)
    apart = [apart_edit([source], [text])[0] for source, text in zip(sources, texts, strict=True)]
    np.testing.assert_array_equal(together, apart)
    alone = np.asarray(editor.edit(sources[2], texts[2], seed=9, steps=2).image)
    np.testing.assert_array_equal(together[2], alone)
    make_edit = editor_at_scales(editor, parameters, seed=7)
    defaults = editor.manifest.defaults
    same = make_edit(defaults.guidance_scale, defaults.image_guidance_scale)(sources, texts)
    np.testing.assert_array_equal(together, same)
    assert not np.array_equal(together, make_edit(1, 1)(sources, texts))


def test_the_sheet_shows_what_was_kept() -> None:
    cases = held_out_cases(18)
    report = edit_accuracy(fake(cases, wrong_every=2), cases, size=SIZE, keep=2)
    sheet = world_edits_sheet(report)
    assert sheet.width > sheet.height / 3
    bare = edit_accuracy(fake(cases), cases, size=SIZE)
    assert world_edits_sheet(bare).height < sheet.height
    assert set(KINDS) > set(report.by_kind())
