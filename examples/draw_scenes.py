"""Draw the example scenes: two of the world of `shapes`, with combinations that it was not trained on; and a mask.

python examples/draw_scenes.py
"""

from pathlib import Path

from PIL import Image, ImageDraw

from pixrt_export.world.drawing import draw
from pixrt_export.world.instructions import View
from pixrt_export.world.scene import Scene, Shape

SIZE = 64
MASK = (2, 2, 33, 33)  # around the circle of scene.png
SCENES = {
    "scene.png": Scene("yellow", (Shape("circle", "red", 0.26, 0.27, 0.15), Shape("square", "pink", 0.74, 0.73, 0.15))),
    "scene-green.png": Scene(
        "green", (Shape("triangle", "yellow", 0.74, 0.26, 0.15), Shape("circle", "white", 0.26, 0.74, 0.14))
    ),
}


if __name__ == "__main__":
    for name, scene in SCENES.items():
        assert scene.split == "held-out", name
        Image.fromarray(draw(View(scene), SIZE)).save(Path(__file__).parent / name)
    mask = Image.new("L", (SIZE, SIZE))
    ImageDraw.Draw(mask).rectangle(MASK, fill="white")
    mask.save(Path(__file__).parent / "mask.png", optimize=True)
