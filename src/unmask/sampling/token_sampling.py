r"""Which token: greedy, or at random after temperature, top-k, top-p and min-p.

A random token is found by inverting the cumulative distribution at one uniform number u:

    v = min { v : p_0 + ... + p_v > u }

in two levels: blocks of 128 tokens, then the tokens of one block, both accumulated in float64. So a
token of probability 1e-12 is drawn as often as it should be, and no float64 copy of the vocabulary
is kept. (A race of float32 exponentials, the usual way, never draws a token below 6e-8 and favours
frequent ones: a hidden temperature.) Filters act on p(x_0 | x_t) only, never on "stay masked".

Their order: the temperature first, then top-k, and what it leaves is renormalised; of that, a token
is kept if top-p keeps it and min-p keeps it. (Min-p compares with the likeliest token, which top-p
never drops, so between these two the order does not matter.) The field has two conventions for
top-p, with p_1 >= p_2 >= ... the likeliest first:

    "keep"    token i stays if p_1 + ... + p_(i-1) < p: the token that crosses p stays
    "drop"    token i stays if p_1 + ... + p_i <= p, or i = 1: the token that crosses p goes

They differ by one token, unless the sum hits p exactly.

References: Zheng et al. 2024, "Masked Diffusion Models are Secretly Time-Agnostic Masked Models and
Exploit Inaccurate Categorical Sampling", arXiv:2409.02908, Section 5 (float32 noise); Holtzman et
al. 2020, "The Curious Case of Neural Text Degeneration", arXiv:1904.09751 (top-p; "keep", as in
transformers and MD4); Sahoo et al. 2024, arXiv:2406.07524, and Wang et al. 2025, arXiv:2503.00307
("drop", in the code of MDLM and ReMDM); Nguyen et al. 2024, "Turning Up the Heat: Min-p Sampling",
arXiv:2407.01082.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from unmask.errors import UserError, did_you_mean

CROSSINGS = ("keep", "drop")
_BLOCK = 128
_ONE = 0x3F800000  # The bits of 1.0, the largest probability.
_HOTTEST = 1e6  # All tokens are as likely as can be; float32 ends at 1e38.
_BELOW_ONE = 1 - 2.0**-52  # This share of a float64 is less than all of it, rounded too.
# Numbers that are worked on at a time: what fits in a processor's cache, or fills a GPU.
_PIECE = {"cpu": 2**20}
_LARGE_PIECE = 2**26
# Tokens of a group of which only the largest is looked at first.
_GROUP = 8


def rows_at_a_time(logits: Tensor, copies: float = 1.0) -> int:
    """Return how many rows of logits (N, V) to copy at a time, so that the copies stay small."""
    # A small vocabulary is filled up, and counted in as many bins.
    width = max(logits.shape[1], 2 * _BLOCK) * copies
    # Pieces alike: a few rows left over would cost as many operations as all others.
    pieces = round(len(logits) * width / _PIECE.get(logits.device.type, _LARGE_PIECE))
    return -(-max(1, len(logits)) // max(1, pieces))


class Drawn(NamedTuple):
    """Tokens (N,), int64, and the probability (N,), float32, of each under the filtered guess."""

    tokens: Tensor
    probability: Tensor


@dataclass(frozen=True)
class Draw:
    """How a token is picked from logits.

    Args:
        temperature: Logits are divided by it, at most 1e6; 0 always takes the most likely token,
            and reports its probability at temperature 1.
        top_k: Keep only the k most likely tokens; None keeps all.
        top_p: Keep the most likely tokens that together hold p; applied after top-k and
            renormalisation; 1 keeps all.
        greedy: Take the most likely token, but report its probability at ``temperature``.
        min_p: Keep the tokens at least this many times as likely as the most likely one; 0 keeps
            all.
        top_p_crossing: ``keep`` or ``drop``, what top-p does with the token that crosses p.

    Raises:
        UserError: If a number is out of range, or something is set that would have no effect.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    greedy: bool = False
    min_p: float = 0.0
    top_p_crossing: str = "keep"

    def __post_init__(self) -> None:
        if not 0 <= self.temperature <= _HOTTEST:
            raise UserError(
                f"temperature must be a number from 0 to {_HOTTEST:,.0f}, not {self.temperature}"
            )
        if self.top_k is not None and self.top_k < 1:
            raise UserError(f"top-k must be at least 1, not {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top-p must be above 0 and at most 1, not {self.top_p}")
        if not 0 <= self.min_p <= 1:
            raise UserError(f"min-p must be from 0 to 1, not {self.min_p}")
        if self.top_p_crossing not in CROSSINGS:
            hint = did_you_mean(self.top_p_crossing, CROSSINGS)
            raise UserError(f"top-p can keep or drop the token that crosses p{hint}")
        if (self.greedy or self.temperature == 0) and self.filters:
            raise UserError(
                "the most likely token is always taken here, so top-k, top-p and min-p would have "
                "no effect; leave them out, or choose a sampler that draws and a temperature "
                "above 0"
            )
        if self.top_p_crossing == "drop" and self.top_p == 1:
            raise UserError("there is no token that crosses p without top-p; set it below 1")

    @property
    def filters(self) -> bool:
        """Whether some tokens are kept out."""
        return self.top_k is not None or self.top_p < 1 or self.min_p > 0

    def at(self, step: int) -> Draw:
        """Return how to draw in a step: always the same way; see ``BurnIn`` for another."""
        return self

    def __call__(self, logits: Tensor, u: Tensor) -> Drawn:
        """Pick one token per row.

        Args:
            logits: Shape (N, V), floating point; -inf for what must not be drawn.
            u: Shape (N,), float64 in (0, 1).

        Raises:
            UserError: If a row has NaN or infinity, or is -inf everywhere.
        """
        if len(logits) == 0:
            return Drawn(u.long(), u.float())
        # A few rows at a time, so that the probabilities never exist for the whole batch at once.
        rows = rows_at_a_time(logits, self._copies(logits.shape[1]))
        pieces = zip(logits.split(rows), u.clamp_max(_BELOW_ONE).split(rows), strict=True)
        parts = [self._pick(piece, rng) for piece, rng in pieces]
        return parts[0] if len(parts) == 1 else Drawn(*map(torch.cat, zip(*parts, strict=True)))

    def _copies(self, size: int) -> float:
        """Return how many times logits (N, size) are copied on the way, roughly."""
        if self.top_k is not None:
            # The maxima; or all, and where they are.
            return 1 / _GROUP if _has_groups(size, min(self.top_k, size)) else 3.0
        return 2.0 if self.top_p < 1 else 1.0

    def _pick(self, logits: Tensor, u: Tensor) -> Drawn:
        if self.greedy or self.temperature == 0:
            return _most_likely(logits.float(), self.temperature)
        if self.top_k is not None:
            return self._from_best(logits, u, self.top_k)
        weights = _weights(_cooled(logits.float(), self.temperature))
        check_usable(weights[:, 0], logits)
        if self.top_p < 1:
            weights = _nucleus(weights, self.top_p, self.top_p_crossing)
        if self.min_p > 0:
            weights = weights.masked_fill_(
                weights < self.min_p * weights.amax(1, keepdim=True), 0.0
            )
        return _from_all(weights, u)

    def _from_best(self, logits: Tensor, u: Tensor, top_k: int) -> Drawn:
        count = min(top_k, logits.shape[1])
        tokens = _with_best(logits, count)
        numbers = logits.gather(1, tokens).float()
        best = _descending(numbers)[:, :count]
        check_usable(best[:, 0], logits)
        cooled = _cooled(best, self.temperature)
        weights = torch.exp((cooled - cooled[:, :1]).double())
        reached = weights.cumsum(1)
        past = _past(weights, reached, self.top_p * reached[:, -1:], self.top_p_crossing)
        past[:, 0] = False
        if self.min_p > 0:
            past |= weights < self.min_p
        # What is kept comes before what is dropped, so its sum is the largest that is reached.
        total = reached.masked_fill(past, 0.0).amax(1, keepdim=True)
        rank = torch.searchsorted(reached, u[:, None] * total, right=True)
        chosen = weights.gather(1, rank) / total
        place = _at_rank(numbers, best, rank)
        return Drawn(tokens.gather(1, place)[:, 0], chosen[:, 0].float())


