r"""Negative log-likelihoods in several units, with errors.

Nats are summed first and converted to other units last:

    perplexity = exp(nats / tokens),  bits per character = nats / (characters ln 2),
    word perplexity = exp(nats / words), a line end counting as a word (WikiText's <eos>),
    bits per dimension = nats / (dims ln 2), the sub-pixels of images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from unmask.data.text_rows import Text
from unmask.errors import UserError
from unmask.evaluation.intervals import Spread, clusters_of, over_masks, over_texts

UNITS = {
    "nats_per_token": "tokens",
    "perplexity": "tokens",
    "bits_per_char": "characters",
    "word_perplexity": "words",
    "bits_per_dim": "dims",
}
"""Reported properties of a ``Score``, and the unit that their nats are divided by."""


@dataclass(frozen=True)
class Score:
    """A negative log-likelihood of a whole text, or an upper bound on it.

    Attributes:
        nats: Total nats.
        units: The size of the data: ``tokens``; of text ``characters`` and ``words``, of images
            ``dims``; see ``Text``.
        unknown: Number of unknown tokens; see ``Text``.
        lossy: Whether the tokenizer does not reproduce the text; see ``Text``.
        kind: ``bound`` (an upper bound), ``exact``, or ``pseudo`` (a pseudo-log-likelihood, which
            is neither).
        draws: Mask patterns per row; 1 unless it is a bound.
        seed: The seed of the masks.
        masks: Error of ``nats`` as an estimate of the bound on this text; None for a single round
            of masks and for an exact value.
        texts: Error of ``nats`` as an estimate for other texts of the same size in a unit, by unit;
            empty for fewer than five rows.
        clusters: The independent parts of the text behind ``texts``, such as ``20 blocks of rows``.
        rounds: Shape (R, N), float64; nats of every row in every round of masks.
        text: The scored text.
        token_nats: Shape (N, L), float64; nats of every token, 0 where none is predicted; None if
            nats are known per row only.
    """

    nats: float
    units: dict[str, int]
    unknown: int
    lossy: bool
    kind: str
    draws: int
    seed: int
    masks: Spread | None
    texts: dict[str, Spread]
    clusters: str
    rounds: Tensor = field(repr=False, compare=False)
    text: Text = field(repr=False, compare=False)
    token_nats: Tensor | None = field(default=None, repr=False, compare=False)

    @property
    def exact(self) -> bool:
        """Whether this is a likelihood and not a bound on one."""
        return self.kind == "exact"

    @property
    def tokens(self) -> int:
        """Tokens that ``nats`` is divided by."""
        return self.size("tokens")

    @property
    def characters(self) -> int:
        """Unicode characters of the text."""
        return self.size("characters")

    @property
    def words(self) -> int:
        """Words and line ends of the text."""
        return self.size("words")

    def size(self, unit: str) -> int:
        """Return how many of a unit the data have.

        Raises:
            UserError: If they are not measured in it, as images are not in characters.
        """
        if unit not in self.units:
            raise UserError(f"these data have no {unit}; they have {', '.join(self.units)}")
        return self.units[unit]

    def nats_per(self, unit: str) -> float:
        """Return nats per unit, a name in ``units``."""
        return self.nats / max(self.size(unit), 1)

    @property
    def nats_per_token(self) -> float:
        """Nats per token."""
        return self.nats_per("tokens")

    @property
    def perplexity(self) -> float:
        """exp(nats per token)."""
        return _exp(self.nats_per_token)

    @property
    def bits_per_char(self) -> float:
        """Bits per Unicode character."""
        return self.nats / math.log(2) / max(self.characters, 1)

    @property
    def bits_per_dim(self) -> float:
        """Bits per sub-pixel of an image."""
        return self.nats_per("dims") / math.log(2)

    @property
    def known(self) -> tuple[str, ...]:
        """The names in ``UNITS`` whose unit the data have."""
        return tuple(name for name, unit in UNITS.items() if unit in self.units)

    @property
    def word_perplexity(self) -> float:
        """exp(nats per word), a line end counting as a word."""
        return _exp(self.nats_per("words"))

    def interval(self, unit: str, over: str = "texts") -> tuple[float, float] | None:
        """Return a 95 % confidence interval of a property, None if the error is unknown.

        Args:
            unit: A name in ``UNITS``.
            over: ``masks`` for the bound on this text, ``texts`` for the bound on similar texts;
                see ``evaluation.intervals``.
        """
        spread = self.masks if over == "masks" else self.texts.get(UNITS[unit])
        if spread is None:
            return None
        low, high = (replace(self, nats=self.nats + sign * spread.margin) for sign in (-1, 1))
        return getattr(low, unit), getattr(high, unit)

    def as_dict(self) -> dict[str, Any]:
        """Return all numbers, with units in the names, fit for JSON.

        Unknown intervals are left out, and so are ``notes`` if there are none. A perplexity beyond
        float64 is None.
        """
        result: dict[str, Any] = {"kind": self.kind, "exact": self.exact}
        for unit in self.known:
            result[unit] = _finite(getattr(self, unit))
            for over in ("masks", "texts"):
                interval = self.interval(unit, over)
                if interval is not None and math.isfinite(interval[1]):
                    result[f"{unit}_95_{over}"] = list(interval)
        if self.texts:
            result["texts_over"] = self.clusters
        result |= {"nats": self.nats, **self.units}
        result |= {name: getattr(self, name) for name in ("unknown", "lossy", "draws", "seed")}
        return result | ({"notes": list(self.text.notes)} if self.text.notes else {})


def spreads_over_texts(nats: Tensor, text: Text) -> tuple[dict[str, Spread], str]:
    """Return the errors over texts by unit, and a description of the independent parts.

    Args:
        nats: Shape (N,), float64; nats of every row, or the difference between two models.
        text: The rows.
    """
    clusters, name = clusters_of(text.documents, text.num_documents)
    if "dims" in text.row_units:
        name = "images" if len(clusters.unique()) == len(text.rows) else "blocks of images"
    sizes = {unit: size.double() for unit, size in text.row_units.items()}
    found = {unit: over_texts(nats, size, clusters) for unit, size in sizes.items()}
    known = {key: spread for key, spread in found.items() if spread is not None}
    return known, f"{len(clusters.unique())} {name}"


def _exp(nats: float) -> float:
    return math.inf if nats > 700 else math.exp(nats)


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


@dataclass(frozen=True)
class Difference:
    """The difference in nats between two models on the same rows, with the same masks.

    Attributes:
        nats: Total nats of the first model minus those of the second.
        units: The size of the text; see ``Score``.
        masks: Error of ``nats`` for this text; None if unknown.
        texts: Errors of ``nats`` for other texts by unit; see ``Score``.
    """

    nats: float
    units: dict[str, int]
    masks: Spread | None
    texts: dict[str, Spread]

    @classmethod
    def of(cls, first: Score, second: Score) -> Difference:
        """Compare two scores.

        Raises:
            UserError: If they are of different rows or have different numbers of draws.
        """
        rows, others = first.text, second.text
        if not (
            torch.equal(rows.rows, others.rows) and torch.equal(rows.editable, others.editable)
        ):
            raise UserError(
                "these models cut the text into different rows, so their scores cannot be paired; "
                "compare models of one tokenizer and one row length, or leave --paired out"
            )
        if len({len(one.rounds) for one in (first, second) if one.kind == "bound"}) > 1:
            raise UserError("scores with different numbers of draws cannot be paired")
        # An exact value is the same in every round.
        rounds = first.rounds - second.rounds
        nats = rounds.mean(0)
        return cls(
            nats=float(nats.sum()),
            units=first.units,
            masks=over_masks(rounds),
            texts=spreads_over_texts(nats, rows)[0],
        )

    def as_dict(self) -> dict[str, Any]:
        """Return all numbers, with units in the names, fit for JSON; unknown ones are left out."""
        per: dict[str, float] = {"nats_per_token": self.units["tokens"]}
        for name, size in (("bits_per_char", "characters"), ("bits_per_dim", "dims")):
            if size in self.units:
                per[name] = self.units[size] * math.log(2)
        result: dict[str, Any] = {unit: self.nats / count for unit, count in per.items()}
        for unit, count in per.items():
            for over, spread in (("masks", self.masks), ("texts", self.texts.get(UNITS[unit]))):
                if spread is not None:
                    ends = (self.nats - spread.margin, self.nats + spread.margin)
                    result[f"{unit}_95_{over}"] = [end / count for end in ends]
        for over, spread in (("masks", self.masks), ("texts", self.texts.get("tokens"))):
            if spread is not None:
                result[f"p_{over}"] = spread.p_value(self.nats)
        return result
