"""Pictures from captions with an edit model: the runtime's own networks and loop, without a source. No PyTorch.

Where no branch has a source, the branches IMAGE and UNCOND are one and the same, and equation 3 of InstructPix2Pix is
common classifier-free guidance, eps = eps_uncond + s (eps_text - eps_uncond). With equal scales IMAGE does not run.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pixrt.backends.registry import BackendOptions, open_backend
from pixrt.conditioning import Conditioning
from pixrt.errors import OptionError
from pixrt.guidance import Branch
from pixrt.networks import Networks
from pixrt.options import BackendName, EditOptions
from pixrt.pipeline import denoise
from pixrt.plan import make_schedule
from pixrt.spec import Manifest
from pixrt.store import open_bundle
from pixrt.timing import Stopwatch
from pixrt.tokenizer import Tokenizer


class Generator:
    """A bundle opened to make pictures from text alone. Raises BundleError, BackendError, OptionError."""

    def __init__(
        self, bundle: str | os.PathLike[str], *, backend: BackendName = "auto", threads: int | None = None
    ) -> None:
        self._bundle = open_bundle(bundle)
        self._backend = open_backend(backend, self._bundle, BackendOptions(threads=threads)).backend
        if self.manifest.task == "inpaint":
            raise OptionError(
                f"the bundle {self.manifest.name!r} wants a mask (inpainting)", remedy="Use one that edits or generates"
            )
        self._tokenizer = Tokenizer(self._bundle.folder, self.manifest.tokenizer)
        self._networks = Networks(self._bundle, self._backend)

    @property
    def manifest(self) -> Manifest:
        """What the bundle says of itself."""
        return self._bundle.manifest

    def resolve(self, options: EditOptions) -> EditOptions:
        """The options in force: the bundle's defaults filled in, a square of whole latents, one guidance scale.

        Raises OptionError.
        """
        if options.image_guidance_scale is not None or options.resize != "exact":
            raise OptionError(
                "image_guidance_scale and resize are about a source picture, and text-to-image has none",
                remedy="Leave them out",
            )
        resolved = options.resolve(self.manifest.defaults)
        side = options.resolution or self.manifest.native_resolution
        if side % self.manifest.size_multiple:
            raise OptionError(
                f"resolution is {side}", remedy=f"Give a multiple of {self.manifest.size_multiple} for this bundle"
            )
        return replace(resolved, resolution=side, image_guidance_scale=resolved.guidance_scale)

    def generate(self, captions: Sequence[str], seeds: Sequence[int], options: EditOptions) -> NDArray[np.uint8]:
        """One picture per caption, each from the noise of its seed: [B, side, side, 3].

        `options` are what `resolve` gave; their seed is not looked at. Raises OptionError, BackendError.
        """
        assert options.resolution is not None
        networks, clock = self._networks, Stopwatch()
        schedule = make_schedule(options, self.manifest.scheduler)
        null = networks.text(self._tokenizer.encode(options.negative_prompt).ids, clock)
        texts = [networks.text(self._tokenizer.encode(caption).ids, clock) for caption in captions]
        side = options.resolution // self.manifest.vae_scale
        plan = networks.plan(schedule, seeds, (side, side), clock)
        plan.condition(Conditioning({Branch.TEXT: texts, Branch.UNCOND: [null] * len(texts)}, sources={}))
        for _ in denoise(plan):
            pass
        decoded = np.stack([networks.decode(latents, clock)[0] for latents in plan.latents()])  # [B, 3, H, W]
        unit = (decoded / 2 + 0.5).clip(0, 1).transpose(0, 2, 3, 1)
        pictures: NDArray[np.uint8] = np.rint(unit * 255).astype(np.uint8)
        return pictures

    def close(self) -> None:
        """Free the networks and arrays."""
        self._networks.close()
        self._backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
