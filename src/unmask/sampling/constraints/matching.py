r"""Constraints on the generated text: a set of tokens per position, and regular expressions.

    Allowed    a denoiser that wraps a denoiser; each position has its own set of possible tokens
    Matching   joint draws of tokens such that the text matches a regular expression

A match makes positions depend on each other, so the tokens of one step have to be drawn jointly.
They are drawn from the product of the predictions at all masks, conditioned on a match:

    q(x) ~ [x matches] * product over masks i of p_i(x_i),        x = visible tokens elsewhere

A policy may then reveal any part of them: the visible tokens can always be completed to a match.
The predictions are treated as independent, as in every parallel step. So even one token per step
with exact predictions does not sample p(text | match), unless the tokens are independent given the
visible ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from unmask.diffusion.denoiser import DenoiserWrapper
from unmask.errors import UserError
from unmask.sampling.canvas import Canvas
from unmask.sampling.categorical import Drawn
from unmask.sampling.constraints.token_automaton import Automaton
from unmask.sampling.token_sampling import Draw

# Numbers to process at a time.
_PIECE = 2**24


@dataclass(frozen=True, eq=False)
class Allowed(DenoiserWrapper):
    """A denoiser that predicts only the allowed tokens of each position.

    Args:
        sets: Shape (K, V), bool; the tokens of each of K sets.
        of_position: Shape (B, L), int64; the set of each position.
    """

    sets: Tensor
    of_position: Tensor

    def __call__(
        self, xt: Tensor, t: Tensor, *, at: Tensor | None = None, valid: Tensor | None = None
    ) -> Tensor:
        """Return logits that are -inf for tokens that are not allowed; see ``Denoiser``."""
        logits = self.inner(xt, t, at=at, valid=valid)
        which = self.of_position if at is None else self.of_position[at]
        return logits.masked_fill_(~self.sets[which], -torch.inf)


@dataclass(frozen=True, eq=False)
class _Blanks:
    """Blanks with one automaton: rows (R, 1), columns (R, n), and where a column is inside."""

    automaton: Automaton
    row: Tensor
    column: Tensor
    inside: Tensor


class Matching:
    """Joint draws for blanks that have to match regular expressions.

    A blank is a run of masks of the start canvas. Its tokens have to match as a whole; in a blank
    at the end of a row, an end symbol may follow the match, and then any tokens.

    Args:
        canvas: The start.
        automata: One for each blank of a row from left to right, or one for all of them.
        end: The end symbol, None if there is none.

    Raises:
        UserError: If the number of automata is not that of the blanks of a row.
    """

    def __init__(self, canvas: Canvas, automata: Sequence[Automaton], end: int | None) -> None:
        places: dict[tuple[int, bool], list[tuple[int, int, int]]] = {}
        for row, length in enumerate(canvas.valid.sum(1).tolist()):
            runs = _runs(canvas.masked[row].tolist())
            if len(automata) not in (1, len(runs)):
                raise UserError(
                    f"regular expressions and blanks differ in number, {len(automata)} and "
                    f"{len(runs)}; give one for each, or one for all (blanks that touch are one)"
                )
            for blank, (start, stop) in enumerate(runs):
                which = blank if len(automata) > 1 else 0
                places.setdefault((which, stop == length), []).append((row, start, stop))
        self._groups = []
        for (which, last), where in places.items():
            automaton = automata[which]
            automaton = automaton.up_to(end) if last and end is not None else automaton
            self._groups.append(_laid_out(automaton, where, canvas.ids.device))

    def possible(self, sets: Tensor, of_position: Tensor) -> Tensor:
        """Return the rows that can match at all, shape (B,), bool.

        Args:
            sets: Shape (K, V), bool; the tokens of each of K sets.
            of_position: Shape (B, L), int64; the set of each position.
        """
        result = torch.ones(len(of_position), dtype=torch.bool, device=of_position.device)
        logits = torch.where(sets, 0.0, -torch.inf)
        for blanks in self._groups:
            weights = blanks.automaton.weigh(logits, 1.0, hard=True)
            weights = weights[of_position[blanks.row, blanks.column]]
            after = blanks.automaton.backward(weights, blanks.inside, hard=True)
            result[blanks.row[after[0, :, 1].isneginf(), 0]] = False
        return result

    def queried(self, canvas: Canvas, candidates: Tensor) -> Tensor:
        """Return the positions to query, (B, L), bool: candidates and the masks of their rows."""
        return candidates | (canvas.masked & candidates.any(1, keepdim=True))

    def draw(
        self, draw: Draw, logits: Tensor, queried: Tensor, wanted: Tensor, ids: Tensor, u: Tensor
    ) -> Drawn:
        """Draw tokens jointly, so that they match together with the tokens that are not drawn.

        From left to right, each from its prediction conditioned on the tokens before it and on a
        match of the rest; temperature and filters act on that. Greedy takes the most likely
        matching text.

        Args:
            draw: How to choose a token.
            logits: Shape (N, V); logits at ``queried``.
            queried: Shape (B, L), bool; the positions to draw. The others keep their tokens.
            wanted: Shape (B, L), bool; the positions to return, a subset of ``queried``.
            ids: Shape (B, L), int64; the canvas.
            u: Shape (B, L), float64 in (0, 1).

        Returns:
            The wanted tokens, and the probability of each conditioned on a match, at the draw's
            temperature and before its filters.

        Raises:
            UserError: If no text that the network allows matches.
        """
        # An id outside the logits, such as [MASK], only occurs where it is not read.
        ids = ids.clamp_max(logits.shape[1] - 1)
        tokens, chance = ids.clone(), torch.zeros_like(u)
        # The row of each position in the logits.
        place = (queried.flatten().cumsum(0) - 1).clamp_min(0).view_as(ids)
        for blanks in self._groups:
            mine = wanted[blanks.row, blanks.column] & blanks.inside
            active = mine.any(1).nonzero()[:, 0]
            if not len(active):
                continue
            weighed = _Weighed.by(blanks.automaton, logits, draw)
            numbers = mine.shape[1] * max(blanks.automaton.next.shape)
            for some in active.split(max(1, _PIECE // numbers)):
                at = (blanks.row[some].expand_as(mine[some]), blanks.column[some])
                inside = blanks.inside[some]
                here = _Here(inside, queried[at] & inside, mine[some], place[at], ids[at], u[at])
                new, probability = _drawn(blanks.automaton, draw, logits, weighed, here)
                at = (at[0][mine[some]], at[1][mine[some]])
                tokens[at], chance[at] = new[mine[some]], probability[mine[some]]
        return Drawn(tokens[wanted], chance[wanted].float())


class _Here(NamedTuple):
    """The positions of some blanks, each (R, n)."""

    inside: Tensor  # bool; False after the end of a shorter blank
    open: Tensor  # bool; to be drawn
    wanted: Tensor  # bool; a subset of open
    place: Tensor  # int64; its row in the logits
    ids: Tensor  # int64; the token if it is not open
    u: Tensor  # float64


class _Weighed(NamedTuple):
    """Log-weights of classes, (N, C), float64: sums at a temperature, and maxima if greedy."""

    temperature: float
    soft: Tensor
    best: Tensor | None

    @classmethod
    def by(cls, automaton: Automaton, logits: Tensor, draw: Draw) -> _Weighed:
        greedy = draw.greedy or draw.temperature == 0
        temperature = draw.temperature or 1.0
        best = automaton.weigh(logits, 1.0, hard=True) if greedy else None
        return cls(temperature, automaton.weigh(logits, temperature, hard=False), best)


def _drawn(
    automaton: Automaton, draw: Draw, logits: Tensor, weighed: _Weighed, here: _Here
) -> tuple[Tensor, Tensor]:
    """Return tokens where wanted, and the probability of each given a match; both (R, n)."""
    soft = _weights(automaton, weighed.soft, here)
    after = automaton.backward(soft, here.inside, hard=False)
    if after[0, :, 1].isneginf().any():
        raise UserError("nothing that the network allows here matches the regular expression")
    weights, worth, scale = soft, after, weighed.temperature
    if weighed.best is not None:
        weights, scale = _weights(automaton, weighed.best, here), 1.0
        worth = automaton.backward(weights, here.inside, hard=True)
    pick = Draw(greedy=weighed.best is not None)
    tokens, kind_of = here.ids.clone(), automaton.of_token[automaton.read]
    state = torch.ones_like(tokens[:, 0])
    for i in range(tokens.shape[1]):
        ahead = worth[i + 1].gather(1, automaton.next[state])  # (R, C)
        ahead = ahead - ahead.amax(1, keepdim=True)
        kind = torch.zeros_like(state)
        # Positions outside ``wanted`` only need an automaton class.
        rows = (here.inside[:, i] & ~here.wanted[:, i]).nonzero()[:, 0]
        kind[rows] = pick((weights[:, i] + ahead)[rows], here.u[rows, i]).tokens
        rows = here.wanted[:, i].nonzero()[:, 0]
        if len(rows):
            prediction = logits[here.place[rows, i]][:, automaton.read]
            # The draw divides by the temperature, at which ``ahead`` is summed already.
            prediction = prediction + (ahead[rows] * scale).to(prediction.dtype)[:, kind_of]
            tokens[rows, i] = automaton.read[draw(prediction, here.u[rows, i]).tokens]
            kind[rows] = automaton.of_token[tokens[rows, i]]
        state = torch.where(here.inside[:, i], automaton.next[state, kind], state)
    # p(token at i | match) = sum over paths through the token / sum over all paths.
    before = automaton.forward(soft, here.inside)[:-1].transpose(0, 1)
    target = automaton.next.T[automaton.of_token[tokens]]
    ways = (before + after[1:].transpose(0, 1).gather(2, target)).logsumexp(2)
    own = logits[here.place, tokens].double() / weighed.temperature
    return tokens, (own + ways - after[0, :, 1, None]).exp()


def _weights(automaton: Automaton, weighed: Tensor, here: _Here) -> Tensor:
    """Return the log-weights of classes, (R, n, C); a fixed token has all the weight."""
    predicted = weighed[here.place]
    fixed = torch.full_like(predicted, -torch.inf)
    fixed.scatter_(2, automaton.of_token[here.ids][..., None], 0.0)
    return torch.where(here.open[..., None], predicted, fixed)


def _runs(masked: list[bool]) -> list[tuple[int, int]]:
    """Return the start and the stop of each run of masks."""
    edges = [i for i, (a, b) in enumerate(pairwise([False, *masked, False])) if a != b]
    return list(zip(edges[::2], edges[1::2], strict=True))


def _laid_out(
    automaton: Automaton, where: Sequence[tuple[int, int, int]], device: torch.device
) -> _Blanks:
    row, start, stop = torch.tensor(where, device=device).T[..., None]
    step = torch.arange(int((stop - start).max()), device=device)
    inside = step < stop - start
    automaton.check(inside)
    return _Blanks(automaton.to(device), row, torch.where(inside, start + step, start), inside)
