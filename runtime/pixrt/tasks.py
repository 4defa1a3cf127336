"""A task turns requests into what the loop is conditioned on, and nothing more. Must not import a backend."""

from collections.abc import Sequence

from pixrt.backends.protocol import Array
from pixrt.conditioning import Conditioning
from pixrt.errors import OptionError
from pixrt.guidance import Branch
from pixrt.spec import NETWORKS, Manifest

_NEEDS = {
    "generate": "the network sees noisy latents alone (text-to-image)",
    "inpaint": "the network wants a mask beside the source (inpainting)",
}


def edit_conditioning(texts: Sequence[Array], null_text: Array, sources: Sequence[Array]) -> Conditioning:
    """An instruction edit: B embeddings `[L, D]`, that of the negative prompt, and B source latents `[C, h, w]`."""
    null = [null_text] * len(texts)
    return Conditioning(
        contexts={Branch.TEXT: texts, Branch.IMAGE: null, Branch.UNCOND: null},
        sources={Branch.TEXT: sources, Branch.IMAGE: sources},
    )


def require_edit(manifest: Manifest) -> None:
    """Raise OptionError unless the bundle's network takes a source picture beside the noise.

    Raises BundleError where it lacks a network that an edit needs.
    """
    for component in NETWORKS:
        manifest.component(component)
    if manifest.task != "edit":
        raise OptionError(
            f"the bundle {manifest.name!r} cannot edit: {_NEEDS[manifest.task]},"
            f" {manifest.unet_in_channels} input channels of {manifest.latent_channels}-channel latents",
            remedy=f"Use a bundle with {2 * manifest.latent_channels} input channels, such as InstructPix2Pix",
        )
