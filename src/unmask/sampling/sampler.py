"""The sampler: one loop from a blank canvas to a written one, as a generator of frames.

Grid x policy x draw. Every published sampler of this project is a choice of these three (see
``sampling.samplers``), not a loop of its own. No printing, no progress bar, no decoding in here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unmask.diffusion.denoiser import Denoiser, calls_of
from unmask.diffusion.rng import RowRng
from unmask.sampling.canvas import Canvas, Frame
from unmask.sampling.categorical import Drawn, check_usable
from unmask.sampling.constraints.matching import Matching
from unmask.sampling.policies.base import Clock, Past, Policy, Prediction
from unmask.sampling.policies.confidence_scores import confidence_score
from unmask.sampling.token_sampling import BurnIn, Draw


@torch.no_grad()
def sample(
    denoiser: Denoiser,
    process: Any,
    canvas: Canvas,
    policy: Policy,
    draw: Draw | BurnIn,
    grid: Tensor,
    rng: RowRng,
    end: int | None = None,
    matching: Matching | None = None,
) -> Iterator[Frame]:
    """Write on the masks of a canvas, step by step.

    Args:
        denoiser: The network. It always gets all rows, and is asked about nothing in those that are
            finished or wait; see ``EncoderDenoiser``.
        process: The forward process to undo, of the kind that the policy knows.
        canvas: What to start from.
        policy: Which positions.
        draw: Which token.
        grid: Times from 1 down to 0, shape (steps + 1,), float64; see
            ``schedules.grids.time_grid``.
        rng: Random numbers, one seed per row.
        end: The id behind which a row is dropped as soon as it is written, see ``Canvas.ended``;
            None for none. For policies that never revise what they wrote.
        matching: What the written text has to match, None for nothing.

    Yields:
        The canvas as given, then one frame per step, always of all rows. The steps end early once
        no row can change any more; a step in which no row wants a guess costs no network call.
        After the last frame no mask is left.
    """
    nothing = torch.zeros_like(canvas.masked)
    time = torch.ones(len(canvas.ids), dtype=torch.float64, device=canvas.ids.device)
    past = Past.of(canvas)
    nfe = 0
    yield Frame(0, time, canvas, nothing, nothing, past.confidence, nfe)
    steps = len(grid) - 1
    for step in range(steps):
        clock = Clock(step, grid[step], grid[step + 1], process, last=step == steps - 1, past=past)
        settled = policy.settled(canvas, clock)
        if settled.all():
            return
        time = policy.time(canvas, clock, rng)
        wanted = policy.candidates(canvas, clock, rng) & ~settled[:, None]
        answer = None
        if not wanted.any():
            prediction = _nothing(canvas)
        else:
            u = rng.uniform("token", step, canvas.ids.shape[1])
            answer = _ask(denoiser, canvas, time, wanted, u, matching)
            prediction = answer.prediction(draw.at(step), policy.reads)
            nfe += calls_of(denoiser)
        move = policy.choose(canvas, wanted, prediction, clock, rng)
        if answer is not None and move.tokens is None:
            prediction = answer.beside(prediction, move.reveal, draw.at(step), policy.reads)
        tokens = prediction.tokens if move.tokens is None else move.tokens
        remasked, before = nothing, canvas.masked
        canvas = canvas.reveal(move.reveal, tokens)
        if move.remask is not None:
            remasked = move.remask & ~before
            canvas = canvas.remask(move.remask, process.mask_token_id)
        if end is not None:
            canvas = canvas.ended(end)
        confidence = torch.where(move.reveal, prediction.probability, past.confidence)
        confidence = confidence.masked_fill(canvas.masked | ~canvas.valid, float("nan"))
        idle = ~(move.reveal | remasked).any(1)
        past = Past(confidence, past.hidden + remasked, idle)
        yield Frame(step + 1, time, canvas, move.reveal, remasked, confidence, nfe)


def _nothing(canvas: Canvas) -> Prediction:
    unlikely = torch.full(canvas.ids.shape, -torch.inf, device=canvas.ids.device)
    return Prediction(canvas.ids, unlikely, unlikely)


@dataclass(frozen=True)
class _Answer:
    """What the network said.

    Attributes:
        logits: Shape (N, V).
        asked: Where they are about, shape (B, L), bool.
        wanted: Where the policy wants a guess, a part of these.
        canvas: The rows before the step.
        u: Shape (B, L), float64; the numbers to draw with.
        matching: What the written text has to match.
    """

    logits: Tensor
    asked: Tensor
    wanted: Tensor
    canvas: Canvas
    u: Tensor
    matching: Matching | None

    def at(self, where: Tensor) -> Tensor:
        """Return the logits at a part of the positions that were asked about."""
        return self.logits if torch.equal(where, self.asked) else self.logits[where[self.asked]]

    @property
    def visible(self) -> Tensor:
        """Where the policy wants to know about a token that it sees, shape (B, L), bool."""
        return self.wanted & ~self.canvas.masked

    def prediction(self, draw: Draw, reads: str | None) -> Prediction:
        """Return the guesses; of visible tokens that are judged, none that would replace them."""
        if self.matching is None:
            return self._measured(self.wanted, draw(self.logits, self.u[self.wanted]), reads)
        stands = torch.zeros_like(self.wanted) if reads is None else self.visible
        return self._matched(self.matching, stands, draw, reads)

    def beside(
        self, prediction: Prediction, reveal: Tensor, draw: Draw, reads: str | None
    ) -> Prediction:
        """Return guesses that match beside the visible tokens that stay after all."""
        stands = self.visible & ~reveal
        if self.matching is None or reads is not None or not stands.any():
            return prediction
        return self._matched(self.matching, stands, draw, reads)

    def _matched(
        self, matching: Matching, stands: Tensor, draw: Draw, reads: str | None
    ) -> Prediction:
        to_draw, written = self.asked & ~stands, self.wanted & ~stands
        logits = self.at(to_draw)
        drawn = matching.draw(draw, logits, to_draw, written, self.canvas.ids, self.u)
        return self._measured(written, drawn, reads)

    def _measured(self, written: Tensor, drawn: Drawn, reads: str | None) -> Prediction:
        nothing = _nothing(self.canvas)
        tokens = nothing.tokens.masked_scatter(written, drawn.tokens)
        probability = nothing.probability.masked_scatter(written, drawn.probability)
        if reads is None:
            return Prediction(tokens, probability, probability)
        judged = torch.where(self.canvas.masked, tokens, self.canvas.ids)[self.wanted]
        measured = confidence_score(reads, self.at(self.wanted), judged)
        return Prediction(
            tokens, probability, nothing.measured.masked_scatter(self.wanted, measured)
        )


def _ask(
    denoiser: Denoiser,
    canvas: Canvas,
    time: Tensor,
    wanted: Tensor,
    u: Tensor,
    matching: Matching | None,
) -> _Answer:
    """Ask the network where guesses are ``wanted`` (B, L), or needed for these to match."""
    asked = wanted if matching is None else matching.asked(canvas, wanted)
    logits = denoiser(canvas.ids, time, at=asked, valid=canvas.valid)
    if matching is not None:
        check_usable(logits.amax(1), logits)
    return _Answer(logits, asked, wanted, canvas, u, matching)
