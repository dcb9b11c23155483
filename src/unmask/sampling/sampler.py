"""The sampling loop: from a canvas of masks to text, as a generator of frames.

Time grid x policy x token sampling. Every published sampler of this project is a choice of these
three (see ``sampling.samplers``), not a loop of its own. The loop does not print or decode.
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
from unmask.sampling.policies.base import Clock, Move, Past, Policy, Prediction
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
    """Generate tokens at the masks of a canvas, step by step.

    Args:
        denoiser: The network. It always gets all rows; ``at`` is False in rows that are finished.
        process: The forward process to reverse, of the kind that the policy knows.
        canvas: The start.
        policy: Which positions change.
        draw: Which token a position gets.
        grid: Times from 1 down to 0, shape (steps + 1,), float64; see ``schedules.grids``.
        rng: Random numbers, one seed per row.
        end: The id after which a row is cut off, see ``Canvas.ended``; None for no such id. Only
            for policies that never revise a token.
        matching: What the generated text has to match; None for no constraint.

    Yields:
        The canvas as given, then one frame per step, always of all rows. The loop ends early once
        no row can change any more. A step without candidates makes no network call. The last frame
        has no masks.
    """
    past = Past.of(canvas)
    time = torch.ones(len(canvas.ids), dtype=torch.float64, device=canvas.ids.device)
    nothing, nfe, steps = torch.zeros_like(canvas.masked), 0, len(grid) - 1
    yield Frame(0, time, canvas, nothing, nothing, past.confidence, nfe)
    for step in range(steps):
        clock = Clock(step, grid[step], grid[step + 1], process, last=step == steps - 1, past=past)
        settled = policy.settled(canvas, clock)
        if settled.all():
            return
        time = policy.time(canvas, clock, rng)
        candidates = policy.candidates(canvas, clock, rng) & ~settled[:, None]
        answer, prediction = None, _nothing(canvas)
        if candidates.any():
            u = rng.uniform("token", step, canvas.ids.shape[1])
            answer = _query(denoiser, canvas, time, candidates, u, matching)
            prediction = answer.prediction(draw.at(step), policy.reads)
            nfe += calls_of(denoiser)
        move = policy.choose(canvas, candidates, prediction, clock, rng)
        if answer is not None and move.tokens is None:
            prediction = answer.matched_to(prediction, move.reveal, draw.at(step), policy.reads)
        canvas, remasked = _moved(canvas, move, prediction.tokens, process, end)
        confidence = torch.where(move.reveal, prediction.probability, past.confidence)
        confidence = confidence.masked_fill(canvas.masked | ~canvas.valid, float("nan"))
        idle = ~(move.reveal | remasked).any(1)
        past = Past(confidence, past.remask_count + remasked, idle)
        yield Frame(step + 1, time, canvas, move.reveal, remasked, confidence, nfe)


def _moved(
    canvas: Canvas, move: Move, tokens: Tensor, process: Any, end: int | None
) -> tuple[Canvas, Tensor]:
    """Return the canvas after a move, and which visible tokens were masked, (B, L), bool."""
    remasked, before = torch.zeros_like(canvas.masked), canvas.masked
    canvas = canvas.reveal(move.reveal, tokens if move.tokens is None else move.tokens)
    if move.remask is not None:
        remasked = move.remask & ~before
        canvas = canvas.remask(move.remask, process.mask_token_id)
    return canvas if end is None else canvas.ended(end), remasked


def _nothing(canvas: Canvas) -> Prediction:
    unlikely = torch.full(canvas.ids.shape, -torch.inf, device=canvas.ids.device)
    return Prediction(canvas.ids, unlikely, unlikely)


@dataclass(frozen=True)
class _Answer:
    """The logits of one network call, from which the tokens of a step are drawn.

    Attributes:
        logits: Shape (N, V).
        queried: The N positions of the logits, shape (B, L), bool.
        candidates: Where the policy needs a prediction, a subset of ``queried``.
        canvas: The rows before the step.
        u: Shape (B, L), float64; the numbers to draw with.
        matching: What the generated text has to match.
    """

    logits: Tensor
    queried: Tensor
    candidates: Tensor
    canvas: Canvas
    u: Tensor
    matching: Matching | None

    def at(self, where: Tensor) -> Tensor:
        """Return the logits at a subset of the queried positions."""
        if torch.equal(where, self.queried):
            return self.logits
        return self.logits[where[self.queried]]

    @property
    def visible(self) -> Tensor:
        """Visible tokens among the candidates, shape (B, L), bool."""
        return self.candidates & ~self.canvas.masked

    def prediction(self, draw: Draw, reads: str | None) -> Prediction:
        """Return predictions; a visible token that is only scored gets no replacement."""
        if self.matching is None:
            return self._scored(self.candidates, draw(self.logits, self.u[self.candidates]), reads)
        fixed = torch.zeros_like(self.candidates) if reads is None else self.visible
        return self._matched(self.matching, fixed, draw, reads)

    def matched_to(
        self, prediction: Prediction, reveal: Tensor, draw: Draw, reads: str | None
    ) -> Prediction:
        """Return predictions that match given the visible tokens that a move does not replace."""
        fixed = self.visible & ~reveal
        if self.matching is None or reads is not None or not fixed.any():
            return prediction
        return self._matched(self.matching, fixed, draw, reads)

    def _matched(
        self, matching: Matching, fixed: Tensor, draw: Draw, reads: str | None
    ) -> Prediction:
        to_draw, kept = self.queried & ~fixed, self.candidates & ~fixed
        logits = self.at(to_draw)
        drawn = matching.draw(draw, logits, to_draw, kept, self.canvas.ids, self.u)
        return self._scored(kept, drawn, reads)

    def _scored(self, where: Tensor, drawn: Drawn, reads: str | None) -> Prediction:
        nothing = _nothing(self.canvas)
        tokens = nothing.tokens.masked_scatter(where, drawn.tokens)
        probability = nothing.probability.masked_scatter(where, drawn.probability)
        if reads is None:
            return Prediction(tokens, probability, probability)
        judged = torch.where(self.canvas.masked, tokens, self.canvas.ids)[self.candidates]
        score = confidence_score(reads, self.at(self.candidates), judged)
        return Prediction(
            tokens, probability, nothing.measured.masked_scatter(self.candidates, score)
        )


def _query(
    denoiser: Denoiser,
    canvas: Canvas,
    time: Tensor,
    candidates: Tensor,
    u: Tensor,
    matching: Matching | None,
) -> _Answer:
    """Call the network at ``candidates`` (B, L), and where a match depends on more positions."""
    queried = candidates if matching is None else matching.queried(canvas, candidates)
    logits = denoiser(canvas.ids, time, at=queried, valid=canvas.valid)
    if matching is not None:
        check_usable(logits.amax(1), logits)
    return _Answer(logits, queried, candidates, canvas, u, matching)
