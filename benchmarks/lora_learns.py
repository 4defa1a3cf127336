"""A LoRA learns an instruction that `shapes` never saw: how well, how fast, and what it costs of the rest.

    python benchmarks/lora_learns.py WORK_FOLDER

draws 200 pairs, trains, and prints edit accuracy on held-out scenes without and with the LoRA, of the new instruction
and of every old kind, and how far diffusers' pictures with the same LoRA are from ours. The folder keeps the run: a
second call goes on.
"""

import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from PIL import Image

from parity import Case, compare, load_pipeline
from pixrt import Editor
from pixrt_export.evaluation.accuracy import WorldReport, edit_accuracy, editor_function
from pixrt_export.evaluation.cases import held_out_cases

ROOT = Path(__file__).parent.parent
CHECKPOINT = ROOT / "tests" / "data" / "shapes_checkpoint"


def pixrt(*arguments: object) -> None:
    subprocess.run([sys.executable, "-m", "pixrt", *map(str, arguments)], check=True)


def measured(editor: Editor, scenes: int, kind: str | None) -> WorldReport:
    return edit_accuracy(editor_function(editor, {}), held_out_cases(scenes, kind=kind), size=64)


def main(
    folder: Annotated[Path, typer.Argument(help="Where pairs and run are kept.")],
    scenes: Annotated[int, typer.Option(help="Held-out scenes for each of the measurements.")] = 450,
    new_scenes: Annotated[int, typer.Option(help="Held-out scenes of the new instruction.")] = 100,
) -> None:
    pairs, run = folder / "border", folder / "run"
    if not pairs.exists():
        folder.mkdir(parents=True, exist_ok=True)
        pixrt("data", "draw", "-o", pairs, "--kind", "border", "--count", 200, "--size", 64)
    started = time.perf_counter()
    configs = ROOT / "export" / "configs"
    start = ("--config", configs / "border-lora.toml", "--checkpoint", CHECKPOINT, "--data", pairs)
    pixrt("train", "lora", *start, "--prior", configs / "world-instructions.txt", "-o", run)
    print(f"training: {(time.perf_counter() - started) / 60:.1f} min")
    lora = run / "pytorch_lora_weights.safetensors"
    with Editor("shapes") as editor:
        reports = []
        for loras in ([], [lora]):
            editor.set_loras(loras)
            reports.append((measured(editor, new_scenes, "border"), measured(editor, scenes, None)))
        (new_before, old_before), (new_after, old_after) = reports
        print(f"border: {new_before.accuracy} before, {new_after.accuracy} after")
        print(f"all old kinds: {old_before.accuracy} before, {old_after.accuracy} after")
        after = old_after.by_kind()
        for kind, report in old_before.by_kind().items():
            print(f"  {kind}: {report.accuracy} before, {after[kind].accuracy} after")
        pipeline = load_pipeline(CHECKPOINT)
        pipeline.load_lora_weights(lora)
        cases = held_out_cases(4, kind="border")
        deviation = compare(
            pipeline,
            editor,
            Case("ddim", 20, (64, 64), 4, (3.0, 1.5)),
            images=[Image.fromarray(case.source(64)) for case in cases],
            texts=[case.text for case in cases],
        )
    print(f"against diffusers: latents {deviation.latents:.1e} relative, pictures {deviation.picture}/255")


if __name__ == "__main__":
    typer.run(main)
