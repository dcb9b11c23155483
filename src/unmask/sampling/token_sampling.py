r"""Token sampling: greedy, or a draw after temperature, top-k, top-p and min-p.

Filters act on p(x_0 | x_t) only, never on "stay masked". How a token is then drawn is in
``sampling.categorical``.

Order: temperature, then top-k and renormalisation; then a token stays if both top-p and min-p keep
it. (Min-p compares with the most likely token, which top-p never drops, so the order of these two
does not matter.) There are two conventions for top-p, with p_1 >= p_2 >= ...:

    "keep"    token i stays if p_1 + ... + p_(i-1) < p: the token that crosses p stays
    "drop"    token i stays if p_1 + ... + p_i <= p, or i = 1: the token that crosses p goes

They differ by one token, unless the sum hits p exactly.

References: Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration", arXiv:1904.09751
(top-p; "keep", as in transformers and MD4); Sahoo et al. 2024, arXiv:2406.07524, and Wang et al.
2025, arXiv:2503.00307 ("drop", in the code of MDLM and ReMDM); Nguyen et al. 2024, "Turning Up the
Heat: Min-p Sampling", arXiv:2407.01082.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unmask.errors import UserError
from unmask.sampling import categorical
from unmask.sampling.categorical import Drawn
from unmask.sampling.samplers.base import Sampler, TokenOptions
from unmask.validation import Options, require, with_default


@dataclass(frozen=True)
class Draw(Options):
    """How a token is chosen from logits.

    Args:
        temperature: Divisor of the logits, at most 1e6; 0 always takes the most likely token and
            reports its probability at temperature 1.
        top_k: Keep only the k most likely tokens; None keeps all.
        top_p: Keep the most likely tokens that together hold p; applied after top-k and
            renormalisation; 1 keeps all.
        greedy: Take the most likely token and report its probability at ``temperature``.
        min_p: Keep the tokens at least this many times as likely as the most likely one; 0 keeps
            all.
        top_p_crossing: ``keep`` or ``drop`` the token that crosses p; None keeps it.

    Raises:
        UserError: If a number is out of range, or something is set that would have no effect.
    """

    temperature: float = with_default(TokenOptions, "temperature")
    top_k: int | None = with_default(TokenOptions, "top_k")
    top_p: float = with_default(TokenOptions, "top_p")
    greedy: bool = False
    min_p: float = with_default(TokenOptions, "min_p")
    top_p_crossing: str | None = with_default(Sampler, "top_p_crossing")

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.greedy or self.temperature == 0) and self.filters:
            raise UserError(
                "the most likely token is always taken here, so top-k, top-p and min-p would have "
                "no effect; leave them out, or choose a sampler that draws and a temperature "
                "above 0"
            )
        require(("top_p_crossing", not self.top_p_crossing or self.top_p < 1, "a top_p below 1"))

    @property
    def filters(self) -> bool:
        """Whether top-k, top-p or min-p may drop tokens."""
        return self.top_k is not None or self.top_p < 1 or self.min_p > 0

    def at(self, step: int) -> Draw:
        """Return the settings of a step, the same for all; see ``BurnIn`` for an exception."""
        return self

    def __call__(self, logits: Tensor, u: Tensor) -> Drawn:
        """Choose one token per row.

        Args:
            logits: Shape (N, V), floating point; -inf for tokens that must not be drawn.
            u: Shape (N,), float64 in (0, 1).

        Raises:
            UserError: If a row has NaN or infinity, or is -inf everywhere.
        """
        if len(logits) == 0:
            return Drawn(u.long(), u.float())
        # A few rows at a time: a copy for the whole batch would be large.
        rows = categorical.rows_at_a_time(logits, self._copies(logits.shape[1]))
        pieces = zip(
            logits.split(rows), u.clamp_max(categorical.BELOW_ONE).split(rows), strict=True
        )
        parts = [self._pick(piece, own) for piece, own in pieces]
        return parts[0] if len(parts) == 1 else Drawn(*map(torch.cat, zip(*parts, strict=True)))

    def _copies(self, size: int) -> float:
        """Return how many copies of logits (N, size) a draw makes, roughly."""
        if self.top_k is not None:
            return categorical.top_k_copies(size, min(self.top_k, size))
        return 2.0 if self.top_p < 1 else 1.0

    def _pick(self, logits: Tensor, u: Tensor) -> Drawn:
        if self.greedy or self.temperature == 0:
            return categorical.most_likely(logits.float(), self.temperature)
        if self.top_k is not None:
            return self._from_top_k(logits, u, self.top_k)
        weights = categorical.padded_softmax(categorical.cooled(logits.float(), self.temperature))
        categorical.check_usable(weights[:, 0], logits)
        if self.top_p < 1:
            weights = categorical.keep_nucleus(weights, self.top_p, self.top_p_crossing or "keep")
        if self.min_p > 0:
            weights = weights.masked_fill_(
                weights < self.min_p * weights.amax(1, keepdim=True), 0.0
            )
        return categorical.draw(weights, u)

    def _from_top_k(self, logits: Tensor, u: Tensor, top_k: int) -> Drawn:
        count = min(top_k, logits.shape[1])
        tokens = categorical.top_candidates(logits, count)
        numbers = logits.gather(1, tokens).float()
        best = categorical.descending(numbers)[:, :count]
        categorical.check_usable(best[:, 0], logits)
        scaled = categorical.cooled(best, self.temperature)
        weights = torch.exp((scaled - scaled[:, :1]).double())
        reached = weights.cumsum(1)
        beyond = categorical.beyond_nucleus(
            weights, reached, self.top_p * reached[:, -1:], self.top_p_crossing or "keep"
        )
        beyond[:, 0] = False
        if self.min_p > 0:
            beyond |= weights < self.min_p
        # The kept weights come first, so their sum is the largest cumulative weight among them.
        total = reached.masked_fill(beyond, 0.0).amax(1, keepdim=True)
        rank = torch.searchsorted(reached, u[:, None] * total, right=True)
        chosen = weights.gather(1, rank) / total
        place = categorical.index_of_rank(numbers, best, rank)
        return Drawn(tokens.gather(1, place)[:, 0], chosen[:, 0].float())


@dataclass(frozen=True)
class BurnIn:
    """Other settings for the first steps of a chain.

    Args:
        steps: Number of first steps.
        first: Settings of these.
        then: Settings afterwards.

    Reference: Wang and Cho 2019, arXiv:1902.04094.
    """

    steps: int
    first: Draw
    then: Draw

    def at(self, step: int) -> Draw:
        """Return the settings of a step."""
        return self.first if step < self.steps else self.then
