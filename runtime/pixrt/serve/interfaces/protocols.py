"""The interfaces by which clients speak to the server, told apart by their paths. Must not import numpy or Pillow."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pixrt.serve.problems import Problem

Shape = Callable[[Problem], dict[str, Any]]


def _openai(problem: Problem) -> dict[str, Any]:
    return problem.body


def _sentence(problem: Problem) -> dict[str, Any]:
    """What Triton's and Hugging Face's clients read."""
    return {"error": problem.message}


def _a1111(problem: Problem) -> dict[str, Any]:
    """The fields of the web UI's own answers."""
    return {"error": problem.code, "detail": problem.message, "body": "", "errors": problem.message}


@dataclass(frozen=True, slots=True)
class Interface:
    """One of them.

    Attributes:
        name: what metrics and logs call it.
        prefixes: its paths, with all that is beneath them.
        makes: the paths, or their beginnings, to which a POST asks for pictures.
        own: paths of its own, without what is beneath them.
        error: the JSON of a problem, as this interface's clients read it.
    """

    name: str
    prefixes: tuple[str, ...]
    makes: tuple[str, ...] = ()
    error: Shape = _openai
    own: tuple[str, ...] = ()

    def is_for_pictures(self, method: str, path: str) -> bool:
        """Whether such a request asks for pictures, so that it needs a seat, and counts for a key's rate."""
        return method == "POST" and path.startswith(self.makes) and (self.name != "kserve" or path.endswith("/infer"))


PAGE = Interface("page", ("/page",), own=("/",))
INTERFACES = (
    Interface("openai", ("/v1/images", "/v1/models"), makes=("/v1/images/",)),
    Interface("jobs", ("/v1/jobs", "/v1/schema", "/v1/parameters"), makes=("/v1/jobs",)),
    Interface("kserve", ("/v2",), makes=("/v2/models/",), error=_sentence),
    Interface("a1111", ("/sdapi",), makes=("/sdapi/v1/img2img", "/sdapi/v1/txt2img"), error=_a1111),
    Interface("huggingface", ("/hf",), makes=("/hf",), error=_sentence),
    Interface("operations", ("/health", "/metrics")),
    PAGE,
)
OTHER = Interface("other", ())


def interface_of(path: str) -> Interface:
    """The interface that a path belongs to."""
    for interface in INTERFACES:
        if path in interface.own or any(
            path == prefix or path.startswith(f"{prefix}/") for prefix in interface.prefixes
        ):
            return interface
    return OTHER
