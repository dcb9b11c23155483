r"""What may be written: sets of tokens, position by position, and regular expressions.

    Allowed    a denoiser that owns a denoiser; a position has its own set of possible tokens
    Matching   how to draw where all that is written has to match a regular expression

A match ties positions to each other, so tokens that are written in one step have to be drawn
together. They are drawn from the product of the guesses at all masks, given that it matches:

    q(x) ~ [x matches] * product over masks i of p_i(x_i),        x = visible tokens elsewhere

of which a policy may then write any part: what is visible can always be completed. The guesses are
treated as independent, as in every parallel step. So even one token a step, with exact guesses,
does not draw from p(text | match), except where the tokens are independent given what is visible.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from unmask.automaton import Automaton
from unmask.canvas import Canvas
from unmask.denoiser import Denoiser
from unmask.draw import Draw, Drawn
from unmask.errors import UserError


@dataclass(frozen=True, eq=False)
class Allowed:
    """A denoiser that guesses only what is allowed at a position.

    Args:
        inner: The denoiser.
        sets: Shape (K, V), bool; which tokens each of K sets holds.
        of_position: Shape (B, L), int64; the set of each position.
    """

    inner: Denoiser
    sets: Tensor
    of_position: Tensor

    @property
    def vocab_size(self) -> int:
        return self.inner.vocab_size

    @property
    def data_ids(self) -> Tensor:
        return self.inner.data_ids

    def __call__(
        self, xt: Tensor, t: Tensor, *, at: Tensor | None = None, valid: Tensor | None = None
    ) -> Tensor:
        """Return the guesses with -inf for what is not allowed; see ``Denoiser``."""
        logits = self.inner(xt, t, at=at, valid=valid)
        which = self.of_position if at is None else self.of_position[at]
        return logits.masked_fill(~self.sets[which], -torch.inf)


@dataclass(frozen=True, eq=False)
class _Blanks:
    """Blanks that one automaton reads: rows (R, 1), columns (R, n), and which of these are real."""

    automaton: Automaton
    row: Tensor
    column: Tensor
    inside: Tensor

    def of(self, which: Tensor) -> _Blanks:
        """Return some of the blanks, chosen by a boolean for each."""
        return _Blanks(self.automaton, self.row[which], self.column[which], self.inside[which])


class Matching:
    """A draw for blanks that have to match.

    A blank is a run of masks of the canvas that is started from. It is read from its first to its
    last token; in a blank that ends its row, an end symbol may follow the match, and then anything.

    Args:
        canvas: What will be written on.
        automata: One for every blank of a row from left to right, or one for all of them.
        end: The end symbol, None if there is none.

    Raises:
        UserError: If a row has another number of blanks.
    """

    def __init__(self, canvas: Canvas, automata: Sequence[Automaton], end: int | None) -> None:
        places: dict[tuple[int, bool], list[tuple[int, int, int]]] = {}
        for row, length in enumerate(canvas.valid.sum(1).tolist()):
            runs = _runs(canvas.masked[row].tolist())
            if len(automata) not in (1, len(runs)):
                raise UserError(
                    f"there are {len(automata)} regular expressions for {len(runs)} blanks; give "
                    "one for each, or one for all (blanks that touch count as one)"
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
        """Return which rows can be written at all, shape (B,), bool.

        Args:
            sets: Shape (K, V), bool; the tokens that each of K sets holds.
            of_position: Shape (B, L), int64; the set that a position draws from.
        """
        result = torch.ones(len(of_position), dtype=torch.bool, device=of_position.device)
        logits = torch.where(sets, 0.0, -torch.inf)
        for blanks in self._groups:
            weights = blanks.automaton.weigh(logits, 1.0, hard=True)
            weights = weights[of_position[blanks.row, blanks.column]]
            after = blanks.automaton.backward(weights, blanks.inside, hard=True)
            result[blanks.row[after[0, :, 1].isneginf(), 0]] = False
        return result

    def asked(self, canvas: Canvas, wanted: Tensor) -> Tensor:
        """Return where a guess is needed to write at ``wanted``, (B, L), bool: at all masks too."""
        return wanted | (canvas.masked & wanted.any(1, keepdim=True))

    def draw(
        self, draw: Draw, logits: Tensor, asked: Tensor, wanted: Tensor, ids: Tensor, u: Tensor
    ) -> Drawn:
        """Draw tokens together, so that they match with each other and with what is not drawn.

        Left to right, each from its guess given what was drawn before it and that the rest can
        match; temperature and filters act on that. Greedy takes the likeliest matching text.

        Args:
            draw: How to pick a token.
            logits: Shape (N, V); guesses at ``asked``.
            asked: Shape (B, L), bool; what is to be drawn. The rest is taken as it stands.
            wanted: Shape (B, L), bool; where tokens are wanted, a part of ``asked``.
            ids: Shape (B, L), int64; the canvas.
            u: Shape (B, L), float64 in (0, 1).

        Returns:
            The wanted tokens, and the probability of each given that the text matches, under the
            guesses at the draw's temperature and before its filters.

        Raises:
            UserError: If the network rules out everything that matches.
        """
        tokens, chance = ids.clone(), torch.zeros_like(u)
        # Where the guess about a position stands among the logits.
        place = (asked.flatten().cumsum(0) - 1).clamp_min(0).view_as(ids)
        for every in self._groups:
            blanks = every.of((wanted[every.row, every.column] & every.inside).any(1))
            at = (blanks.row, blanks.column)
            guesses = _Guesses(logits, place[at], asked[at] & blanks.inside)
            mine = wanted[at] & blanks.inside
            new, probability = _drawn(blanks, draw, guesses, mine, ids[at], u[at])
            at = (blanks.row.expand_as(mine)[mine], blanks.column[mine])
            tokens[at], chance[at] = new[mine], probability[mine]
        return Drawn(tokens[wanted], chance[wanted].float())


class _Guesses(NamedTuple):
    """Guesses about the positions of some blanks: ``logits`` (N, V), and which is about which."""

    logits: Tensor
    place: Tensor  # (R, n), int64
    open: Tensor  # (R, n), bool; False where a token stands

    def weights(self, automaton: Automaton, ids: Tensor, temperature: float, hard: bool) -> Tensor:
        """Return the log-weights of classes, (R, n, C), float64; what stands has all the weight."""
        guessed = automaton.weigh(self.logits, temperature, hard)[self.place]
        stands = torch.full_like(guessed, -torch.inf)
        stands.scatter_(2, automaton.of_token[ids][..., None], 0.0)
        return torch.where(self.open[..., None], guessed, stands)


def _drawn(
    blanks: _Blanks, draw: Draw, guesses: _Guesses, wanted: Tensor, ids: Tensor, u: Tensor
) -> tuple[Tensor, Tensor]:
    """Return tokens where wanted, and the probability of each given a match; all shapes (R, n)."""
    automaton, inside = blanks.automaton, blanks.inside
    hard = draw.greedy or draw.temperature == 0
    heat = draw.temperature or 1.0
    soft = guesses.weights(automaton, ids, heat, hard=False)
    after = automaton.backward(soft, inside, hard=False)
    if after[0, :, 1].isneginf().any():
        raise UserError("nothing that the network allows here matches the regular expression")
    weights, worth, scale = soft, after, heat
    if hard:
        weights, scale = guesses.weights(automaton, ids, 1.0, hard=True), 1.0
        worth = automaton.backward(weights, inside, hard=True)
    pick = Draw(greedy=hard)
    tokens, kind_of = ids.clone(), automaton.of_token[automaton.read]
    state = torch.ones(len(ids), dtype=torch.int64, device=ids.device)
    for i in range(inside.shape[1]):
        ahead = worth[i + 1].gather(1, automaton.next[state])  # (R, C)
        ahead = ahead - ahead.amax(1, keepdim=True)
        # Where no token is wanted its class will do.
        rows = (inside[:, i] & ~wanted[:, i]).nonzero()[:, 0]
        kind = torch.zeros_like(state)
        kind[rows] = pick((weights[:, i] + ahead)[rows], u[rows, i]).tokens
        rows = wanted[:, i].nonzero()[:, 0]
        if len(rows):
            logits = guesses.logits[guesses.place[rows, i]][:, automaton.read]
            # The draw divides by its temperature, but what follows is summed at it already.
            logits = logits + (ahead[rows] * scale).to(logits.dtype)[:, kind_of]
            tokens[rows, i] = automaton.read[draw(logits, u[rows, i]).tokens]
            kind[rows] = automaton.of_token[tokens[rows, i]]
        state = torch.where(inside[:, i], automaton.next[state, kind], state)
    # p(token at i | match): any way to get there, the token, any way to go on, of all ways.
    before = automaton.forward(soft, inside)[:-1].transpose(0, 1)
    target = automaton.next.T[automaton.of_token[tokens]]
    ways = before + after[1:].transpose(0, 1).gather(2, target)
    own = guesses.logits[guesses.place, tokens].double() / heat
    return tokens, (own + ways.logsumexp(2) - after[0, :, 1, None]).exp()


def _runs(masked: list[bool]) -> list[tuple[int, int]]:
    """Return where each run of masks starts and stops."""
    edges = [i for i, (a, b) in enumerate(pairwise([False, *masked, False])) if a != b]
    return list(zip(edges[::2], edges[1::2], strict=True))


def _laid_out(
    automaton: Automaton, where: Sequence[tuple[int, int, int]], device: torch.device
) -> _Blanks:
    row, start, stop = torch.tensor(where, device=device).T[..., None]
    step = torch.arange(int((stop - start).max()), device=device)
    inside = step < stop - start
    return _Blanks(automaton.to(device), row, torch.where(inside, start + step, start), inside)
