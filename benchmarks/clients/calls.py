"""What the scripts of the clients share. Each runs in its client's environment: only the standard library is here.

A script is called with the server's address, an API key, the model's name and a folder. It makes its calls one by one
and leaves there `calls.json` and the pictures that it got; `serving_clients.py` compares these with single edits.
"""

import json
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
SCENE, MASK = EXAMPLES / "scene.png", EXAMPLES / "mask.png"
BLUE, STAR = "make the background blue", "turn the circle into a star"
CAPTION = "a red circle and a blue square on a green background"


@dataclass(frozen=True)
class Server:
    """Where to call, with which key, by which model's name."""

    url: str
    key: str
    model: str


@dataclass(frozen=True)
class Same:
    """A PNG that a client got, and the call of the Python API that gives the same pixels.

    `mask` says whether the picture's mask is `MASK`; the picture is `SCENE`, generation has none.
    """

    picture: bytes = field(repr=False)
    task: str = "edit"
    text: str = BLUE
    mask: bool = False
    parameters: Mapping[str, Any] = field(default_factory=dict)


Call = Callable[[Server], Iterable[Same]]


def make(calls: Mapping[str, Call]) -> None:
    """Make each of `calls`, whatever happens to those before it."""
    url, key, model, folder = sys.argv[1:]
    server, made = Server(url, key, model), []
    for name, call in calls.items():
        pictures, error = [], ""
        try:
            for number, same in enumerate(call(server)):
                path = Path(folder) / f"{name.replace(' ', '-')}-{number}.png"
                path.write_bytes(same.picture)
                pictures.append({**asdict(same), "picture": str(path)})
        except Exception:
            error = traceback.format_exc()
        made.append({"call": name, "pictures": pictures, "error": error})
    (Path(folder) / "calls.json").write_text(json.dumps(made))


def expect(what: str, found: object, wanted: object) -> None:
    """Raise AssertionError unless a call gave what it must."""
    if found != wanted:
        raise AssertionError(f"{what} is {found!r}, not {wanted!r}")
