"""Photographs as a training set: what is asked, what is right, and that held-out pictures stay out."""

import itertools

import numpy as np
import pytest

pytest.importorskip("scipy")

from pixrt.bundles.instructions import fault_of_instructions, is_unknown
from pixrt_export.photo import crops
from pixrt_export.photo.edits import NAMES, Edit
from pixrt_export.photo.instructions import (
    ALL_KINDS,
    DEGREE,
    FIRST,
    MUCH,
    SECOND,
    SLIGHT,
    STRONG,
    Instruction,
    has_strengths,
    phrasings_of,
)
from pixrt_export.photo.judge import UNEDITED, find_mistake
from pixrt_export.photo.pairs import PhotoPairs
from pixrt_export.photo.procedural import noise, procedural
from pixrt_export.photo.sources import HELD_OUT, TRAIN

EVERY = [
    Edit(name, strength)
    for name in NAMES
    for strength in ((SLIGHT, 1.0, STRONG) if has_strengths(Edit(name).kind) else (1.0,))
]


def test_no_two_edits_are_asked_for_in_the_same_words() -> None:
    asked = [phrase for edit in EVERY for phrase in set(phrasings_of(edit))]
    assert len(asked) == len(set(asked))
    assert not any("{" in phrase or "  " in phrase for phrase in asked)


def test_every_edit_has_several_phrasings_and_strengths_are_in_words() -> None:
    assert all(len(set(phrasings_of(edit))) >= 3 for edit in EVERY)
    assert "make it slightly warmer" in phrasings_of(Edit("warmer", SLIGHT))
    assert "give it an orange tint" in phrasings_of(Edit("tint orange"))
    assert "turn the reds blue" in phrasings_of(Edit("turn red blue"))


def test_what_is_known_has_every_word_but_those_of_strength() -> None:
    pairs = PhotoPairs(4000)
    known = pairs.known()
    assert tuple(known) == ALL_KINDS
    assert not fault_of_instructions(known)
    assert {"make it warmer", "make it slightly warmer", "make it much warmer"} <= {*known["warmer"]}
    assert PhotoPairs(1, kind="fog").known() == {"fog": known["fog"]}
    words = {word for sentences in known.values() for sentence in sentences for word in sentence.split()}
    asked = [pairs.instruction(index) for index in range(4000)]
    strengths = " ".join((*MUCH[SLIGHT], *MUCH[STRONG], *DEGREE[SLIGHT], *DEGREE[STRONG])).split()
    assert words | {*strengths} == {word for text in asked for word in text.split()} | {*strengths}
    assert not any(is_unknown(text, known) for text in asked)
    for text in ("add a castle", "turn the dog into a cat", "make it slightly better", "remove the car"):
        assert is_unknown(text, known)


def test_kinds_that_are_drawn_often() -> None:
    often = ("turn", "turn", "fog")
    pairs = PhotoPairs(3000, often=often)
    kinds = [pairs.ask(index)[0].kind for index in range(3000)]
    assert set(kinds) == set(ALL_KINDS)
    # A half is 1,000 and 500 of these, and the other half 54 of each kind: six standard deviations are 160 and 120.
    assert kinds.count("turn") == pytest.approx(1054, abs=160)
    assert kinds.count("fog") == pytest.approx(554, abs=120)
    assert pairs.fingerprint() != PhotoPairs(3000).fingerprint()


