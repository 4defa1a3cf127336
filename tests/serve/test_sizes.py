"""Sizes of results: what keeps a picture's proportions, and what is told of those that do not."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixrt.options.tasks import GenerateOptions
from pixrt.pictures.geometry import MAX_PIXELS, check_size
from pixrt.serve.problems import Problem
from pixrt.serve.sizes import check_new, check_shape, read_size

SIDES = st.integers(1, 9000)


@pytest.mark.parametrize(
    ("picture", "size"),
    [
        ((640, 480), (640, 480)),
        ((640, 480), (320, 240)),
        ((640, 480), (1280, 960)),
        ((4032, 3024), (1024, 768)),
        ((1000, 667), (500, 333)),  # 333.5: either is as near
        ((1000, 667), (500, 334)),
    ],
)
def test_the_same_proportions(picture: tuple[int, int], size: tuple[int, int]) -> None:
    check_shape(size, picture)


@pytest.mark.parametrize("size", [(512, 512), (480, 640), (640, 482), (320, 200)])
def test_other_proportions_are_refused_with_those_that_can_be(size: tuple[int, int]) -> None:
    picture = (640, 480)
    with pytest.raises(Problem) as caught:
        check_shape(size, picture)
    assert (caught.value.status, caught.value.code, caught.value.param) == (400, "unsupported_value", "size")
    ways = re.findall(r"\d+x\d+", caught.value.message)[2:]
    assert len(ways) == 3
    for way in ways:
        wanted = read_size(way)
        assert wanted is not None
        check_shape(wanted, picture)


@given(st.tuples(SIDES, SIDES), st.integers(1, 64))
def test_a_new_picture_has_a_size_or_is_told_one_that_can_be(size: tuple[int, int], multiple: int) -> None:
    try:
        check_new(size, multiple)
    except Problem as problem:
        if "megapixels" in problem.message:
            return
        size = read_size(problem.message.split()[-1].rstrip(".")) or size
        if size[0] * size[1] <= MAX_PIXELS:
            check_new(size, multiple)
    assert not any(side % multiple for side in size)
    assert GenerateOptions(width=size[0], height=size[1])
    if size[0] * size[1] <= MAX_PIXELS:
        check_size(*size, "")
