"""The README's sheet of every task, all of it by the built-in model `shapes`: what goes in, and what comes out.

python examples/tasks.py TEXT_BUNDLE examples/tasks.png

TEXT_BUNDLE is its checkpoint as a text-to-image network, which img2img and inpainting need:
pixrt export tests/data/shapes_checkpoint -o TEXT_BUNDLE --without-source --steps 20 --guidance-scale 2 \
    --scheduler dpmpp_2m
"""

import sys
import textwrap
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from pixrt import Editor

HERE = Path(__file__).parent
SIDE, GAP, TEXT = 128, 16, 60
CAPTION = "a red circle and a blue square on a green background"
FILL = "a blue star and a pink square on a yellow background"
Column = tuple[str, list[Image.Image], Image.Image]


def main(text_bundle: str, target: Path) -> None:
    """Draw a column for every task: the pictures that it takes above, the text, the result."""
    scene, other = (Image.open(HERE / name).convert("RGB") for name in ("scene.png", "scene-green.png"))
    corner, blue, star = Image.open(HERE / "mask.png"), "make the background blue", "turn the circle into a star"
    with Editor("shapes") as edits, Editor(text_bundle) as texts:
        columns: list[Column] = [
            (f"generate\n{CAPTION}", [], edits.generate(CAPTION, seed=0).image),
            (f"edit\n{blue}", [scene], edits.edit(scene, blue, seed=4).image),
            (f"edit --mask\n{star}", [scene, corner], edits.edit(scene, star, mask=corner, seed=4).image),
            (f"inpaint\n{FILL}", [scene, corner], texts.inpaint(scene, corner, FILL, seed=2).image),
            (f"img2img\n{FILL}", [scene], texts.img2img(scene, FILL, strength=0.8, seed=1).image),
            ("style", [scene, other], edits.style(scene, other, seed=1).image),
        ]
    draw(columns).save(target, optimize=True)


def draw(columns: list[Column]) -> Image.Image:
    """The sheet."""
    sheet = Image.new("RGB", (len(columns) * (SIDE + GAP) + GAP, 2 * SIDE + 3 * GAP + TEXT), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(10)
    for number, (text, given, made) in enumerate(columns):
        x = GAP + number * (SIDE + GAP)
        for place, picture in enumerate(given):
            side = SIDE if len(given) == 1 else SIDE // 2 - 2
            shown = picture.resize((side, side), Image.Resampling.LANCZOS)
            left, top = x + place * (side + 4), GAP + SIDE - side
            sheet.paste(shown, (left, top))
            pen.rectangle((left, top, left + side - 1, top + side - 1), outline="grey")
        pen.multiline_text((x + SIDE // 2, 2 * GAP + SIDE), folded(text), "black", font, anchor="ma", align="center")
        sheet.paste(made.resize((SIDE, SIDE), Image.Resampling.LANCZOS), (x, 2 * GAP + SIDE + TEXT))
    return sheet


def folded(text: str) -> str:
    """Lines that are as wide as a picture."""
    return "\n".join(line for part in text.splitlines() for line in textwrap.wrap(part, 25))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
