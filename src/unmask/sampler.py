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
from unmask.denoiser import Denoiser
from unmask.draw import BurnIn, Draw
from unmask.errors import UserError
from unmask.measure import measure
from unmask.noise import Noise
from unmask.policy import Clock, Guess, Past, Policy


@torch.no_grad()
def sample(
    denoiser: Denoiser,
    process: Any,
    canvas: Canvas,
    policy: Policy,
    draw: Draw | BurnIn,
    grid: Tensor,
    noise: Noise,
    end: int | None = None,
) -> Iterator[Frame]:
    """Write on the masks of a canvas, step by step.

    Args:
        denoiser: The network. It always gets all rows, and is asked about nothing in those that are
            finished or wait; see ``EncoderDenoiser``.
        process: The forward process to undo, of the kind that the policy knows.
        canvas: What to start from.
        policy: Which positions.
        draw: Which token.
        grid: Times from 1 down to 0, shape (steps + 1,), float64; see ``schedule.time_grid``.
        noise: Random numbers, one seed per row.
        end: The id behind which a row is dropped as soon as it is written, see ``Canvas.ended``;
            None for none. For policies that never revise what they wrote.

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
        time = policy.time(canvas, clock, noise)
        wanted = policy.candidates(canvas, clock, noise) & ~settled[:, None]
        guess = _nothing(canvas)
        if wanted.any():
            guess = _ask(denoiser, policy, draw.at(step), canvas, time, wanted, step, noise)
            nfe += 1
        move = policy.choose(canvas, wanted, guess, clock, noise)
        tokens = guess.tokens if move.tokens is None else move.tokens
        remasked, before = nothing, canvas.masked
        canvas = canvas.reveal(move.reveal, tokens)
        if move.remask is not None:
            remasked = move.remask & ~before
            canvas = canvas.remask(move.remask, process.mask_token_id)
        if end is not None:
            canvas = canvas.ended(end)
        confidence = torch.where(move.reveal, guess.probability, past.confidence)
        confidence = confidence.masked_fill(canvas.masked | ~canvas.valid, float("nan"))
        idle = ~(move.reveal | remasked).any(1)
        past = Past(confidence, past.hidden + remasked, idle)
        yield Frame(step + 1, time, canvas, move.reveal, remasked, confidence, nfe)


def _nothing(canvas: Canvas) -> Guess:
    unlikely = torch.full(canvas.ids.shape, -torch.inf, device=canvas.ids.device)
    return Guess(canvas.ids, unlikely, unlikely)


def _ask(
    denoiser: Denoiser,
    policy: Policy,
    draw: Draw,
    canvas: Canvas,
    time: Tensor,
    wanted: Tensor,
    step: int,
    noise: Noise,
) -> Guess:
    """Return the network's guesses where they are ``wanted`` (B, L)."""
    logits = denoiser(canvas.ids, time, at=wanted, valid=canvas.valid)
    # A maximum is NaN if any of its numbers is: one pass, and no copy of the logits.
    best = logits.amax(-1)
    if torch.isnan(best).any():
        raise UserError("the network answered with NaN; the checkpoint is damaged")
    if torch.isneginf(best).any():
        raise UserError("nothing is left to write in one place; ban or require less")
    drawn = draw(logits, noise.uniform("token", step, canvas.ids.shape[1])[wanted])
    measured = drawn.probability
    if policy.reads is not None:
        judged = torch.where(canvas.masked[wanted], drawn.tokens, canvas.ids[wanted])
        measured = measure(policy.reads, logits, judged)
    blank = _nothing(canvas)
    return Guess(
        blank.tokens.masked_scatter(wanted, drawn.tokens),
        blank.probability.masked_scatter(wanted, drawn.probability),
        blank.measured.masked_scatter(wanted, measured),
    )
