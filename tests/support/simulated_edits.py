"""What tests over the simulated driver share: the pictures they edit, and how results are compared."""

from typing import Any

import numpy as np

SIZE = (64, 48)  # pixels
TEXTS = ["make it winter", "as a drawing"]
# The upper half of a picture may change; the loop holds the rest.
MASK = np.repeat(np.arange(SIZE[1])[:, None] < SIZE[1] // 2, SIZE[0], 1)


def picture(shade: int, width: int = SIZE[0], height: int = SIZE[1]) -> np.ndarray[Any, Any]:
    made = np.full((height, width, 3), shade, np.uint8)
    made[height // 4 : height // 2, width // 3 :] = 255 - shade
    return made


def edit(editor: Any, pictures: Any = None, texts: Any = None, **parameters: Any) -> list[np.ndarray[Any, Any]]:
    given = {"steps": 3, "seed": [5, 6], "scheduler": "euler_ancestral"} | parameters
    results = editor.edit(pictures or [picture(60), picture(200)], texts or TEXTS, **given)
    return [np.asarray(result.image).astype(int) for result in results]


def assert_close(ours: Any, theirs: Any) -> None:
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert np.abs(one - other).max() <= 1


def mixed(editor: Any) -> list[Any]:
    """Requests of other solvers, steps, scales, windows and masks."""
    from pixrt import EditOptions, Job

    rows: list[tuple[Any, int, Any, Any, Any]] = [
        ("euler_ancestral", 6, (7.5, 1.5), (0.0, 1.0), None),
        ("pndm", 3, (3.0, 1.0), (0.0, 0.5), MASK),
        ("dpmpp_2m", 5, (1.0, 1.0), (0.0, 1.0), None),
        ("unipc", 4, (0.0, 2.0), (0.2, 0.8), None),
        ("dpmpp_2m_sde", 2, (7.5, 1.5), (0.0, 1.0), MASK),
        ("ddim", 7, (5.0, 1.2), (0.0, 0.7), None),
    ]
    jobs = [
        Job(
            options=EditOptions(
                scheduler=scheduler, steps=steps, seed=seed, guidance_scale=scales[0], image_guidance_scale=scales[1],
                guidance_interval=window,
            ),
            image=picture(30 * seed), text=TEXTS[seed % 2], mask=mask,
        )
        for seed, (scheduler, steps, scales, window, mask) in enumerate(rows)
    ]  # fmt: skip
    return list(editor.check(jobs))
