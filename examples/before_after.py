"""The README's picture: six photographs, and what the built-in model makes of them.

python examples/before_after.py examples/before_after.jpg
"""

import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from pixrt import Editor

HERE = Path(__file__).parent
EDITS = [
    ("chelsea.jpg", "make it look like an old photo"),
    ("photos/astronaut.jpg", "make it a pencil sketch"),
    ("photos/china.jpg", "make it night"),
    ("photos/flower.jpg", "turn the reds blue"),
    ("photos/grace_hopper.jpg", "put it in sunset light"),
    ("photos/coins.jpg", "make it snow"),
]
SEED = 0
SIDE, GAP, TEXT = 176, 12, 24


def main(target: Path) -> None:
    """Draw before and after of every edit, one column each."""
    sheet = Image.new("RGB", (len(EDITS) * (SIDE + GAP) + GAP, 2 * SIDE + 3 * GAP + TEXT), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    with Editor() as editor:
        for column, (name, instruction) in enumerate(EDITS):
            with Image.open(HERE / name) as image:
                before = ImageOps.fit(image.convert("RGB"), (256, 256), Image.Resampling.LANCZOS)
            after = editor.edit(before, instruction, seed=SEED).image
            x = GAP + column * (SIDE + GAP)
            sheet.paste(before.resize((SIDE, SIDE), Image.Resampling.LANCZOS), (x, GAP))
            pen.text((x + SIDE // 2, GAP + SIDE + (GAP + TEXT) // 2), instruction, "black", font, anchor="mm")
            sheet.paste(after.resize((SIDE, SIDE), Image.Resampling.LANCZOS), (x, 2 * GAP + SIDE + TEXT))
    sheet.save(target, quality=70, optimize=True, progressive=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
