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

from unmask.diffusion.denoiser import Around
from unmask.errors import UserError
from unmask.sampling.canvas import Canvas
from unmask.sampling.categorical import Drawn
from unmask.sampling.constraints.token_automaton import Automaton
from unmask.sampling.token_sampling import Draw

# Numbers that are worked on at a time.
_PIECE = 2**24


@dataclass(frozen=True, eq=False)
class Allowed(Around):
    """A denoiser that guesses only what is allowed at a position.

    Args:
        sets: Shape (K, V), bool; which tokens each of K sets holds.
        of_position: Shape (B, L), int64; the set of each position.
    """

    sets: Tensor
    of_position: Tensor

    def __call__(
        self, xt: Tensor, t: Tensor, *, at: Tensor | None = None, valid: Tensor | None = None
    ) -> Tensor:
        """Return the guesses with -inf for what is not allowed; see ``Denoiser``."""
        logits = self.inner(xt, t, at=at, valid=valid)
        which = self.of_position if at is None else self.of_position[at]
        return logits.masked_fill_(~self.sets[which], -torch.inf)


@dataclass(frozen=True, eq=False)
class _Blanks:
    """Blanks that one automaton reads: rows (R, 1), columns (R, n), and which of these are real."""

    automaton: Automaton
    row: Tensor
    column: Tensor
    inside: Tensor


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
        # An id without a column, as [MASK] may be one, stands only where it is not read.
        ids = ids.clamp_max(logits.shape[1] - 1)
        tokens, chance = ids.clone(), torch.zeros_like(u)
        # Where the guess about a position stands among the logits.
        place = (asked.flatten().cumsum(0) - 1).clamp_min(0).view_as(ids)
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
                here = _Here(inside, asked[at] & inside, mine[some], place[at], ids[at], u[at])
                new, probability = _drawn(blanks.automaton, draw, logits, weighed, here)
                at = (at[0][mine[some]], at[1][mine[some]])
                tokens[at], chance[at] = new[mine[some]], probability[mine[some]]
        return Drawn(tokens[wanted], chance[wanted].float())


class _Here(NamedTuple):
    """The positions of some blanks, each (R, n)."""

    inside: Tensor  # bool; False behind the end of a shorter blank
    open: Tensor  # bool; to be drawn
    wanted: Tensor  # bool; a part of open
    place: Tensor  # int64; which of the N guesses is about it
    ids: Tensor  # int64; what stands where it is not open
    u: Tensor  # float64


class _Weighed(NamedTuple):
    """Log-weights of classes, (N, C), float64: sums at a temperature, and largest if greedy."""

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
        # Where no token is wanted its class will do.
        rows = (here.inside[:, i] & ~here.wanted[:, i]).nonzero()[:, 0]
        kind[rows] = pick((weights[:, i] + ahead)[rows], here.u[rows, i]).tokens
        rows = here.wanted[:, i].nonzero()[:, 0]
        if len(rows):
            prediction = logits[here.place[rows, i]][:, automaton.read]
            # The draw divides by its temperature, and what follows is summed at it already.
            prediction = prediction + (ahead[rows] * scale).to(prediction.dtype)[:, kind_of]
            tokens[rows, i] = automaton.read[draw(prediction, here.u[rows, i]).tokens]
            kind[rows] = automaton.of_token[tokens[rows, i]]
        state = torch.where(here.inside[:, i], automaton.next[state, kind], state)
    # p(token at i | match): any way to get there, the token, any way to go on, of all ways.
    before = automaton.forward(soft, here.inside)[:-1].transpose(0, 1)
    target = automaton.next.T[automaton.of_token[tokens]]
    ways = (before + after[1:].transpose(0, 1).gather(2, target)).logsumexp(2)
    own = logits[here.place, tokens].double() / weighed.temperature
    return tokens, (own + ways - after[0, :, 1, None]).exp()


def _weights(automaton: Automaton, weighed: Tensor, here: _Here) -> Tensor:
    """Return the log-weights of classes, (R, n, C); what stands has all the weight."""
    guessed = weighed[here.place]
    stands = torch.full_like(guessed, -torch.inf)
    stands.scatter_(2, automaton.of_token[here.ids][..., None], 0.0)
    return torch.where(here.open[..., None], guessed, stands)


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
    automaton.check(inside)
    return _Blanks(automaton.to(device), row, torch.where(inside, start + step, start), inside)
