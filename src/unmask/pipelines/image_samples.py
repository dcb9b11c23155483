"""Many images of a model, equally many of every class, for the measures of their quality."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

MOST = 256
"""Images at most of one call; the recording of each is dropped after it."""
_SUB_PIXELS = 2**18


class ImageSamples(NamedTuple):
    """Generated images.

    Attributes:
        images: Shape (N, H, W, C), uint8.
        classes: The class that each was generated for; None for no classes.
        settings: Of the sampler, those of one image.
    """

    images: np.ndarray
    classes: list[str] | None
    settings: dict[str, Any]


def generate_images(
    pipeline: Any,
    count: int,
    classes: Sequence[str] = (),
    *,
    seed: int = 0,
    advance: Callable[[int], None] = lambda images: None,
) -> ImageSamples:
    """Generate images with the default sampler of a model.

    Args:
        pipeline: An ``ImageUnmasker`` or an ``ImageAutoregressor``.
        count: How many; the first classes have one more where it is no multiple of their number.
        classes: Names of classes; () for images of no class.
        seed: Of the random numbers; images of different seeds are independent.
        advance: Called with the number of images done, for a progress bar.

    Raises:
        UserError: If there is no such class.
    """
    most = max(1, min(MOST, _SUB_PIXELS // pipeline.codec.dims))
    labels: Sequence[str | None] = classes or (None,)
    calls = [
        (label, min(most, size - begin))
        for number, label in enumerate(labels)
        for size in [count // len(labels) + (number < count % len(labels))]
        for begin in range(0, size, most)
    ]
    images, names, settings = [], [], {}
    for number, (label, size) in enumerate(calls):
        # A seed for each call, as image i of a call depends on its seed and i alone.
        own = int(np.random.SeedSequence([abs(seed), number]).generate_state(1)[0])
        done = pipeline.generate(num_samples=size, label=label, seed=own)
        images.append(done.images)
        names += [label] * size
        settings = done.settings
        advance(size)
    settings = {name: value for name, value in settings.items() if name != "num_samples"}
    known = [name for name in names if name is not None]
    return ImageSamples(np.concatenate(images), known or None, settings)
