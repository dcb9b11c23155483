"""Frames of a generated picture: its sub-pixels after one step, as plain numbers.

A sub-pixel is one channel of one pixel. Renderers need nothing else, so a recording can be replayed
without a model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class PictureFrame:
    """One picture after one step. All arrays have shape (H, W, C), with C = 1 or 3.

    Attributes:
        step: 0 for the blank picture.
        seconds: Wall-clock time since the start of the generation.
        nfe: Network calls so far.
        pixels: uint8; arbitrary where undecided.
        undecided: bool; True for a masked sub-pixel.
        given: bool; True for a sub-pixel of the prompt.

    Raises:
        ValueError: If the shapes or types differ from these.
    """

    step: int
    seconds: float
    nfe: int
    pixels: NDArray[np.uint8]
    undecided: NDArray[np.bool_]
    given: NDArray[np.bool_]

    def __post_init__(self) -> None:
        shape = self.pixels.shape
        if len(shape) != 3 or shape[2] not in (1, 3) or not self.pixels.size:
            raise ValueError(f"a picture has the shape (H, W, 1) or (H, W, 3), not {shape}")
        if not self.undecided.shape == self.given.shape == shape:
            raise ValueError("pixels, undecided and given differ in shape")
        arrays = (self.pixels, self.undecided, self.given)
        if [str(array.dtype) for array in arrays] != ["uint8", "bool", "bool"]:
            raise ValueError("pixels are uint8; undecided and given are bool")

    @property
    def done(self) -> float:
        """The share of the generated sub-pixels that are decided."""
        generated = self.given.size - int(self.given.sum())
        masked = int((self.undecided & ~self.given).sum())
        return 1.0 - masked / generated if generated else 1.0


@dataclass(frozen=True)
class PictureTrack:
    """The frames of one picture, in order and of one size, with a label (model, sampler)."""

    label: str
    frames: tuple[PictureFrame, ...]

    def __post_init__(self) -> None:
        if len({frame.pixels.shape for frame in self.frames}) > 1:
            raise ValueError("the frames of a track differ in shape")
