r"""Sliding-window sampling of texts longer than the context of a network, chunk by chunk.

    start symbols | the last tokens so far | a chunk of masks
    <------------------ one window ------------------------->

The first chunk fills the window after the prompt; each further one adds ``stride`` tokens
conditioned on the tokens before it in the window. Within a chunk any order is possible, between
chunks it is left to right. Tokens that have left the window are not seen again: a token depends on
at most the ``size - stride`` tokens before its chunk.

How a row is cut depends on the row alone, and each chunk has its own random numbers, so a row gets
the same text alone and in any batch. A row that fits is sampled as without a window.

Reference: Sahoo et al. 2024, arXiv:2406.07524 (semi-autoregressive sampling).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from unmask.diffusion.rng import RowRng
from unmask.sampling.canvas import Canvas, CanvasSampler, Frame
from unmask.validation import within


@dataclass(frozen=True)
class Window:
    """The part of a row in one network call.

    Args:
        size: Tokens in a window, start symbols included.
        stride: Tokens that each chunk after the first adds.
        start: Number of start symbols, with which every window begins.

    Raises:
        UserError: If there is no room for a stride and a token before it.
    """

    size: int
    stride: int
    start: int

    def __post_init__(self) -> None:
        within("window", self.size, low=self.start + 2)
        what = f"stride, which keeps an earlier token in a window of {self.size},"
        within(what, self.stride, 1, self.size - self.start - 1)

    def columns(self, done: int, total: int) -> list[int]:
        """Return the columns of a row in its next window, in order.

        Args:
            done: Number of tokens before the first mask.
            total: Number of tokens of the row.
        """
        reach = min(total, max(self.size, done + self.stride))
        first = max(self.start, reach - (self.size - self.start))
        return [*range(self.start), *range(first, reach)]


def slide(
    sample_chunk: CanvasSampler,
    canvas: Canvas,
    rng: RowRng,
    window: Window | None,
    end: int | None = None,
) -> Iterator[Frame]:
    """Generate tokens at the masks of a canvas, window by window if it is wider than one.

    Args:
        sample_chunk: Samples one window. It must handle ``end`` as well.
        canvas: The whole rows; if one is longer than the window, all its masks are at its end.
        rng: Random numbers, one seed per row.
        window: The window; None for the whole row.
        end: The id after which a row is cut off, see ``Canvas.ended``; None for no such id.

    Yields:
        Frames of the whole canvas: as given, then one for every step of every chunk. Steps and
        network calls are counted over all chunks; a row that takes no part in a chunk has time 0.
    """
    if window is None or canvas.ids.shape[1] <= window.size:
        yield from sample_chunk(canvas, rng)
        return
    time = torch.ones(len(canvas.ids), dtype=torch.float64, device=canvas.ids.device)
    nothing = torch.zeros_like(canvas.masked)
    confidence = torch.full(canvas.ids.shape, float("nan"), device=canvas.ids.device)
    frame = Frame(0, time, canvas, nothing, nothing, confidence, 0)
    yield frame
    chunk = 0
    while bool(frame.canvas.masked.any()):
        view, before = _View.of(frame.canvas, window), frame
        numbers = RowRng(rng.part(chunk).seeds[view.rows])
        for part in sample_chunk(view.canvas, numbers):
            if part.step > 0:
                frame = view.embed(part, before, end)
                yield frame
        chunk += 1


@dataclass(frozen=True)
class _View:
    """The next window of all rows that are not finished.

    Attributes:
        canvas: R rows of the window, padded at the right.
        rows: Their indices in the whole canvas, shape (R,), int64.
        columns: The columns in the window, shape (R, W), int64.
    """

    canvas: Canvas
    rows: Tensor
    columns: Tensor

    @classmethod
    def of(cls, whole: Canvas, window: Window) -> _View:
        rows = whole.masked.any(1).nonzero()[:, 0]
        done = whole.masked[rows].int().argmax(1).tolist()
        total = whole.valid[rows].sum(1).tolist()
        seen = [window.columns(*pair) for pair in zip(done, total, strict=True)]
        width = max(map(len, seen))
        size = torch.tensor([len(row) for row in seen], device=rows.device)
        columns = torch.tensor(
            [[*row, *[0] * (width - len(row))] for row in seen], device=rows.device
        )
        valid = torch.arange(width, device=rows.device) < size[:, None]
        masked = whole.masked[rows[:, None], columns] & valid
        # Tokens of earlier chunks are given now.
        canvas = Canvas(whole.ids[rows[:, None], columns], masked, masked, valid)
        return cls(canvas, rows, columns)

    def embed(self, part: Frame, before: Frame, end: int | None) -> Frame:
        """Insert a frame of the window into the frame of the whole canvas ``before`` it."""
        fresh = self.canvas.masked
        place = (self.rows[:, None].expand_as(fresh)[fresh], self.columns[fresh])

        def put(old: Tensor, new: Tensor) -> Tensor:
            return old.index_put(place, new[fresh])

        whole, nothing = before.canvas, torch.zeros_like(before.revealed)
        ids, masked = put(whole.ids, part.canvas.ids), put(whole.masked, part.canvas.masked)
        canvas = Canvas(ids, masked, whole.editable, whole.valid)
        return Frame(
            before.step + part.step,
            torch.zeros_like(before.time).index_put((self.rows,), part.time),
            canvas if end is None else canvas.ended(end),
            put(nothing, part.revealed),
            put(nothing, part.remasked),
            put(before.confidence, part.confidence),
            before.nfe + part.nfe,
        )
