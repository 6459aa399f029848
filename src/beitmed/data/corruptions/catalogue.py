"""Which corruptions there are: MedMNIST-C's by data set, those of a deployment, a user's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from importlib import resources
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from beitmed import extension
from beitmed.data.corruptions import blur, levels, noise, overlays
from beitmed.errors import UserError

Bytes = NDArray[np.uint8]
#: image uint8 [h, w, c], severity 1 to 5, rng, unit -> uint8 [h, w, c]
Function = Callable[[Bytes, int, np.random.Generator, float], Bytes]
SETS = ("medmnist_c", "deployment", "all")

_POINTWISE: dict[str, Callable[..., Bytes]] = {
    "gaussian_noise": noise.gaussian_noise,
    "speckle_noise": noise.speckle_noise,
    "shot_noise": noise.shot_noise,
    "impulse_noise": noise.impulse_noise,
    "brightness": levels.brightness,
    "contrast": levels.contrast,
    "gamma": levels.gamma,
    "saturate": levels.saturate,
    "pixelate": levels.pixelate,
    "resolution": levels.resolution,
    "jpeg": levels.jpeg,
    "crop": levels.crop,
    "rotation": levels.rotation,
}
#: Those with lengths in px, which `unit` scales.
_WITH_LENGTHS: dict[str, Callable[..., Bytes]] = {
    "gaussian_blur": blur.gaussian_blur,
    "motion_blur": blur.motion_blur,
    "defocus_blur": blur.defocus_blur,
    "zoom_blur": blur.zoom_blur,
    "bubble": overlays.bubble,
    "black_corner": overlays.black_corner,
    "characters": overlays.characters,
}
#: What gives a grey image different channels: it is corrupted as RGB and turned grey again.
_COLOURED = {"gaussian_noise", "speckle_noise", "shot_noise", "impulse_noise", "characters"}
KINDS = {*_POINTWISE, *_WITH_LENGTHS, "stain"}


@dataclass(frozen=True)
class Corruption:
    """A corruption at five severities.

    source: "medmnist_c", "deployment" or "own". said: its parameters, or the function's name.
    coloured: whether a grey image must be given as RGB. alexnet_error: the benchmark's AlexNet's
    mean balanced error, where there is one.
    """

    name: str
    source: str
    said: str
    function: Function
    coloured: bool = False
    alexnet_error: float | None = None


def set_of(which: str | None, flag: str | None) -> dict[str, Corruption]:
    """The corruptions of a set by name, of the data set of this MedMNIST flag.

    which: None for MedMNIST-C's where it has the data set, else those of a deployment. Raises
    UserError where MedMNIST-C has no such data set.
    """
    there = flag in published()
    which = which or ("medmnist_c" if there else "deployment")
    if which not in SETS:
        raise UserError(f"set: found {which!r}; allowed: {', '.join(SETS)}")
    if which != "deployment" and not there:
        raise UserError(
            f"set: found {which}, but MedMNIST-C has no corruptions for these images, only for "
            f"{', '.join(sorted(published()))}; allowed here: set=deployment, or your own "
            "(corruptions={fog: my_module.fog})"
        )
    found: dict[str, Corruption] = {}
    if which != "deployment":
        assert flag is not None
        found |= _corruptions(published()[flag]["corruptions"], "medmnist_c")
    if which != "medmnist_c":
        found |= _corruptions(_read("deployment.yaml"), "deployment")
    return found


@cache
def published() -> dict[str, Any]:
    """MedMNIST-C's parameters and its AlexNet's errors, by MedMNIST flag."""
    return _read("medmnist_c.yaml")


def own(name: str, path: str) -> Corruption:
    """A function from outside the package as a corruption.

    function(image uint8 [h, w, 3], severity 1 to 5, rng) -> uint8 of the same shape. It is called
    once here; raises UserError where it cannot be imported, raises, or returns anything else.
    """
    key = f"corruptions.{name}"
    given = extension.load(key, path)

    def function(image: Bytes, severity: int, rng: np.random.Generator, unit: float) -> Bytes:
        found = extension.call(key, given, image.copy(), severity, rng)
        if not isinstance(found, np.ndarray) or (found.shape, found.dtype) != (
            image.shape, np.dtype(np.uint8)
        ):  # fmt: skip
            what = (
                f"{found.dtype} {found.shape}" if isinstance(found, np.ndarray)
                else type(found).__name__
            )  # fmt: skip
            raise UserError(
                f"{key}: {path} returned {what}; allowed: an array of type uint8 and of the "
                f"image's own shape, {image.shape}."
            )
        return found

    probe = np.random.default_rng(0)
    function(probe.integers(0, 256, (28, 28, 3), np.uint8), 1, probe, 1.0)
    return Corruption(name, "own", path, function, coloured=True)


def _corruptions(found: Mapping[str, Any], source: str) -> dict[str, Corruption]:
    return {
        name: Corruption(
            name,
            source,
            f"{one['kind']} {one['severities']}",
            partial(_apply, one["kind"], tuple(map(_parameter, one["severities"]))),
            one["kind"] in _COLOURED,
            one.get("alexnet_error"),
        )
        for name, one in found.items()
    }


def _parameter(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _apply(
    kind: str, severities: tuple[Any, ...], image: Bytes, severity: int, rng: np.random.Generator,
    unit: float,
) -> Bytes:  # fmt: skip
    parameter = severities[severity - 1]
    if kind == "stain":
        return overlays.stain(image, parameter, rng, unit, severity)
    if kind in _POINTWISE:
        return _POINTWISE[kind](image, parameter, rng)
    return _WITH_LENGTHS[kind](image, parameter, rng, unit)


def _read(name: str) -> dict[str, Any]:
    text = resources.files("beitmed").joinpath("published", name).read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.safe_load(text)
    return found
