r"""Likelihood of a text under a model, in units that do not depend on its tokenizer.

A diffusion model gives an upper bound on -log p, estimated from random masks. A causal model, and a
model with a fixed generation order, give the exact value. Both use the same rows, see
``data.text_rows``; units and errors are defined in ``evaluation.scores``.

Random masks are drawn in rounds. In a round every row is masked at one time or at several. The
times of ``evaluation.intervals.GROUP`` consecutive rows together cover the unit interval evenly,
which reduces the variance; rounds are independent, which gives an error. The masks of a row depend
on the seed and the number of the row alone, not on the batch size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from unmask.data.text_rows import Text
from unmask.diffusion.denoiser import Denoiser
from unmask.diffusion.formulation import Bound
from unmask.diffusion.rng import RowGenerator, row_seeds
from unmask.errors import UserError
from unmask.evaluation.intervals import GROUP, over_masks
from unmask.evaluation.scores import Score, spreads_over_texts
from unmask.validation import Option, real, whole, within

MAX_DRAWS = 1_000_000
PRECISION = 0.01
"""Standard error of the nats, as a share of them, at which ``draws=None`` stops."""
_SEED = Option("", whole, low=0, high=2**63, below=True)
_SHARE = Option("", real, low=0, high=1, above=True, below=True)
_ENOUGH = 7  # Least degrees of freedom with which a small error is trusted.
_STRATA = 256  # Tokens in a round below which its rows are masked at several times.
_MOST_STRATA = 32
_LAST = 2**14  # Draws of a row after which ``draws=None`` stops.


class Part(NamedTuple):
    """Some rows of a text, with their random times and generators.

    Attributes:
        rows: Shape (B, L), int64.
        editable: Shape (B, L), bool.
        valid: Shape (B, L), bool.
        times: Shape (B,), float64, uniform in (0, 1].
        generator: Random numbers, a stream per row.
    """

    rows: Tensor
    editable: Tensor
    valid: Tensor
    times: Tensor
    generator: RowGenerator

    @property
    def batch(self) -> dict[str, Any]:
        """The keyword arguments of a ``diffusion.formulation.Bound``."""
        return {
            "x0": self.rows,
            "t": self.times,
            "editable": self.editable,
            "generator": self.generator,
            "valid": self.valid,
        }


RowNats = Callable[[Part], Tensor]
"""Nats of every row, (B, L) -> (B,)."""


def bound_of_rows(denoiser: Denoiser, bound: Bound) -> RowNats:
    """Return a function that estimates the bound of every row from one mask pattern.

    Args:
        denoiser: The network.
        bound: Draws and evaluates mask patterns; see ``diffusion.formulation.Formulation.bound``.
    """

    def nats(part: Part) -> Tensor:
        return bound(denoiser, **part.batch).nats

    return nats


def bound_of_tokens(denoiser: Denoiser, token_bound: Callable[..., Tensor]) -> RowNats:
    """Return a function that estimates the bound token by token, (B, L).

    Args:
        denoiser: The network.
        token_bound: See ``diffusion.formulation.Formulation.token_bound``.
    """

    def nats(part: Part) -> Tensor:
        return token_bound(denoiser, **part.batch)

    return nats


@torch.no_grad()
def score_text(
    text: Text,
    row_nats: RowNats,
    *,
    kind: str = "bound",
    draws: int | None = 1,
    precision: float = PRECISION,
    batch_size: int = 32,
    seed: int = 0,
    device: torch.device | str = "cpu",
    advance: Callable[[int], None] = lambda rows: None,
) -> Score:
    """Sum the nats of all rows of a text.

    Args:
        text: The rows.
        row_nats: Nats of a batch of rows, (B,), or of their tokens, (B, L); see ``bound_of_rows``.
        kind: See ``Score``; unless it is ``bound``, every row is computed once.
        draws: Mask patterns per row; None for as many as make the standard error over masks less
            than ``precision`` times the nats.
        precision: See ``draws``.
        batch_size: Rows per network call.
        seed: Seed of the masks; it gives the same masks for every model with this tokenizer.
        device: The device of the model.
        advance: Called with the number of rows done, for a progress bar.

    Raises:
        UserError: If a number is out of range, or the network returns NaN.
    """
    seed, batch_size = _SEED("seed", seed), within("batch_size", batch_size, low=1)
    precision = _SHARE("precision", precision)
    draws = draws if kind == "bound" else 1
    strata = strata_of(text, draws)
    rounds: list[Tensor] = []
    while not _enough(rounds, strata, draws, precision):
        done: list[Tensor] = []
        for part in _batches(text, len(rounds), strata, seed, batch_size, device):
            done.append(row_nats(part).double().cpu())
            advance(len(part.rows))
        found = torch.cat(done)
        if bool(found.isnan().any()):
            raise UserError("the network returned NaN; the checkpoint is damaged")
        # (N strata,) or (N strata, L): the mean over the draws of each row.
        rounds.append(found.view(-1, strata, *found.shape[1:]).mean(1))
    return _score(text, torch.stack(rounds), kind=kind, draws=len(rounds) * strata, seed=seed)


def strata_of(text: Text, draws: int | None) -> int:
    """Return the number of times at which each row is masked in a round.

    One for a long text, several for a short one, whose rounds would otherwise hardly cover the unit
    interval; always a divisor of ``draws`` that leaves enough rounds to estimate their spread.
    """
    most = max(1, min(_MOST_STRATA, _STRATA // int(text.tokens.sum())))
    if draws is None:
        return most
    rounds = min(draws, _ENOUGH + 1)
    return max(n for n in range(1, most + 1) if draws % n == 0 and draws // n >= rounds)


def _enough(rounds: list[Tensor], strata: int, draws: int | None, precision: float) -> bool:
    if draws is not None:
        return len(rounds) * strata == draws
    if len(rounds) < 2:
        return False
    found = torch.stack(rounds)
    spread = over_masks(found if found.ndim == 2 else found.sum(2))
    if spread is None or spread.freedom < _ENOUGH:
        return False
    total = float(found.mean(0).sum())
    return spread.error <= precision * abs(total) or len(rounds) * strata >= _LAST


def spread_times(rows: int, strata: int, seed: int, index: int) -> Tensor:
    """Return the times of a round, float64, in (0, 1], shape (rows, strata).

        t_(i,s) = (s + (pi(i) + u) / n) / strata,   u ~ U(0, 1), pi a permutation of 0 ... n - 1

    for each group of n rows. Each time is uniform. A row has one time in each of its strata, a
    group one in each of n * strata.

    Args:
        rows: Rows of the text, N.
        strata: Times per row.
        seed: Seed of the masks.
        index: Number of the round.
    """
    times = []
    for first in range(0, rows, GROUP):
        key = row_seeds(seed, torch.tensor([-1 - first]), torch.tensor([index]))
        generator = torch.Generator().manual_seed(int(key) & (2**63 - 1))
        count = min(GROUP, rows - first)
        shift = torch.rand((), dtype=torch.float64, generator=generator)
        order = torch.randperm(count, generator=generator).double()
        times.append((order + shift)[:, None] / count)
    stratum = torch.arange(strata, dtype=torch.float64)
    # From [0, 1) to (0, 1].
    return 1 - (stratum + torch.cat(times)) / strata


def _batches(
    text: Text, index: int, strata: int, seed: int, batch_size: int, device: torch.device | str
) -> Iterator[Part]:
    """Yield the rows of a round in batches, each row ``strata`` times in succession."""
    count = len(text.rows)
    times = spread_times(count, strata, seed, index).flatten()
    number = torch.arange(count).repeat_interleave(strata)
    draw = index * strata + torch.arange(strata).repeat(count)
    seeds = row_seeds(seed, number, draw)
    for start in range(0, len(number), batch_size):
        which = slice(start, start + batch_size)
        rows, editable, valid = (
            x[number[which]].to(device) for x in (text.rows, text.editable, text.valid)
        )
        generator = RowGenerator(seeds[which].to(device))
        yield Part(rows, editable, valid, times[which].to(device), generator)


def _score(text: Text, rounds: Tensor, *, kind: str, draws: int, seed: int) -> Score:
    """Return the score of rounds of nats per row, (R, N), or per token, (R, N, L)."""
    token_nats = rounds.mean(0) if rounds.ndim == 3 else None
    rounds = rounds if token_nats is None else rounds.sum(2)
    nats = rounds.mean(0)
    texts, clusters = spreads_over_texts(nats, text)
    return Score(
        nats=float(nats.sum()),
        units=text.units,
        unknown=text.unknown,
        lossy=text.lossy,
        kind=kind,
        draws=draws,
        seed=seed,
        masks=over_masks(rounds),
        texts=texts,
        clusters=clusters,
        rounds=rounds,
        text=text,
        token_nats=token_nats,
    )
