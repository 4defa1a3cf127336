"""Every error of the tree has its line in the table of statuses, and tells what a client may know."""

import pytest

from pixrt import errors
from pixrt.errors import PixrtError
from pixrt.serve.statuses import STATUSES, problem_of


def _walk(kind: type[PixrtError]) -> list[type[PixrtError]]:
    return [kind, *(found for child in kind.__subclasses__() for found in _walk(child))]


TREE = [kind for kind in _walk(PixrtError) if kind.__module__ == errors.__name__]


def test_the_table_is_the_tree() -> None:
    assert set(STATUSES) == set(TREE)


@pytest.mark.parametrize("kind", TREE)
def test_only_what_is_the_clients_is_told(kind: type[PixrtError]) -> None:
    problem = problem_of(kind("/home/x is 3", remedy="Make it 2", option="steps"))
    assert (problem.status < 500) == (kind.exit_code in (2, 3, 130))
    assert ("/home/x" in problem.message) == (problem.status < 500 or problem.status == 507)
    assert problem.headers == {"x-should-retry": "false"}
    assert problem.body["error"]["code"] == problem.code


@pytest.mark.parametrize(
    ("error", "status", "param"),
    [
        (errors.OptionError("a", remedy="b"), 400, None),
        (errors.OptionError("a", remedy="b", option="steps"), 400, "steps"),
        (errors.OptionError("a", remedy="b", option="text"), 400, "prompt"),
        (errors.LoraError("a", remedy="b"), 400, "lora"),
        (errors.EmbeddingError("a", remedy="b"), 400, None),
        (errors.PictureError("a", remedy="b"), 400, "image"),
        (errors.PictureUnreadable("a", remedy="b", option="mask"), 415, "mask"),
        (errors.PictureTooLarge("a", remedy="b", option="style"), 413, "style"),
        (errors.OutOfMemory("a", remedy="b"), 507, None),
    ],
)
def test_statuses_and_parameters(error: PixrtError, status: int, param: str | None) -> None:
    problem = problem_of(error)
    assert (problem.status, problem.param) == (status, param)


def test_an_error_of_another_module_has_that_of_its_class() -> None:
    class Special(errors.PictureError):
        pass

    assert problem_of(Special("a", remedy="b")).status == 400