@dataclass(frozen=True)
class BurnIn:
    """Another way to draw for the first steps of a chain.

    Args:
        steps: How many.
        first: How to draw in these.
        then: How to draw afterwards.

    Reference: Wang and Cho 2019, arXiv:1902.04094.
    """

    steps: int
    first: Draw
    then: Draw

    def at(self, step: int) -> Draw:
        """Return how to draw in a step."""
        return self.first if step < self.steps else self.then


def _most_likely(logits: Tensor, temperature: float) -> Drawn:
    # At temperature 0 every winner would report certainty, which tells a policy nothing.
    cooled = _cooled(logits, temperature or 1)
    best, tokens = cooled.max(1)
    check_usable(best, logits)
    return Drawn(tokens, cooled.softmax(1).gather(1, tokens[:, None])[:, 0])


def check_usable(seen: Tensor, logits: Tensor) -> None:
    """Raise a UserError for logits (N, V) of which nothing can be drawn.

    Args:
        seen: Shape (N,); what is not finite if a row has NaN or infinity or nothing but -inf, such
            as its maximum or any of its probabilities.
        logits: What the network said.
    """
    # A sum is finite if all its numbers are, and asks less of a device than each of them.
    if math.isfinite(seen.sum(dtype=torch.float64)):
        return
    best = logits.amax(1).float()
    if (torch.isnan(best) | torch.isposinf(best)).any():
        raise UserError("the network answered with NaN or infinity; the checkpoint is damaged")
    raise UserError("nothing is left to write in one place; ban or require less")


