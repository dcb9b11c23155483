"""The canvas: a batch of token rows, some of which are still masks. And the frame: one step of it.

Which tokens are hidden and which may change is stored, never inferred from the ids. A canvas is
immutable; a sampler returns a new one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unmask.errors import UserError


@dataclass(frozen=True)
class Canvas:
    """A batch of rows.

    Attributes:
        ids: Shape (B, L), int64; [MASK] where hidden, padding at the right where not valid.
        masked: Shape (B, L), bool; True where the token is hidden.
        editable: Shape (B, L), bool; True where the sampler may write. Contains ``masked``.
        valid: Shape (B, L), bool; False on padding.
    """

    ids: Tensor
    masked: Tensor
    editable: Tensor
    valid: Tensor

    @classmethod
    def from_rows(
        cls, rows: Sequence[Sequence[int | None]], mask_token_id: int, pad_token_id: int
    ) -> Canvas:
        """Build a canvas from rows of ids in which None stands for a blank to be written.

        Raises:
            UserError: If there is no row, or no row has a token.
        """
        length = max((len(row) for row in rows), default=0)
        if length == 0:
            raise UserError("there is nothing to write: give a prompt, a length or a blank")
        padded = [[*row, *[pad_token_id] * (length - len(row))] for row in rows]
        ids = torch.tensor([[mask_token_id if i is None else i for i in row] for row in padded])
        masked = torch.tensor([[i is None for i in row] for row in padded])
        size = torch.tensor([len(row) for row in rows])
        return cls(ids, masked, masked, torch.arange(length) < size[:, None])

    def to(self, device: torch.device) -> Canvas:
        """Return the same canvas on a device."""
        return Canvas(*(x.to(device) for x in (self.ids, self.masked, self.editable, self.valid)))

    def columns(self, first: int, stop: int) -> Canvas:
        """Return a part of every row."""
        parts = (self.ids, self.masked, self.editable, self.valid)
        return Canvas(*(x[:, first:stop] for x in parts))

    def rows(self, index: Sequence[int]) -> Canvas:
        """Return some rows, in the given order, without columns that are padding in all of them."""
        width = int(self.valid[index].sum(1).max())
        parts = (self.ids, self.masked, self.editable, self.valid)
        return Canvas(*(x[index, :width] for x in parts))

    def given(self, start: int) -> Tensor:
        """Return the tokens that the blanks are conditioned on, shape (B, L), bool.

        Args:
            start: Start symbols at the head of each row, which do not count.
        """
        given = self.valid & ~self.editable
        given[:, :start] = False
        return given

    def before_given(self) -> Tensor:
        """Return where a given token stands or follows, shape (B, L), bool."""
        given = self.valid & ~self.editable
        return given.flip(1).cumsum(1).flip(1) > 0

    def reveal(self, where: Tensor, ids: Tensor) -> Canvas:
        """Write ids (B, L) at the positions ``where`` (B, L), bool; given tokens stay."""
        where = where & self.editable
        written = torch.where(where, ids, self.ids)
        return Canvas(written, self.masked & ~where, self.editable, self.valid)

    def ended(self, end: int) -> Canvas:
        """Drop what stands behind the first end symbol that was written after all given tokens.

        What is dropped is neither valid nor editable any more: the row has become shorter. Its ids
        are end symbols, written or not before.

        Args:
            end: The id of the end symbol.
        """
        ends = (self.ids == end) & ~self.masked & self.valid & ~self.before_given()
        behind = ends.cumsum(1) - ends.long() > 0
        return Canvas(
            self.ids.masked_fill(behind & self.valid, end),
            self.masked & ~behind,
            self.editable & ~behind,
            self.valid & ~behind,
        )

    def remask(self, where: Tensor, mask_token_id: int) -> Canvas:
        """Hide the positions ``where`` (B, L), bool, again. Given tokens stay as they are."""
        where = where & self.editable
        hidden = self.ids.masked_fill(where, mask_token_id)
        return Canvas(hidden, self.masked | where, self.editable, self.valid)


@dataclass(frozen=True)
class Frame:
    """The canvas after one step of a sampler.

    Attributes:
        step: 0 for the blank canvas, then 1, 2, ...
        time: Shape (B,), float64; the time that the network was given in this step.
        canvas: The rows after the step.
        revealed: Shape (B, L), bool; written in this step.
        remasked: Shape (B, L), bool; visible before this step and hidden by it.
        confidence: Shape (B, L), float32; the probability that a token had when it was written,
            NaN where nothing has been written.
        nfe: Network calls so far (number of function evaluations).
        block: First column of the block that is being written and the one behind it; None where the
            canvas is written as one.
    """

    step: int
    time: Tensor
    canvas: Canvas
    revealed: Tensor
    remasked: Tensor
    confidence: Tensor
    nfe: int
    block: tuple[int, int] | None = None