def test_no_held_out_picture_is_in_training(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not TRAIN.keys() & HELD_OUT.keys()
    assert len(HELD_OUT) >= 8
    assert {"chelsea.png", "astronaut.png"} <= HELD_OUT.keys()
    seen = set()

    def photograph(name: str) -> np.ndarray:
        seen.add(name)
        return np.random.default_rng(0).integers(0, 256, (80, 90, 3), np.uint8)

    monkeypatch.setattr(crops, "photograph", photograph)
    pairs = PhotoPairs(300)
    for index in range(300):
        pairs.source(index, 32)
    assert seen == TRAIN.keys()


class TestSamples:
    @pytest.fixture(autouse=True)
    def _photographs(self) -> None:
        pytest.importorskip("skimage")
        pytest.importorskip("matplotlib")

    def test_a_sample_is_a_function_of_seed_and_index(self) -> None:
        one, again, other = PhotoPairs(50, 1), PhotoPairs(50, 1), PhotoPairs(50, 2)
        first = one.load(7, 64)
        assert first.source is not None
        assert np.array_equal(first.target, again.load(7, 64).target)
        assert first.instruction == again.instruction(7)
        assert not np.array_equal(first.target, other.load(7, 64).target)
        assert one.fingerprint() == again.fingerprint() != other.fingerprint()

    def test_a_text_says_the_same_at_every_size(self) -> None:
        pairs = PhotoPairs(20, split="held-out")
        for index in range(5):
            small, large = pairs.load(index, 48), pairs.load(index, 96)
            assert small.instruction == large.instruction == pairs.instruction(index)
            assert large.target.shape == (96, 96, 3)

    def test_training_asks_for_every_kind(self) -> None:
        assert {PhotoPairs(600).ask(index)[0].kind for index in range(600)} == set(ALL_KINDS)

    @pytest.mark.parametrize("kind", ALL_KINDS)
    def test_the_right_answer_is_right_and_others_are_not(self, kind: str) -> None:
        pairs = PhotoPairs(4, split="held-out", kind=kind)
        source, (asked, _) = pairs.source(1, 64), pairs.ask(1)
        assert asked.kind == kind
        assert find_mistake(source, asked, asked.apply(source)) == ""
        assert find_mistake(source, asked, source) == UNEDITED
        assert not pairs.is_right(1, source)
        wrong = "emboss" if kind != "emboss" else "night"
        assert find_mistake(source, asked, Edit(wrong).apply(source)) == wrong

    def test_an_answer_that_cannot_be_told_from_the_right_one_does_not_count(self) -> None:
        """A gray picture in black and white is not a mistake where its saturation was to be lowered."""
        gray = np.full((32, 32, 3), 128, np.uint8)
        gray[:, 16:] = (150, 128, 120)
        asked = Instruction((Edit("less saturated"),))
        assert find_mistake(gray, asked, Edit("black and white").apply(gray)) in ("", "black and white")


def test_compounds_are_two_edits_in_their_order() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)
    for first, second in itertools.product(FIRST, SECOND):
        both = Instruction((Edit(first), Edit(second)))
        assert np.array_equal(both.apply(picture), Edit(second).apply(Edit(first).apply(picture)))
        assert " and " in both.phrase(np.random.default_rng(1))


class TestProcedural:
    @pytest.mark.parametrize("slope", [0.8, 1.4])
    def test_noise_has_the_spectrum_it_says(self, slope: float) -> None:
        """The slope of log amplitude over log frequency, of many pictures."""
        rng, size = np.random.default_rng(0), 64
        amplitude = np.mean([np.abs(np.fft.fft(noise(rng, size, slope), axis=0)) for _ in range(20)], axis=(0, 2))
        frequency = np.arange(4, 20)
        flat = np.mean([np.abs(np.fft.fft2(noise(rng, size, slope)))[4:20, 0] for _ in range(200)], axis=0)
        assert amplitude.shape == (size,)
        assert np.polyfit(np.log(frequency), np.log(flat), 1)[0] == pytest.approx(-slope, abs=0.1)

    def test_pictures_are_in_range_and_differ(self) -> None:
        pictures = [procedural(np.random.default_rng(seed), 40) for seed in range(6)]
        assert all(picture.shape == (40, 40, 3) and picture.dtype == np.float32 for picture in pictures)
        assert all(0 <= picture.min() <= picture.max() <= 1 for picture in pictures)
        assert len({picture.tobytes() for picture in pictures}) == 6