def _with_best(logits: Tensor, count: int) -> Tensor:
    """Return tokens of each row (N, V), the most likely and maybe others, from the left.

    Each of the most likely is in one of as many groups, those with the largest maxima. The tokens
    of a group stand far apart: maxima over a long stride are the fast ones.

    Returns:
        Shape (N, n), int64, n at least ``count``.
    """
    if not _has_groups(logits.shape[1], count):
        return _largest(logits, count)
    width = logits.shape[1] // _GROUP
    groups = logits[:, : _GROUP * width].unflatten(1, (_GROUP, width))
    group = _largest(groups.amax(1), count)[:, None]
    step = torch.arange(0, _GROUP * width, width, device=logits.device)[:, None]
    tokens = (group + step).flatten(1)
    if logits.shape[1] == _GROUP * width:
        return tokens
    rest = torch.arange(_GROUP * width, logits.shape[1], device=logits.device)
    return torch.cat([tokens, rest.expand(len(logits), -1)], dim=1)


def _has_groups(size: int, count: int) -> bool:
    """Return whether the most likely of so many tokens are looked for in groups."""
    return size // _GROUP >= _GROUP * count


def _largest(numbers: Tensor, count: int) -> Tensor:
    """Return where the largest of (N, K) are, from the left, (N, count); NaN is the largest."""
    if numbers.device.type != "cpu":
        return numbers.topk(count, dim=1).indices.sort(dim=1).values
    # NumPy has vector instructions for it: twice as fast as torch.
    order = np.argpartition(numbers.detach().float().numpy(), -count, axis=1)
    return torch.from_numpy(np.sort(order[:, -count:], axis=1))


def _descending(numbers: Tensor) -> Tensor:
    """Return each row in order, the largest first; NaN is the largest."""
    if numbers.device.type != "cpu":
        return numbers.sort(dim=1, descending=True).values
    # Twenty times as fast as torch, for the same reason.
    return torch.from_numpy(np.sort(numbers.detach().numpy(), axis=1)).flip(1)


def _at_rank(numbers: Tensor, ordered: Tensor, rank: Tensor) -> Tensor:
    """Return where in (N, K) the number of a rank (N, 1) is; of equal ones the first come first.

    Args:
        numbers: Shape (N, K).
        ordered: The largest of them, the largest first, shape (N, n).
        rank: From 0 to n - 1, int64.
    """
    value = ordered.gather(1, rank)
    nth = rank - (ordered > value).sum(1, keepdim=True)
    return torch.searchsorted((numbers == value).cumsum(1), nth + 1)


def _cooled(logits: Tensor, temperature: float) -> Tensor:
    if temperature == 1:
        return logits
    # Relative to the best token nothing overflows; below 1e-30 no other token is left anyway.
    return (logits - logits.amax(1, keepdim=True)) / max(temperature, 1e-30)


def _weights(logits: Tensor) -> Tensor:
    """Return probabilities, shape (N, V'), float32; zeros up to a whole number of blocks."""
    if lacking := -logits.shape[1] % _BLOCK:
        logits = pad(logits, (0, lacking), value=-math.inf)
    return logits.softmax(1)


def _past(ordered: Tensor, reached: Tensor, goal: Tensor, crossing: str) -> Tensor:
    """Return which weights top-p drops, (N, K), bool, but for the likeliest token of all.

    Args:
        ordered: Weights, the largest first, shape (N, K).
        reached: The mass of each and of all larger ones, shape (N, K), float64.
        goal: The mass to keep, shape (N, 1), float64.
        crossing: ``keep`` or ``drop``.
    """
    return reached > goal if crossing == "drop" else reached - ordered >= goal


