r"""Likelihood of a text under a model, in units that do not depend on its tokenizer.

A diffusion model gives an upper bound on -log p (for masks and one schedule the exact-k estimate of
the continuous-time bound), a causal model the exact value. Both are computed on the same rows: the
text cut into blocks, each predicted from its own start symbol. Nats are averaged first and turned
into other units last:

    perplexity = exp(nats / tokens),  bits per character = nats / (characters ln 2),
    word perplexity = exp(nats / words), a line end counting as a word (WikiText's <eos>).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from unmask.codec.pairs import PairRows
from unmask.codec.text import TextCodec
from unmask.denoiser import Denoiser
from unmask.errors import UserError
from unmask.method import Bound
from unmask.schedule import stratified_times
from unmask.values import whole

MAX_DRAWS = 1_000_000

RowNats = Callable[[Tensor, Tensor, Tensor, torch.Generator], Tensor]
"""(rows (B, L), editable (B, L), valid (B, L), generator) -> nats per row (B,)."""


@dataclass(frozen=True)
class Text:
    """A text as rows of a model, and what its nats are divided by.

    Attributes:
        rows: Shape (N, L), int64, padded at the right.
        editable: Shape (N, L), bool; the tokens that are predicted.
        valid: Shape (N, L), bool; False on padding.
        tokens: Shape (N,), int64; what the nats of each row are divided by.
        characters: Unicode characters of the text.
        words: Words separated by white space, plus one for every line end.
        unknown: Tokens that the tokenizer could not represent; above 0 the units per character and
            per word flatter the model.
    """

    rows: Tensor
    editable: Tensor
    valid: Tensor
    tokens: Tensor
    characters: int
    words: int
    unknown: int

    @classmethod
    def from_string(
        cls, text: str, codec: TextCodec, length: int, max_rows: int | None = None
    ) -> Text:
        """Cut a text into rows of at most ``length`` tokens, the start symbol included.

        Args:
            text: The text.
            codec: The tokenizer.
            length: Tokens in a full row.
            max_rows: Keep only this many rows and the characters and words of just these.

        Raises:
            UserError: If the text is empty.
        """
        body = length - len(codec.start)
        if max_rows is None:
            encoded = codec.encode(text)
        else:
            encoded, text = codec.beginning(text, max_rows * body)
        ids = torch.tensor(encoded, dtype=torch.int64)
        if len(ids) == 0:
            raise UserError("there is no text to score")
        rows = pad(ids, (0, -len(ids) % body), value=codec.pad_token_id).view(-1, body)
        valid = (torch.arange(rows.numel()) < len(ids)).view_as(rows)
        start = torch.tensor(codec.start, dtype=torch.int64).expand(len(rows), -1)
        rows = torch.cat([start, rows], 1)
        # One short row needs no padding up to the full length.
        used = len(codec.start) + int(valid.sum(1).max())
        return cls(
            rows=rows[:, :used],
            editable=pad(valid, (start.shape[1], 0), value=False)[:, :used],
            valid=pad(valid, (start.shape[1], 0), value=True)[:, :used],
            tokens=valid.sum(1),
            characters=len(text),
            words=_words(text),
            unknown=_unknown(ids, codec),
        )

    @classmethod
    def from_pairs(cls, pairs: PairRows, codec: TextCodec, max_rows: int | None = None) -> Text:
        """Take the targets as the text, each of them given its source.

        The nats are those of the target, its end and the fillers after it, so that the bound is
        on the target with its length; they are divided by the tokens of target and end.

        Args:
            pairs: The rows; see ``codec.pairs.PairCodec.lay_out``.
            codec: The tokenizer.
            max_rows: Keep only the first so many.
        """
        ids, editable = pairs.ids[:max_rows].long(), pairs.editable[:max_rows]
        targets = pairs.targets[:max_rows]
        return cls(
            rows=ids,
            editable=editable,
            valid=torch.ones_like(editable),
            tokens=pairs.tokens[:max_rows],
            characters=sum(map(len, targets)),
            words=sum(map(_words, targets)),
            unknown=_unknown(ids[editable], codec),
        )


def _words(text: str) -> int:
    return len(text.split()) + text.count("\n")


def _unknown(ids: Tensor, codec: TextCodec) -> int:
    unknown = codec.tokenizer.unk_token_id
    return 0 if unknown is None else int((ids == unknown).sum())


@dataclass(frozen=True)
class Score:
    """A negative log-likelihood or an upper bound on it, of a whole text.

    Attributes:
        nats: Total nats.
        standard_error: Of ``nats``, over rows (texts and masks); NaN for a single row.
        tokens: Tokens that ``nats`` is divided by.
        characters: Characters of the text.
        words: Words and line ends of the text.
        unknown: Unknown tokens; see ``Text``.
        exact: True for an exact value, False for an upper bound.
        draws: Mask patterns per row; 1 for an exact value.
        seed: Of the masks.
    """

    nats: float
    standard_error: float
    tokens: int
    characters: int
    words: int
    unknown: int
    exact: bool
    draws: int
    seed: int

    @property
    def nats_per_token(self) -> float:
        """Nats per token."""
        return self.nats / self.tokens

    @property
    def perplexity(self) -> float:
        """exp(nats per token)."""
        return _exp(self.nats_per_token)

    @property
    def bits_per_char(self) -> float:
        """Bits per Unicode character."""
        return self.nats / math.log(2) / self.characters

    @property
    def word_perplexity(self) -> float:
        """exp(nats per word), a line end counting as a word."""
        return _exp(self.nats / max(self.words, 1))

    def interval(self, unit: str) -> tuple[float, float]:
        """Return the 95 % confidence interval of a property, by name."""
        low, high = (
            Score(**{**self.__dict__, "nats": self.nats + z * self.standard_error})
            for z in (-1.96, 1.96)
        )
        return getattr(low, unit), getattr(high, unit)

    def as_dict(self) -> dict[str, float | int | bool | list[float] | None]:
        """Return all numbers, with units in the names, fit for JSON (None where undefined)."""
        result: dict[str, float | int | bool | list[float] | None] = {"exact": self.exact}
        for unit in ("nats_per_token", "perplexity", "bits_per_char", "word_perplexity"):
            result[unit] = getattr(self, unit)
            low, high = self.interval(unit)
            result[unit + "_95"] = None if math.isnan(low) else [low, high]
        counts = ("nats", "tokens", "characters", "words", "unknown", "draws", "seed")
        return result | {name: getattr(self, name) for name in counts}


def _exp(nats: float) -> float:
    return math.inf if nats > 700 else math.exp(nats)


def bound_of_rows(denoiser: Denoiser, bound: Bound, draws: int) -> RowNats:
    """Return a function that estimates the bound of every row, the mean of ``draws`` patterns.

    Args:
        denoiser: The network.
        bound: How one pattern is drawn and judged; see ``method.Method.bound``.
        draws: Patterns per row.
    """

    def nats(rows: Tensor, editable: Tensor, valid: Tensor, generator: torch.Generator) -> Tensor:
        times = [stratified_times(len(rows), generator) for _ in range(draws)]
        batch = {"x0": rows, "editable": editable, "valid": valid, "generator": generator}
        losses = [bound(denoiser, t=t, **batch) for t in times]
        return torch.stack([loss.nats for loss in losses]).mean(0)

    return nats


@torch.no_grad()
def score_text(
    text: Text,
    row_nats: RowNats,
    *,
    exact: bool,
    draws: int = 1,
    batch_size: int = 32,
    seed: int = 0,
    device: torch.device | str = "cpu",
    advance: Callable[[int], None] = lambda rows: None,
) -> Score:
    """Add up the nats of all rows of a text.

    Args:
        text: The rows.
        row_nats: Nats of a batch of rows; see ``bound_of_rows``.
        exact: Whether these are exact.
        draws: Mask patterns per row that ``row_nats`` averages, for the record.
        batch_size: Rows at a time.
        seed: Of the masks; the same seed gives the same masks for every model with this tokenizer.
        device: Where the model is.
        advance: Called with the number of rows done, for a progress bar.
    """
    seed, batch_size = whole("seed", seed), whole("batch_size", batch_size)
    if not 0 <= seed < 2**63:
        raise UserError(f"seed must be from 0 to 2^63 - 1, not {seed}")
    if batch_size < 1:
        raise UserError(f"batch_size must be at least 1, not {batch_size}")
    generator = torch.Generator(device).manual_seed(seed)
    parts = []
    for start in range(0, len(text.rows), batch_size):
        part = slice(start, start + batch_size)
        # Rows of one batch share a length, so that only the last one of a text is padded.
        rows, editable, valid = (x[part].to(device) for x in (text.rows, text.editable, text.valid))
        parts.append(row_nats(rows, editable, valid, generator).double().cpu())
        advance(len(rows))
    nats, tokens = torch.cat(parts), text.tokens.double()
    if bool(nats.isnan().any()):
        raise UserError("the network answered with NaN; the checkpoint is damaged")
    # The rows differ in length: the spread around the common rate, a ratio estimate.
    spread = nats - tokens * (nats.sum() / tokens.sum())
    count = len(nats)
    error = math.sqrt(count / (count - 1) * float(spread.square().sum())) if count > 1 else math.nan
    return Score(
        nats=float(nats.sum()),
        standard_error=error,
        tokens=int(tokens.sum()),
        characters=text.characters,
        words=text.words,
        unknown=text.unknown,
        exact=exact,
        draws=draws,
        seed=seed,
    )
