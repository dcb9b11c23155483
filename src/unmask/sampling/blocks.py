"""Block diffusion sampling: block by block from left to right, each block by any sampler.

While a block is generated, the blocks before it are clean and fixed, so their keys and values are
computed once and cached (see ``BlockContext``). A call costs one block instead of the whole row,
and a text may be longer than the context of the network.

Reference: Arriola et al. 2025, arXiv:2503.09573, Algorithm 2.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from unmask.diffusion.denoiser import BlockContext
from unmask.diffusion.rng import RowRng
from unmask.sampling.canvas import Canvas, CanvasSampler, Frame


@torch.no_grad()
def sample_blocks(
    context: BlockContext,
    canvas: Canvas,
    rng: RowRng,
    block_length: int,
    sample_block: CanvasSampler,
    end: int | None = None,
) -> Iterator[Frame]:
    """Generate tokens at the masks of a canvas, block after block.

    Args:
        context: An empty context, to which every finished block is appended.
        canvas: The start; no given token may follow a mask.
        rng: Random numbers, one seed per row; those of a token depend on its position in the row.
        block_length: L'.
        sample_block: Samples one block with the predictions of ``context``.
        end: The end symbol: a row is cut off after the first one that is generated, and sampling
            stops once all rows have one. None fills the whole canvas.

    Yields:
        Frames as ``sampling.sampler.sample`` does, beginning with the canvas as given. Steps and
        network calls are counted over all blocks. After a block in which a row ends, one more frame
        shows the row cut off.
    """
    length = canvas.ids.shape[1]
    confidence = torch.full(canvas.ids.shape, float("nan"), device=canvas.ids.device)
    step = nfe = 0
    blank = True
    for first in range(0, length, block_length):
        stop = min(first + block_length, length)
        block = canvas.columns(first, stop)
        if block.masked.any():
            frames = sample_block(block, replace(rng, first=first))
            # The first frame of a block repeats the last one of the block before it.
            if not blank:
                next(frames)
            blank = False
            begun, spent = step, nfe
            for frame in frames:
                canvas = _with(canvas, frame.canvas, first)
                confidence = confidence.index_copy(1, _range(first, stop, canvas), frame.confidence)
                step, nfe = begun + frame.step, spent + frame.nfe
                yield _widened(frame, canvas, confidence, step, nfe, first)
            cut = canvas if end is None else _ended(canvas, end, stop)
            if not torch.equal(cut.valid, canvas.valid):
                canvas, step = cut, step + 1
                nothing = torch.zeros_like(canvas.masked)
                yield Frame(
                    step, frame.time, canvas, nothing, nothing, confidence, nfe, (first, stop)
                )
        if not canvas.masked.any():
            return
        context.append(canvas.ids[:, first:stop])
        context.keep(canvas.masked.any(1))


def _with(canvas: Canvas, block: Canvas, first: int) -> Canvas:
    """Return a canvas with other ids and masks in the columns of a block."""
    ids, masked = canvas.ids.clone(), canvas.masked.clone()
    columns = slice(first, first + block.ids.shape[1])
    ids[:, columns], masked[:, columns] = block.ids, block.masked
    return replace(canvas, ids=ids, masked=masked)


def _widened(
    frame: Frame, canvas: Canvas, confidence: Tensor, step: int, nfe: int, first: int
) -> Frame:
    """Return a frame of a block as one of the whole canvas."""
    stop = first + frame.revealed.shape[1]
    sides = (first, canvas.ids.shape[1] - stop)
    revealed, remasked = (pad(x, sides, value=False) for x in (frame.revealed, frame.remasked))
    return Frame(step, frame.time, canvas, revealed, remasked, confidence, nfe, (first, stop))


def _range(first: int, stop: int, canvas: Canvas) -> Tensor:
    return torch.arange(first, stop, device=canvas.ids.device)


def _ended(canvas: Canvas, end: int, stop: int) -> Canvas:
    """Cut each row after the first end symbol that was generated before column ``stop``."""
    column = torch.arange(canvas.ids.shape[1], device=canvas.ids.device)
    ends = (canvas.ids == end) & canvas.editable & ~canvas.masked & (column < stop)
    after = (ends.cumsum(1) - ends.long()) > 0
    return Canvas(
        canvas.ids, canvas.masked & ~after, canvas.editable & ~after, canvas.valid & ~after
    )
