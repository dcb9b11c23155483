"""Categorical draws from logits: inverse CDF in float64, exact top-k and top-p without a full sort.

A token is drawn by inverting the cumulative distribution at one uniform number u,

    v = min { v : p_0 + ... + p_v > u },

in two levels: blocks of 128 tokens, then the tokens of one block, both accumulated in float64. So a
token of probability 1e-12 is drawn as often as it should be, and no float64 copy of the vocabulary
is kept. (The usual race of float32 exponentials never draws a token below 6e-8 and favours frequent
tokens: a hidden temperature.)

Reference: Zheng et al. 2024, "Masked Diffusion Models are Secretly Time-Agnostic Masked Models and
Exploit Inaccurate Categorical Sampling", arXiv:2409.02908, Section 5 (float32 noise).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from unmask.errors import UserError

BELOW_ONE = 1 - 2.0**-52
"""The largest share of a float64 mass that stays below all of it, after rounding too."""
_BLOCK = 128
_ONE = 0x3F800000  # The bits of 1.0, the largest probability.
# Numbers to process at a time: what fits in the cache of a CPU, or fills a GPU.
_PIECE = {"cpu": 2**20}
_LARGE_PIECE = 2**26
# Tokens in a group. Top-k looks at the maximum of a group before its tokens.
_GROUP = 8


def rows_at_a_time(logits: Tensor, copies: float = 1.0) -> int:
    """Return how many rows of logits (N, V) to copy at a time, so that the copies stay small."""
    # A small vocabulary is padded to a block, and its histogram has as many bins.
    width = max(logits.shape[1], 2 * _BLOCK) * copies
    # Equal pieces: a small remainder would cost as many operations as a full piece.
    pieces = round(len(logits) * width / _PIECE.get(logits.device.type, _LARGE_PIECE))
    return -(-max(1, len(logits)) // max(1, pieces))


class Drawn(NamedTuple):
    """Tokens (N,), int64, and their probabilities (N,), float32, after temperature and filters."""

    tokens: Tensor
    probability: Tensor


def most_likely(logits: Tensor, temperature: float) -> Drawn:
    """Return the most likely token of each row, and its probability at ``temperature``."""
    # At temperature 0 all probabilities would be 1, which tells a policy nothing.
    scaled = cooled(logits, temperature or 1)
    best, tokens = scaled.max(1)
    check_usable(best, logits)
    return Drawn(tokens, scaled.softmax(1).gather(1, tokens[:, None])[:, 0])


def check_usable(seen: Tensor, logits: Tensor) -> None:
    """Raise a UserError for logits (N, V) from which no token can be drawn.

    Args:
        seen: Shape (N,); a number that is not finite if a row has NaN, infinity or only -inf, such
            as its maximum or any of its probabilities.
        logits: The logits of the network.
    """
    # One sum is cheaper on a device than a test of each number, and finite if all of them are.
    if math.isfinite(seen.sum(dtype=torch.float64)):
        return
    best = logits.amax(1).float()
    if (torch.isnan(best) | torch.isposinf(best)).any():
        raise UserError("the network answered with NaN or infinity; the checkpoint is damaged")
    raise UserError("every token is excluded at one position; ban or require less")


def top_candidates(logits: Tensor, count: int) -> Tensor:
    """Return the ``count`` most likely tokens of each row (N, V) and maybe others, from the left.

    The ``count`` most likely tokens lie in the ``count`` groups with the largest maxima. The tokens
    of a group are far apart, because maxima over a long stride are fast.

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
    """Return whether the top ``count`` of ``size`` tokens are searched for in groups."""
    return size // _GROUP >= _GROUP * count


def _largest(numbers: Tensor, count: int) -> Tensor:
    """Return the indices of the largest of (N, K), from the left, (N, count); NaN is largest."""
    if numbers.device.type != "cpu":
        return numbers.topk(count, dim=1).indices.sort(dim=1).values
    # NumPy partitions with vector instructions: twice as fast as torch.
    order = np.argpartition(numbers.detach().float().numpy(), -count, axis=1)
    return torch.from_numpy(np.sort(order[:, -count:], axis=1))


def descending(numbers: Tensor) -> Tensor:
    """Return each row sorted in descending order; NaN is the largest."""
    if numbers.device.type != "cpu":
        return numbers.sort(dim=1, descending=True).values
    # Twenty times as fast as torch.
    return torch.from_numpy(np.sort(numbers.detach().numpy(), axis=1)).flip(1)


def top_k_copies(size: int, count: int) -> float:
    """Return how many copies of logits (N, size) a search for the top ``count`` makes, roughly."""
    # The maxima of groups; else a full copy plus indices.
    return 1 / _GROUP if _has_groups(size, count) else 3.0


def index_of_rank(numbers: Tensor, ordered: Tensor, rank: Tensor) -> Tensor:
    """Return the index in (N, K) of the number of a rank (N, 1); ties are ranked from the left.

    Args:
        numbers: Shape (N, K).
        ordered: The largest of them, the largest first, shape (N, n).
        rank: From 0 to n - 1, int64.
    """
    value = ordered.gather(1, rank)
    nth = rank - (ordered > value).sum(1, keepdim=True)
    return torch.searchsorted((numbers == value).cumsum(1), nth + 1)


def cooled(logits: Tensor, temperature: float) -> Tensor:
    """Return logits (N, V) divided by a temperature, up to a constant of each row."""
    if temperature == 1:
        return logits
    # Relative to the maximum nothing overflows; below 1e-30 only the maximum is left anyway.
    return (logits - logits.amax(1, keepdim=True)) / max(temperature, 1e-30)


