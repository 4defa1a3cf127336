"""The bundle with the weights that requests ask for: its own, and sets of LoRAs, a few of them open at once."""

import dataclasses
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

from pixrt.editor.device import Device
from pixrt.editor.editor import Editor
from pixrt.errors import LoraError
from pixrt.serve.messages import Loras, Setup

SUFFIX = ".safetensors"


def lora_names(folder: str | None) -> tuple[str, ...]:
    """The LoRAs that requests may name: the folder's files, without their suffix."""
    return tuple(path.stem for path in files_in(folder))


def files_in(folder: str | None) -> list[Path]:
    """The safetensors files in a folder, none without one."""
    if folder is None:
        return []
    return sorted(path for path in Path(folder).iterdir() if path.suffix == SUFFIX and path.is_file())


class Variants:
    """A device for each set of weights. The bundle's own, `()`, is always open; of the others the last used ones."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._open: OrderedDict[Loras, tuple[Editor, Device]] = OrderedDict()
        self._pictures: dict[int, Loras] = {}
        self.own, _ = self._opened(())

    def device(self, loras: Loras) -> Device:
        """The device of these weights, opened if it is not. Raises LoraError, BackendError."""
        if loras in self._open:
            self._open.move_to_end(loras)
        else:
            self._close_oldest()
            self._opened(loras)
        return self._open[loras][1]

    def take(self, number: int, loras: Loras) -> Device:
        """The device that a picture is on from now on."""
        device = self.device(loras)
        self._pictures[number] = loras
        return device

    def of(self, number: int) -> Device | None:
        """The device that a picture is on; None for one that is on none."""
        return self._open[self._pictures[number]][1] if number in self._pictures else None

    def leave(self, number: int) -> Loras:
        """A picture is on its device no more, which had these weights."""
        return self._pictures.pop(number, ())

    @property
    def names(self) -> tuple[Loras, ...]:
        """The weights that are open."""
        return tuple(self._open)

    def close(self) -> None:
        """Close all."""
        for editor, device in self._open.values():
            device.close()
            editor.close()

    def __iter__(self) -> Iterator[Editor]:
        return (editor for editor, _ in self._open.values())

    def _opened(self, loras: Loras) -> tuple[Editor, Device]:
        setup = self._setup
        folder = Path(setup.lora_folder or "")
        for name, _ in loras:
            if name not in lora_names(setup.lora_folder):
                raise LoraError(f"there is no LoRA {name!r:.60}", remedy="GET /v1/schema lists those that there are")
        verify = False if loras else setup.session.verify  # verified already
        session = dataclasses.replace(setup.session, verify=verify)
        files = [(folder / f"{name}{SUFFIX}", scale) for name, scale in loras]
        embeddings = files_in(setup.embedding_folder)
        editor = Editor(setup.bundle, session, loras=files, embeddings=embeddings)
        device = editor.device(slots=setup.slots, most_rows=setup.most_rows)
        self._open[loras] = editor, device
        return editor, device

    def _close_oldest(self) -> None:
        """Make room for another set. The dispatcher begins no picture of more sets than may be open."""
        used = set(self._pictures.values())
        while len(self._open) - 1 >= self._setup.variants:
            idle = next((loras for loras in self._open if loras and loras not in used), None)
            if idle is None:
                return
            editor, device = self._open.pop(idle)
            device.close()
            editor.close()