def _nucleus(weights: Tensor, top_p: float, crossing: str) -> Tensor:
    """Zero all weights but the largest that together hold ``top_p`` of the mass, in place.

    The upper bits of a float are the bin of a histogram, for the bits of positive floats are
    ordered as the floats are. Bins are kept from the top; only the tokens of the one bin in which
    the mass crosses ``top_p`` are sorted, which are few unless nearly all are equally likely.
    """
    low, shift = _scale(weights.shape[1], top_p)
    level = weights.view(torch.int32) - low  # (N, V')
    level.bitwise_right_shift_(shift).clamp_min_(0)
    levels = (_ONE - low >> shift) // _BLOCK * _BLOCK + _BLOCK
    mass = weights.new_zeros(len(weights), levels, dtype=torch.float64)
    mass.scatter_add_(1, level.long(), weights.double())
    edge, before, goal = _crossed(mass, top_p)
    row, token = _equal(level, edge)
    # The tokens of that bin, side by side: (N, most tokens in one).
    count = torch.bincount(row, minlength=len(weights))
    place = torch.arange(len(row), device=row.device) - (count.cumsum(0) - count)[row]
    tokens = weights.new_zeros(len(weights), int(count.max()))
    tokens[row, place] = weights[row, token]
    # Of equal weights the first counts as larger, so that a row does not depend on its neighbours.
    ordered, order = tokens.sort(dim=1, descending=True, stable=True)
    reached = before + ordered.cumsum(1, dtype=torch.float64)
    past = _past(ordered, reached, goal, crossing)
    past[:, :1] &= before > 0
    tokens.scatter_(1, order, ordered.masked_fill(past, 0.0))
    # In the dtype of the weights a comparison is several times as fast as to a boolean.
    above = ((edge + 1 << shift) + low).view(torch.float32)
    weights.mul_(torch.ge(weights, above, out=level.view(torch.float32)))
    weights[row, token] = tokens[row, place]
    return weights


def _scale(width: int, top_p: float) -> tuple[int, int]:
    """Return the bits at which the lowest bin of a histogram begins, and the shift to its bins.

    No matter how many they are, weights below (1 - top_p) / V' hold too little to matter: below
    half of that all are one bin. Above it there are about a third as many bins as tokens, at most.
    """
    least = int(np.float32((1 - top_p) / width / 2).view(np.int32))
    shift = min(22, max(0, (3 * (_ONE - least) // width).bit_length()))
    return least >> shift << shift, shift


def _crossed(mass: Tensor, share: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return the last index from which on a row holds more than a share of its mass.

    Args:
        mass: Shape (N, K), float64, K a whole number of blocks.
        share: Below 1.

    Returns:
        Indices, int32, the mass of those above, and the mass that the share amounts to, float64;
        each (N, 1).
    """
    blocks = mass.view(len(mass), -1, _BLOCK)
    coarse = blocks.sum(2)
    goal = share * coarse.sum(1, keepdim=True)
    block, before = _first_beyond(coarse.flip(1), goal)
    block = blocks.shape[1] - 1 - block
    inside = blocks.gather(1, block[..., None].expand(-1, -1, _BLOCK))[:, 0]
    place, inner = _first_beyond(inside.flip(1), goal - before)
    return (block * _BLOCK + _BLOCK - 1 - place).int(), before + inner, goal


def _first_beyond(mass: Tensor, goal: Tensor) -> tuple[Tensor, Tensor]:
    reached = mass.cumsum(1)
    # What two roundings make of a goal at the very end still lies within.
    index = torch.searchsorted(reached, goal, right=True).clamp_(max=mass.shape[1] - 1)
    return index, reached.gather(1, index) - mass.gather(1, index)


def _equal(level: Tensor, edge: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows and tokens of a level (N, V') that is its row's edge (N, 1); overwrites it.

    Most runs of 32 tokens hold none, and looking for those that do is the faster way.
    """
    runs = level.eq_(edge).view(-1, 32)
    run = runs.amax(1).nonzero()[:, 0]
    found, place = runs[run].nonzero(as_tuple=True)
    token = run[found] * 32 + place
    return token // level.shape[1], token % level.shape[1]


def _invert(weights: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the first index whose cumulative weight exceeds u of the whole.

    Args:
        weights: Shape (N, K), accumulated in float64.
        u: Shape (N, 1), float64 from 0 to ``_BELOW_ONE``.

    Returns:
        Indices of positive weight, u of the whole, and the cumulative weights, (N, K); else (N, 1).
    """
    reached = weights.cumsum(1, dtype=torch.float64)
    target = u * reached[:, -1:]
    return torch.searchsorted(reached, target, right=True), target, reached


def _from_all(weights: Tensor, u: Tensor) -> Drawn:
    blocks = weights.view(len(weights), -1, _BLOCK)
    # A float32 sum of 128 is off by 1e-7 of itself; within the block everything is float64 again.
    sums = blocks.sum(2)
    block, target, reached = _invert(sums, u[:, None])
    # How far into the block u is, which is a uniform number again.
    lacking = (target - reached.gather(1, block)) / sums.gather(1, block)
    inside = blocks.gather(1, block[..., None].expand(-1, -1, _BLOCK))[:, 0]
    place, _, _ = _invert(inside, lacking.add_(1).clamp_(0, _BELOW_ONE))
    chosen = inside.gather(1, place) / reached[:, -1:]
    return Drawn((block * _BLOCK + place)[:, 0], chosen[:, 0].float())