def padded_softmax(logits: Tensor) -> Tensor:
    """Return probabilities, shape (N, V'), float32, padded with 0 to a whole number of blocks."""
    if lacking := -logits.shape[1] % _BLOCK:
        logits = pad(logits, (0, lacking), value=-math.inf)
    return logits.softmax(1)


def beyond_nucleus(ordered: Tensor, reached: Tensor, goal: Tensor, crossing: str) -> Tensor:
    """Return which weights top-p drops, (N, K), bool; the most likely token may be among them.

    Args:
        ordered: Weights, the largest first, shape (N, K).
        reached: Cumulative weights, shape (N, K), float64.
        goal: The mass to keep, shape (N, 1), float64.
        crossing: ``keep`` or ``drop``.
    """
    return reached > goal if crossing == "drop" else reached - ordered >= goal


def keep_nucleus(weights: Tensor, top_p: float, crossing: str) -> Tensor:
    """Zero all weights except the largest that together hold ``top_p`` of the mass, in place.

    Positive floats are ordered as their bits are, so the upper bits of a float index a histogram.
    Whole bins are kept from the top. Only the tokens of the bin in which the mass crosses ``top_p``
    are sorted; these are few unless nearly all tokens are equally likely.
    """
    low, shift = _scale(weights.shape[1], top_p)
    level = weights.view(torch.int32) - low  # (N, V')
    level.bitwise_right_shift_(shift).clamp_min_(0)
    levels = (_ONE - low >> shift) // _BLOCK * _BLOCK + _BLOCK
    mass = weights.new_zeros(len(weights), levels, dtype=torch.float64)
    mass.scatter_add_(1, level.long(), weights.double())
    edge, before, goal = _crossed(mass, top_p)
    row, token = _equal(level, edge)
    # The tokens of that bin, packed to the left: (N, largest number of tokens in it).
    count = torch.bincount(row, minlength=len(weights))
    place = torch.arange(len(row), device=row.device) - (count.cumsum(0) - count)[row]
    tokens = weights.new_zeros(len(weights), int(count.max()))
    tokens[row, place] = weights[row, token]
    # Stable, so that ties do not depend on the other rows of the batch.
    ordered, order = tokens.sort(dim=1, descending=True, stable=True)
    reached = before + ordered.cumsum(1, dtype=torch.float64)
    beyond = beyond_nucleus(ordered, reached, goal, crossing)
    beyond[:, :1] &= before > 0
    tokens.scatter_(1, order, ordered.masked_fill(beyond, 0.0))
    # A comparison into the dtype of the weights is several times as fast as into booleans.
    above = ((edge + 1 << shift) + low).view(torch.float32)
    weights.mul_(torch.ge(weights, above, out=level.view(torch.float32)))
    weights[row, token] = tokens[row, place]
    return weights


def _scale(width: int, top_p: float) -> tuple[int, int]:
    """Return the bits at which the lowest bin of the histogram begins, and the shift to a bin.

    Weights below (1 - top_p) / V' together hold too little mass to matter: all weights below half
    of that share one bin. Above it there are at most about a third as many bins as tokens.
    """
    least = int(np.float32((1 - top_p) / width / 2).view(np.int32))
    shift = min(22, max(0, (3 * (_ONE - least) // width).bit_length()))
    return least >> shift << shift, shift


def _crossed(mass: Tensor, share: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return the last index from which on a row holds more than a given share of its mass.

    Args:
        mass: Shape (N, K), float64, K a whole number of blocks.
        share: Below 1.

    Returns:
        Indices, int32, the mass above each of them, and the mass that the share amounts to,
        float64; each (N, 1).
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
    """Return the first index whose cumulative mass exceeds the goal, and the mass before it."""
    reached = mass.cumsum(1)
    # Rounding may move a goal at the very end beyond the total.
    index = torch.searchsorted(reached, goal, right=True).clamp_(max=mass.shape[1] - 1)
    return index, reached.gather(1, index) - mass.gather(1, index)


def _equal(level: Tensor, edge: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows and tokens where a level (N, V') equals the edge of its row, (N, 1).

    Overwrites ``level``. Most runs of 32 tokens have no match, so runs are searched first.
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
        u: Shape (N, 1), float64 from 0 to ``BELOW_ONE``.

    Returns:
        Indices of positive weight and u times the total, each (N, 1), and cumulative weights,
        (N, K).
    """
    reached = weights.cumsum(1, dtype=torch.float64)
    target = u * reached[:, -1:]
    return torch.searchsorted(reached, target, right=True), target, reached


def draw(weights: Tensor, u: Tensor) -> Drawn:
    """Draw a token of each row by inversion.

    Args:
        weights: Shape (N, V'), not negative, V' a whole number of blocks; see ``padded_softmax``.
        u: Shape (N,), float64 from 0 to ``BELOW_ONE``.
    """
    blocks = weights.view(len(weights), -1, _BLOCK)
    # A float32 sum of 128 numbers has a relative error of 1e-7; within a block all is float64.
    sums = blocks.sum(2)
    block, target, reached = _invert(sums, u[:, None])
    # The position of u within its block, again a uniform number.
    lacking = (target - reached.gather(1, block)) / sums.gather(1, block)
    inside = blocks.gather(1, block[..., None].expand(-1, -1, _BLOCK))[:, 0]
    place, _, _ = _invert(inside, lacking.add_(1).clamp_(0, BELOW_ONE))
    chosen = inside.gather(1, place) / reached[:, -1:]
    return Drawn((block * _BLOCK + place)[:, 0], chosen[:, 0].float())
