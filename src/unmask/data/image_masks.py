"""Masks of sub-pixels: which part of an image is to be generated.

A mask is an array (H, W, C), bool; True where a sub-pixel is generated.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from unmask.errors import UserError

Mask = np.ndarray[Any, np.dtype[np.bool_]]
BRIGHTEST = 1
"""The channel that is closest to the brightness of a colour: green."""


def from_image(mask: np.ndarray, shape: tuple[int, int, int]) -> Mask:
    """Return the mask of a black and white picture: what is brighter than mid-grey is generated.

    Args:
        mask: Shape (H, W, 1), uint8.
        shape: Height, width and channels of the image.

    Raises:
        UserError: If the mask has another size, or hides nothing.
    """
    if mask.shape[:2] != shape[:2]:
        raise UserError(
            f"the mask is {mask.shape[1]} x {mask.shape[0]} pixels (width, height), but the image "
            f"{shape[1]} x {shape[0]}; give a mask of its size"
        )
    found: Mask = np.repeat(mask[..., :1] > 127, shape[2], axis=2)
    if not found.any():
        raise UserError("the mask is black, so there is nothing to generate; paint the part white")
    return found


def colours(shape: tuple[int, int, int]) -> Mask:
    """Return the mask of colourisation: red and blue; green, the brightness, is given.

    Raises:
        UserError: If the images have no colours.
    """
    if shape[2] != 3:
        raise UserError("this model writes grey images, so it cannot add colours")
    found = np.ones(shape, dtype=bool)
    found[..., BRIGHTEST] = False
    return found


def between(shape: tuple[int, int, int], factor: int) -> Mask:
    """Return the mask of super-resolution: all but every ``factor``-th pixel of either axis."""
    found = np.ones(shape, dtype=bool)
    found[::factor, ::factor] = False
    return found


def spread(small: np.ndarray, shape: tuple[int, int, int]) -> tuple[np.ndarray, Mask]:
    """Return a small image on every k-th pixel of a large one, and the mask of the rest.

    Args:
        small: Shape (h, w, C), uint8.
        shape: Height, width and channels of the large one.

    Returns:
        The large image, uint8, arbitrary where the mask is True; and the mask.

    Raises:
        UserError: If the sizes are no whole multiple of each other.
    """
    factor = shape[0] // max(small.shape[0], 1)
    if factor < 2 or (factor * small.shape[0], factor * small.shape[1]) != shape[:2]:
        raise UserError(
            f"an image of {small.shape[1]} x {small.shape[0]} pixels cannot become one of "
            f"{shape[1]} x {shape[0]}: the second must be a whole multiple of the first, at least "
            "twice; resize it"
        )
    large = np.zeros(shape, dtype=np.uint8)
    large[::factor, ::factor] = small
    return large, between(shape, factor)
