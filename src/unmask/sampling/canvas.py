"""The state of a sampler: ``Canvas``, a batch of partly masked rows, and ``Frame``, one step of it.

Which tokens are masked and which may change is stored, never inferred from the ids. A canvas is
immutable; a sampler returns a new one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from unmask.diffusion.rng import RowRng
from unmask.errors import UserError


@dataclass(frozen=True)
class Canvas:
    """A batch of rows.

    Attributes:
        ids: Shape (B, L), int64; [MASK] where masked, padding at the right where not valid.
        masked: Shape (B, L), bool; True where a token is still to be generated.
        editable: Shape (B, L), bool; True where the sampler may change a token. Contains
            ``masked``.
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
        """Build a canvas from rows of ids in which None is a position to generate.

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
        """Return the columns ``first`` to ``stop`` - 1 of every row."""
        parts = (self.ids, self.masked, self.editable, self.valid)
        return Canvas(*(x[:, first:stop] for x in parts))

    def rows(self, index: Sequence[int]) -> Canvas:
        """Return some rows, in the given order, without columns that are padding in all of them."""
        width = int(self.valid[index].sum(1).max())
        parts = (self.ids, self.masked, self.editable, self.valid)
        return Canvas(*(x[index, :width] for x in parts))

    def given(self, start: int) -> Tensor:
        """Return the tokens that generation is conditioned on, shape (B, L), bool.

        Args:
            start: Number of start symbols at the beginning of each row, which do not count.
        """
        given = self.valid & ~self.editable
        given[:, :start] = False
        return given

    def before_given(self) -> Tensor:
        """Return the positions at or before a given token, shape (B, L), bool."""
        given = self.valid & ~self.editable
        return given.flip(1).cumsum(1).flip(1) > 0

    def reveal(self, where: Tensor, ids: Tensor) -> Canvas:
        """Set ids (B, L) at the positions ``where`` (B, L), bool; given tokens stay."""
        where = where & self.editable
        written = torch.where(where, ids, self.ids)
        return Canvas(written, self.masked & ~where, self.editable, self.valid)

    def ended(self, end: int) -> Canvas:
        """Cut each row after the first end symbol that was generated after all given tokens.

        The positions after it are neither valid nor editable any more: the row has become shorter.
        Their ids become end symbols.

        Args:
            end: The id of the end symbol.
        """
        ends = (self.ids == end) & ~self.masked & self.valid & ~self.before_given()
        after = ends.cumsum(1) - ends.long() > 0
        return Canvas(
            self.ids.masked_fill(after & self.valid, end),
            self.masked & ~after,
            self.editable & ~after,
            self.valid & ~after,
        )

    def remask(self, where: Tensor, mask_token_id: int) -> Canvas:
        """Mask the positions ``where`` (B, L), bool; given tokens stay."""
        where = where & self.editable
        ids = self.ids.masked_fill(where, mask_token_id)
        return Canvas(ids, self.masked | where, self.editable, self.valid)


@dataclass(frozen=True)
class Frame:
    """The state after one step of a sampler.

    A renderer reads ``ids``, ``undecided``, ``confidence`` and ``nfe``, which mean the same under
    every forward process; ``canvas`` is the state of the sampler itself.

    Attributes:
        step: 0 for the start, then 1, 2, ...
        time: Shape (B,), float64; the time that the network was conditioned on in this step.
        canvas: The rows after the step.
        revealed: Shape (B, L), bool; tokens set in this step.
        remasked: Shape (B, L), bool; tokens visible before this step and masked by it.
        confidence: Shape (B, L), float32; the probability that a token had when it was drawn, NaN
            where none has been.
        nfe: Network calls so far (number of function evaluations).
        block: First column of the current block and the first one after it; None without blocks.
    """

    step: int
    time: Tensor
    canvas: Canvas
    revealed: Tensor
    remasked: Tensor
    confidence: Tensor
    nfe: int
    block: tuple[int, int] | None = None

    @property
    def ids(self) -> Tensor:
        """Token ids, shape (B, L), int64."""
        return self.canvas.ids

    @property
    def undecided(self) -> Tensor:
        """Positions without a token, (B, L), bool; all False under uniform noise."""
        return self.canvas.masked


CanvasSampler: TypeAlias = Callable[[Canvas, RowRng], Iterator[Frame]]
"""A sampler of which only the canvas and the random numbers are left open."""
