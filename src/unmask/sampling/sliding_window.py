r"""Texts that are longer than what a network sees at once: written stretch by stretch.

    start symbols | the last tokens so far | a stretch of masks
    <------------------- one window -------------------------->

The first stretch fills the window behind the prompt, every further one adds ``stride`` tokens given
those that stand before it in the window. Within a stretch any order is possible, between stretches
it is left to right. What has left the window is not seen again: a token depends on no more than the
``size - stride`` tokens before its stretch.

How a row is cut depends on the row alone, and each stretch of it has random numbers of its own, so
that it is the same text by itself and in any batch. A row that fits is written as without a window.

Reference: Sahoo et al. 2024, arXiv:2406.07524 (semi-autoregressive sampling).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from unmask.diffusion.rng import RowRng
from unmask.errors import UserError
from unmask.sampling.canvas import Canvas, Frame

Write = Callable[[Canvas, RowRng], Iterator[Frame]]
"""A sampler that is bound to all but what it writes on and its random numbers."""


@dataclass(frozen=True)
class Window:
    """What a network sees at once.

    Args:
        size: Tokens in a window, the start symbols included.
        stride: Tokens that each stretch after the first adds.
        start: Start symbols, which open every window.

    Raises:
        UserError: If there is no room for a stride and a token before it.
    """

    size: int
    stride: int
    start: int

    def __post_init__(self) -> None:
        most = self.size - self.start - 1
        if most < 1:
            raise UserError(f"window must be at least {self.start + 2} tokens, not {self.size}")
        if not 1 <= self.stride <= most:
            raise UserError(
                f"stride must be from 1 to {most}, so that a window of {self.size} tokens shows "
                f"something of what is written already, not {self.stride}"
            )

    def columns(self, done: int, total: int) -> list[int]:
        """Return which columns of a row are seen next, in order.

        Args:
            done: Tokens at the left that are given or written.
            total: Tokens of the row.
        """
        reach = min(total, max(self.size, done + self.stride))
        first = max(self.start, reach - (self.size - self.start))
        return [*range(self.start), *range(first, reach)]


def slide(
    write: Write, canvas: Canvas, rng: RowRng, window: Window | None, end: int | None = None
) -> Iterator[Frame]:
    """Write on the masks of a canvas, a window at a time where it is wider than that.

    Args:
        write: What writes on one window. It must know of ``end`` as well.
        canvas: The whole rows; in one that is longer than the window, all masks are at its end.
        rng: Random numbers, one seed per row.
        window: What is seen at once; None for everything.
        end: The id behind which a row is dropped, see ``Canvas.ended``; None for none.

    Yields:
        Frames of the whole canvas: as it is given, then one for every step of every stretch. Steps
        and network calls are counted through; a row that takes no part in a stretch has time 0.
    """
    if window is None or canvas.ids.shape[1] <= window.size:
        yield from write(canvas, rng)
        return
    time = torch.ones(len(canvas.ids), dtype=torch.float64, device=canvas.ids.device)
    nothing = torch.zeros_like(canvas.masked)
    confidence = torch.full(canvas.ids.shape, float("nan"), device=canvas.ids.device)
    frame = Frame(0, time, canvas, nothing, nothing, confidence, 0)
    yield frame
    stretch = 0
    while bool(frame.canvas.masked.any()):
        view, before = _View.of(frame.canvas, window), frame
        numbers = RowRng(rng.part(stretch).seeds[view.rows])
        for part in write(view.canvas, numbers):
            if part.step > 0:
                frame = view.embed(part, before, end)
                yield frame
        stretch += 1


@dataclass(frozen=True)
class _View:
    """The next window of all rows that are not finished.

    Attributes:
        canvas: R rows of the window, padded at the right.
        rows: Which rows of the whole canvas these are, shape (R,), int64.
        columns: Which columns stand in the window, shape (R, W), int64.
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
        # What earlier stretches wrote is given now.
        canvas = Canvas(whole.ids[rows[:, None], columns], masked, masked, valid)
        return cls(canvas, rows, columns)

    def embed(self, part: Frame, before: Frame, end: int | None) -> Frame:
        """Return a frame of the window as one of the whole canvas as it was ``before``."""
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
