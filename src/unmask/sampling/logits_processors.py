r"""Logits processors: bans and the repetition penalty, as denoisers that wrap a denoiser.

    Banned             ids that are never generated, or not at some positions
    BannedPhrases      sequences of ids that are never generated
    RepetitionPenalty  tokens that occur elsewhere in the row become less likely:
                       logit / penalty where it is positive, logit * penalty where it is negative

Temperature and filters act on the processed logits. The penalty counts every visible token of the
row, the prompt and tokens to the right included, except the queried position. It does not count how
often a token occurs and, as its authors define it, depends on the zero of the logits of a network.

Reference: Keskar et al. 2019, "CTRL: A Conditional Transformer Language Model for Controllable
Generation", arXiv:1909.05858, Section 4.1 (the penalty; that negative logits are multiplied, as in
transformers).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from unmask.diffusion.denoiser import Denoiser, DenoiserWrapper
from unmask.errors import UserError
from unmask.sampling.samplers.base import Sampler, TokenOptions
from unmask.validation import Options, exclude, require, with_default

Spell = Callable[[str], list[list[int]]]
"""text -> the ids of every spelling that counts as the same"""


@dataclass(frozen=True)
class Restriction(Options):
    """Options of the logits processors.

    Args:
        repetition_penalty: Above 1 for less repetition, below 1 for more; 1 for none.
        ban: Texts that are never generated, as the tokenizer spells them.
        unban: Names of symbols that may be generated, such as ``<unk>``.
        symbols: Ids of the symbols that may not, see ``without``.

    Raises:
        UserError: If the penalty is not a number from 1e-6 to 1e6, a ban is not a text, or a name
            is both banned and not.
    """

    repetition_penalty: float = with_default(TokenOptions, "repetition_penalty")
    ban: tuple[str, ...] = with_default(TokenOptions, "ban")
    unban: tuple[str, ...] = with_default(Sampler, "unban")
    symbols: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        for text in self.ban:
            if not text.strip():
                raise UserError(f"a ban must be a text to be left out, not {text!r}")
        exclude(*((f"ban of {name!r}", name in self.unban, "its unban") for name in self.ban))

    @classmethod
    def of(
        cls,
        repetition_penalty: float | None,
        ban: str | Sequence[str] | None,
        unban: str | Sequence[str] | None = None,
    ) -> Restriction:
        """Build a restriction; None stands for no restriction, a text for a list of one."""
        named = {"repetition_penalty": repetition_penalty, "ban": ban, "unban": unban}
        given: dict[str, Any] = {name: value for name, value in named.items() if value is not None}
        return cls(**given)

    def without(self, symbols: Mapping[int, str], possible: Sequence[int]) -> Restriction:
        """Return the same with all symbols banned except those of ``unban``.

        Args:
            symbols: Names by ids.
            possible: Ids that the network predicts.

        Raises:
            UserError: If a name of ``unban`` is not a symbol, or is never predicted.
        """
        for name in self.unban:
            ids = [i for i, own in symbols.items() if own == name]
            some = ", ".join([*dict.fromkeys(symbols.values())][:5]) or "none"
            require(
                (f"unban of {name!r}", ids, f"a symbol that is banned by default (here: {some})"),
                (f"unban of {name!r}", {*ids} & {*possible}, "a model that predicts it"),
            )
        never = tuple(i for i, name in symbols.items() if name not in self.unban)
        return replace(self, symbols=never)

    @property
    def settings(self) -> dict[str, Any]:
        """The options that are set, for the record."""
        found: dict[str, Any] = {}
        if self.repetition_penalty != 1:
            found["repetition_penalty"] = self.repetition_penalty
        found |= {"unban": list(self.unban)} if self.unban else {}
        return found | ({"ban": list(self.ban)} if self.ban else {})

    def phrases(self, spell: Spell) -> list[tuple[int, ...]]:
        """Return the bans of several tokens as ids; for ``spell`` see ``around``."""
        spellings = (tuple(ids) for text in self.ban for ids in spell(text))
        return [spelling for spelling in spellings if len(spelling) > 1]

    def around(self, denoiser: Denoiser, spell: Spell, watched: Tensor | None = None) -> Denoiser:
        """Wrap a denoiser in the logits processors.

        Args:
            denoiser: The denoiser.
            spell: Returns the ids of every spelling of a text that counts as the same.
            watched: See ``BannedPhrases``.

        Raises:
            UserError: If everything is banned.
        """
        phrases = self.phrases(spell)
        ids = [*self.symbols, *(i for text in self.ban for i, *more in spell(text) if not more)]
        if self.repetition_penalty != 1:
            denoiser = RepetitionPenalty(denoiser, self.repetition_penalty)
        if ids:
            denoiser = Banned(denoiser, torch.tensor(ids))
        # Outermost, because it checks how many ids are left.
        return BannedPhrases(denoiser, phrases, watched) if phrases else denoiser


@dataclass(frozen=True, eq=False)
class Banned(DenoiserWrapper):
    """A denoiser that never predicts some ids.

    Args:
        ids: Shape (M,), int64.
        where: Shape (B, L), bool; the positions at which they are banned, None for all.

    Raises:
        UserError: If every id is banned.
    """

    ids: Tensor
    where: Tensor | None = None

    def __post_init__(self) -> None:
        if len(self.data_ids) == 0:
            raise UserError("every token is banned; allow at least one")

    @cached_property
    def data_ids(self) -> Tensor:
        known = self.inner.data_ids
        return known if self.where is not None else known[~torch.isin(known, self._never)]

    @cached_property
    def _never(self) -> Tensor:
        # An id that is not data needs no ban, and may lie outside the vocabulary.
        known = self.inner.data_ids
        return known[torch.isin(known, self.ids.to(known.device))]

    def __call__(
        self, xt: Tensor, t: Tensor, *, at: Tensor | None = None, valid: Tensor | None = None
    ) -> Tensor:
        """Return logits that are -inf for the banned ids; see ``Denoiser``."""
        logits = self.inner(xt, t, at=at, valid=valid)
        if self.where is None:
            return logits.index_fill_(-1, self._never, -math.inf)
        here = self.where if at is None else self.where[at]
        never = torch.zeros(logits.shape[-1], dtype=torch.bool, device=logits.device)
        never[self._never] = True
        return logits.masked_fill_(here[..., None] & never, -math.inf)


@dataclass(frozen=True, eq=False)
class BannedPhrases(DenoiserWrapper):
    """A denoiser whose predictions never complete a phrase, even if all are revealed at once.

    At a queried position a token is excluded if the visible tokens to its right are the rest of a
    phrase, and each position to its left has its token of the phrase or is queried as well. Of
    several positions revealed together, this prevents the rightmost from completing a phrase; the
    others are free. A phrase of given tokens alone stays.

    Args:
        phrases: Sequences of two or more ids that must not occur.
        watched: Shape (B, L), bool; spans in which something else prevents phrases. Only phrases
            that are not wholly inside such a span are handled here.

    Raises:
        UserError: If a phrase is too short, or no id might be left.
    """

    phrases: Sequence[Sequence[int]]
    watched: Tensor | None = None

    def __post_init__(self) -> None:
        if any(len(phrase) < 2 for phrase in self.phrases):
            raise UserError("a phrase has two tokens or more; ban a single one with Banned")
        parts = torch.tensor([i for phrase in self.phrases for i in phrase])
        known = self.inner.data_ids
        if bool(torch.isin(known, parts.to(known.device)).all()):
            raise UserError("the banned phrases use every token; allow at least one")

    def __call__(
        self, xt: Tensor, t: Tensor, *, at: Tensor | None = None, valid: Tensor | None = None
    ) -> Tensor:
        """Return logits that are -inf where a token would complete a phrase; see ``Denoiser``."""
        where = torch.ones_like(xt, dtype=torch.bool) if at is None else at
        logits = self.inner(xt, t, at=where, valid=valid)
        seen = xt if valid is None else xt.masked_fill(~valid, -1)
        index = where.flatten().cumsum(0).view_as(where) - 1
        for phrase in self.phrases:
            for first, completes in _completing(seen, where, phrase):
                if self.watched is not None and completes.numel():
                    completes = completes & ~self.watched.unfold(1, len(phrase), 1).all(2)
                span = index[:, first : first + completes.shape[1]]
                logits[span[completes], phrase[first]] = -math.inf
        return logits.view(*xt.shape, -1) if at is None else logits


def _completing(
    seen: Tensor, queried: Tensor, phrase: Sequence[int]
) -> Iterator[tuple[int, Tensor]]:
    """Yield for each token of a phrase the positions where it would complete the phrase.

    Args:
        seen: Visible ids, any other number where nothing is visible; shape (B, L), int64.
        queried: The positions to predict, shape (B, L), bool.
        phrase: K ids.

    Yields:
        The token's place j in the phrase, from the last to the first, and whether it completes the
        phrase that begins at column i, at column i + j; shape (B, L - K + 1), bool.
    """
    size = seen.shape[1] - len(phrase) + 1
    if size < 1:
        return
    there = [seen[:, j : j + size] == token for j, token in enumerate(phrase)]
    free = [queried[:, j : j + size] for j in range(len(phrase))]
    # Whether all tokens before j are there, or may be revealed in this step.
    possible = [torch.ones_like(free[0])]
    for j in range(len(phrase) - 1):
        possible.append(possible[-1] & (there[j] | free[j]))
    rest = torch.ones_like(free[0])
    for j in reversed(range(len(phrase))):
        yield j, free[j] & rest & possible[j]
        rest = rest & there[j]


@dataclass(frozen=True, eq=False)
class RepetitionPenalty(DenoiserWrapper):
    """A denoiser that makes tokens less likely if they are visible elsewhere in the row.

    Args:
        penalty: Above 0; positive logits are divided by it, negative ones multiplied.
    """

    penalty: float

    def __call__(
        self, xt: Tensor, t: Tensor, *, at: Tensor | None = None, valid: Tensor | None = None
    ) -> Tensor:
        """Return logits with the penalty; see ``Denoiser``."""
        where = torch.ones_like(xt, dtype=torch.bool) if at is None else at
        logits = self.inner(xt, t, at=where, valid=valid)
        visible = torch.isin(xt, self.data_ids)
        visible = visible if valid is None else visible & valid
        row, place = where.nonzero(as_tuple=True)
        elsewhere = visible[row]  # (N, L)
        elsewhere[torch.arange(len(row), device=xt.device), place] = False
        query, other = elsewhere.nonzero(as_tuple=True)
        token = xt[row[query], other]
        logit = logits[query, token]
        changed = torch.where(logit > 0, logit / self.penalty, logit * self.penalty)
        logits.index_put_((query, token), changed)
        return logits.view(*xt.shape, -1) if at is None else logits
