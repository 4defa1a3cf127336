"""Families: each that a manifest may name is there, and says of a bundle what its loop needs."""

import dataclasses
from typing import get_args

import numpy as np
import pytest

from pixrt.bundles.manifest import Component, FamilyName
from pixrt.bundles.store import open_bundle
from pixrt.core.families.family import family_of
from pixrt.maths.guidance import Branch


@pytest.mark.parametrize("name", get_args(FamilyName))
def test_every_family_of_manifests_is_there(name: FamilyName) -> None:
    manifest = open_bundle("shapes", verify=False).manifest
    family = family_of(dataclasses.replace(manifest, family=name))
    assert family.branches == 3
    assert family.latents_shape((96, 64)) == (4, 16, 24)


def test_stable_diffusion() -> None:
    manifest = open_bundle("shapes", verify=False).manifest
    family = family_of(manifest)
    asked = []

    def encode(component: Component, data: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:  # type: ignore[type-arg]
        asked.append((component, data.tolist(), shape))
        return np.zeros(shape, np.float32)

    assert family.text((5, 6, 7), encode).shape == (3, 128)
    assert asked == [(Component.TEXT_ENCODER, [5, 6, 7], (3, 128))]
    assert family.beside(np.ones(2)).keys() == {Branch.TEXT, Branch.IMAGE}


@pytest.mark.parametrize("shift", [0.0, 0.25])
def test_latents_are_scaled_and_shifted_both_ways(shift: float) -> None:
    """(x - shift) * scaling, as diffusers does for VAEs with a shift_factor."""
    manifest = open_bundle("shapes", verify=False).manifest
    family = family_of(dataclasses.replace(manifest, latents=dataclasses.replace(manifest.latents, shift=shift)))
    encoded = np.linspace(-3, 3, 7, dtype=np.float32)
    np.testing.assert_allclose(family.to_loop(encoded), (encoded - shift) * manifest.latents.scaling, rtol=1e-6)
    np.testing.assert_allclose(family.from_loop(family.to_loop(encoded)), encoded, rtol=1e-6, atol=1e-6)
