"""Draw the example scenes of the built-in model's world: flat backgrounds, simple shapes, 64 pixels.

python examples/draw_scenes.py
"""

import math
from pathlib import Path

from PIL import Image, ImageDraw

SIZE, SAMPLES = 64, 4  # drawn four times larger and scaled down, so that edges are smooth
COLOURS = {"red": (220, 40, 40), "blue": (50, 80, 220), "green": (40, 160, 60), "yellow": (240, 210, 50)}
# Background, then (shape, colour, centre x, centre y, radius) in pixels.
SCENES = {
    "scene.png": ("yellow", [("circle", "red", 18, 19, 10), ("square", "blue", 45, 44, 9)]),
    "scene-green.png": ("green", [("triangle", "yellow", 45, 18, 11), ("circle", "blue", 17, 45, 9)]),
}


def draw(background: str, shapes: list[tuple[str, str, int, int, int]]) -> Image.Image:
    """One scene."""
    picture = Image.new("RGB", (SIZE * SAMPLES,) * 2, COLOURS[background])
    pen = ImageDraw.Draw(picture)
    for shape, colour, *place in shapes:
        x, y, r = (value * SAMPLES for value in place)
        if shape == "circle":
            pen.ellipse((x - r, y - r, x + r, y + r), COLOURS[colour])
        elif shape == "square":
            pen.rectangle((x - r, y - r, x + r, y + r), COLOURS[colour])
        else:
            corners = [(x + r * math.sin(k * math.tau / 3), y - r * math.cos(k * math.tau / 3)) for k in range(3)]
            pen.polygon(corners, COLOURS[colour])
    return picture.resize((SIZE, SIZE), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    for name, (background, shapes) in SCENES.items():
        draw(background, shapes).save(Path(__file__).parent / name)
