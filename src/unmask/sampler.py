"""The sampler: one loop from a blank canvas to a written one, as a generator of frames.

Grid x policy x draw. Every published sampler of this project is a choice of these three (see
``presets.py``), not a loop of its own. No printing, no progress bar, no decoding in here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from unmask.canvas import Canvas, Frame
from unmask.constraint import Matching
from unmask.denoiser import Denoiser, calls_of
from unmask.draw import BurnIn, Draw
from unmask.errors import UserError
from unmask.noise import Noise
from unmask.policy import Clock, Guess, Policy


@torch.no_grad()
def sample(
    denoiser: Denoiser,
    process: Any,
    canvas: Canvas,
    policy: Policy,
    draw: Draw | BurnIn,
    grid: Tensor,
    noise: Noise,
    matching: Matching | None = None,
) -> Iterator[Frame]:
    """Write on the masks of a canvas, step by step.

    Args:
        denoiser: The network.
        process: The forward process to undo, of the kind that the policy knows.
        canvas: What to start from.
        policy: Which positions.
        draw: Which token.
        grid: Times from 1 down to 0, shape (steps + 1,), float64; see ``schedule.time_grid``.
        noise: Random numbers, one seed per row.
        matching: What the written text has to match, None for nothing.

    Yields:
        The canvas as given, then one frame per step. The steps end early once no row can change
        any more; a step in which no row reveals anything costs no network call. After the last
        frame no mask is left.
    """
    confidence = torch.full(canvas.ids.shape, float("nan"), device=canvas.ids.device)
    nothing = torch.zeros_like(canvas.masked)
    time = torch.ones(len(canvas.ids), dtype=torch.float64, device=canvas.ids.device)
    nfe = 0
    yield Frame(0, time, canvas, nothing, nothing, confidence, nfe)
    steps = len(grid) - 1
    for step in range(steps):
        if not policy.revises and not canvas.masked.any():
            return
        clock = Clock(step, grid[step], grid[step + 1], process, last=step == steps - 1)
        time = _time(policy, canvas, clock)
        wanted = policy.candidates(canvas, clock, noise)
        guess = Guess(canvas.ids, torch.full_like(confidence, -torch.inf))
        if wanted.any():
            asked = wanted if matching is None else matching.asked(canvas, wanted)
            logits = denoiser(canvas.ids, time, at=asked, valid=canvas.valid)
            # A maximum is NaN if any of its numbers is: one pass, and no copy of the logits.
            if torch.isnan(logits.amax(-1)).any():
                raise UserError("the network answered with NaN; the checkpoint is damaged")
            nfe += calls_of(denoiser)
            u = noise.uniform("token", step, canvas.ids.shape[1])
            guess = _drawn(canvas, logits, asked, wanted, draw.at(step), u, matching)
        move = policy.choose(canvas, wanted, guess, clock, noise)
        kept = wanted & ~canvas.masked & ~move.reveal
        if matching is not None and move.tokens is None and kept.any():
            # Visible tokens were asked about and stay: what is written has to match beside them.
            logits, asked, wanted = logits[~kept[asked]], asked & ~kept, wanted & ~kept
            guess = _drawn(canvas, logits, asked, wanted, draw.at(step), u, matching)
        tokens = guess.tokens if move.tokens is None else move.tokens
        remasked, before = nothing, canvas.masked
        canvas = canvas.reveal(move.reveal, tokens)
        if move.remask is not None:
            remasked = move.remask & ~before
            canvas = canvas.remask(move.remask, process.mask_token_id)
        confidence = torch.where(move.reveal, guess.probability, confidence)
        confidence = confidence.masked_fill(canvas.masked, float("nan"))
        yield Frame(step + 1, time, canvas, move.reveal, remasked, confidence, nfe)


def _drawn(
    canvas: Canvas,
    logits: Tensor,
    asked: Tensor,
    wanted: Tensor,
    draw: Draw,
    u: Tensor,
    matching: Matching | None,
) -> Guess:
    """Return tokens drawn at ``wanted`` from the logits at ``asked``, all of it (B, L)."""
    if matching is None:
        drawn = draw(logits, u[wanted])
    else:
        drawn = matching.draw(draw, logits, asked, wanted, canvas.ids, u)
    nothing = torch.full(u.shape, -torch.inf, device=u.device)
    return Guess(
        canvas.ids.masked_scatter(wanted, drawn.tokens),
        nothing.masked_scatter(wanted, drawn.probability),
    )


def _time(policy: Policy, canvas: Canvas, clock: Clock) -> Tensor:
    if policy.follows_grid:
        return clock.t.expand(len(canvas.ids)).to(canvas.ids.device)
    return clock.process.time_of(canvas.masked, canvas.editable)
