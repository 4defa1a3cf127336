"""The README's picture: two scenes, and what the built-in model makes of them.

python examples/before_after.py examples/before_after.png
"""

import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from pixrt import Editor

HERE = Path(__file__).parent
EDITS = [
    ("scene.png", "make the background blue"),
    ("scene.png", "turn the square into a star"),
    ("scene.png", "remove the circle"),
    ("scene-green.png", "make the circle orange"),
    ("scene-green.png", "make the triangle bigger"),
    ("scene-green.png", "invert the colors"),
]
SEED = 0
SIDE, GAP, TEXT = 128, 16, 22


def main(target: Path) -> None:
    """Draw before and after of every edit, one column each."""
    sheet = Image.new("RGB", (len(EDITS) * (SIDE + GAP) + GAP, 2 * SIDE + 3 * GAP + TEXT), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(10)
    with Editor() as editor:
        for column, (name, instruction) in enumerate(EDITS):
            with Image.open(HERE / name) as image:
                before = image.convert("RGB")
            after = editor.edit(before, instruction, seed=SEED).image
            x = GAP + column * (SIDE + GAP)
            sheet.paste(before.resize((SIDE, SIDE), Image.Resampling.LANCZOS), (x, GAP))
            pen.text((x + SIDE // 2, GAP + SIDE + (GAP + TEXT) // 2), instruction, "black", font, anchor="mm")
            sheet.paste(after.resize((SIDE, SIDE), Image.Resampling.LANCZOS), (x, 2 * GAP + SIDE + TEXT))
    sheet.save(target, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
