r"""What a sampler may not write, or writes less willingly: denoisers around a denoiser.

    Banned             ids that are never written, or not at some positions
    BannedPhrases      several ids that never come to stand side by side
    RepetitionPenalty  tokens that the row already shows become less likely:
                       logit / penalty where it is positive, logit * penalty where it is negative

Filters and temperature act on what these return. The penalty sees every visible token of the row,
the prompt and what stands to the right included, but for the position that is asked about. It does
not count how often a token occurs, and, as its authors define it, it depends on where a network
puts the zero of its logits.

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

from unmask.diffusion.denoiser import Around, Denoiser
from unmask.errors import UserError
from unmask.sampling.samplers.base import Sampler, TokenOptions
from unmask.validation import Options, with_default

Spell = Callable[[str], list[list[int]]]
"""text -> its ids, in every way that counts as the same"""


@dataclass(frozen=True)
class Restriction(Options):
    """What is asked of the tokens that are written.

    Args:
        repetition_penalty: Above 1 for less repetition, below 1 for more; 1 for none.
        ban: Texts that are never written, as the tokenizer spells them.
        unban: Names of symbols that may be written, such as ``<unk>``.
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
        for name in {*self.ban} & {*self.unban}:
            raise UserError(f"{name!r} is both banned and not; leave it out of one of the two")

    @classmethod
    def of(
        cls,
        repetition_penalty: float | None,
        ban: str | Sequence[str] | None,
        unban: str | Sequence[str] | None = None,
    ) -> Restriction:
        """Return what is asked for; None for nothing, and one text for a list of one."""
        asked = {"repetition_penalty": repetition_penalty, "ban": ban, "unban": unban}
        given: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
        return cls(**given)

    def without(self, symbols: Mapping[int, str], possible: Sequence[int]) -> Restriction:
        """Return the same that also keeps symbols from being written, but for those of ``unban``.

        Args:
            symbols: Names by ids.
            possible: Ids that the network predicts.

        Raises:
            UserError: If a name of ``unban`` is no symbol, or one that is never predicted.
        """
        for name in self.unban:
            ids = [i for i, own in symbols.items() if own == name]
            if not ids:
                some = ", ".join([*dict.fromkeys(symbols.values())][:5]) or "none"
                raise UserError(
                    f"{name!r} is no symbol that is kept from being written, of which this "
                    f"tokenizer has {some}; leave it out of unban"
                )
            if not {*ids} & {*possible}:
                raise UserError(f"{name!r} is never predicted by this model; leave it out of unban")
        never = tuple(i for i, name in symbols.items() if name not in self.unban)
        return replace(self, symbols=never)

    @property
    def settings(self) -> dict[str, Any]:
        """What is asked for, for the record; empty if nothing is."""
        found: dict[str, Any] = {}
        if self.repetition_penalty != 1:
            found["repetition_penalty"] = self.repetition_penalty
        found |= {"unban": list(self.unban)} if self.unban else {}
        return found | ({"ban": list(self.ban)} if self.ban else {})

    def phrases(self, spell: Spell) -> list[tuple[int, ...]]:
        """Return the ids of the bans that are several tokens; for ``spell`` see ``around``."""
        spellings = (tuple(ids) for text in self.ban for ids in spell(text))
        return [spelling for spelling in spellings if len(spelling) > 1]

    def around(self, denoiser: Denoiser, spell: Spell, watched: Tensor | None = None) -> Denoiser:
        """Return a denoiser that keeps to this.

        Args:
            denoiser: Whose guesses are restricted.
            spell: Gives the ids of a text, in every way that counts as the same.
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
        # Outermost, so that it knows how much is left.
        return BannedPhrases(denoiser, phrases, watched) if phrases else denoiser


@dataclass(frozen=True, eq=False)
class Banned(Around):
    """A denoiser that never guesses some ids.

    Args:
        ids: Shape (M,), int64.
        where: Shape (B, L), bool; the positions at which they are ruled out, None for all.

    Raises:
        UserError: If no id is left to write.
    """

    ids: Tensor
    where: Tensor | None = None

    def __post_init__(self) -> None:
        if len(self.data_ids) == 0:
            raise UserError("every token is banned; leave at least one to write")

    @cached_property
    def data_ids(self) -> Tensor:
        known = self.inner.data_ids
        return known if self.where is not None else known[~torch.isin(known, self._never)]

    @cached_property
    def _never(self) -> Tensor:
        # An id that is no data needs no ban, and may lie outside the vocabulary.
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
class BannedPhrases(Around):
    """A denoiser whose guesses never complete a phrase, also if all of them are written at once.

    Among the positions asked about, a token is ruled out where the visible ones to its right spell
    the rest of a phrase, and where each to its left does so or is asked about as well. Of several
    that are written together the rightmost is thus kept from completing anything, the others are
    free. A phrase that the given tokens spell by themselves stays.

    Args:
        phrases: Ids that must not come to stand side by side, two or more each.
        watched: Shape (B, L), bool; stretches in which something else keeps phrases from being
            written. Only what crosses their edges, or lies outside, is looked after here.

    Raises:
        UserError: If a phrase is too short, or there might be nothing left to write.
    """

    phrases: Sequence[Sequence[int]]
    watched: Tensor | None = None

    def __post_init__(self) -> None:
        if any(len(phrase) < 2 for phrase in self.phrases):
            raise UserError("a phrase has two tokens or more; ban a single one with Banned")
        parts = torch.tensor([i for phrase in self.phrases for i in phrase])
        known = self.inner.data_ids
        if bool(torch.isin(known, parts.to(known.device)).all()):
            raise UserError("the banned phrases use every token; leave at least one to write")

    def __call__(
        self, xt: Tensor, t: Tensor, *, at: Tensor | None = None, valid: Tensor | None = None
    ) -> Tensor:
        """Return logits that are -inf where a guess would complete a phrase; see ``Denoiser``."""
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


def _completing(seen: Tensor, asked: Tensor, phrase: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
    """Yield for each token of a phrase where writing it could be what completes the phrase.

    Args:
        seen: Visible ids, anything else where nothing is visible; shape (B, L), int64.
        asked: Where a guess is wanted, shape (B, L), bool.
        phrase: K ids.

    Yields:
        The token's place j in the phrase, from the last to the first, and whether it completes the
        phrase that begins at column i, at column i + j; shape (B, L - K + 1), bool.
    """
    size = seen.shape[1] - len(phrase) + 1
    if size < 1:
        return
    there = [seen[:, j : j + size] == token for j, token in enumerate(phrase)]
    wanted = [asked[:, j : j + size] for j in range(len(phrase))]
    # Whether all tokens before j stand there, or may be written in this step.
    possible = [torch.ones_like(wanted[0])]
    for j in range(len(phrase) - 1):
        possible.append(possible[-1] & (there[j] | wanted[j]))
    rest = torch.ones_like(wanted[0])
    for j in reversed(range(len(phrase))):
        yield j, wanted[j] & rest & possible[j]
        rest = rest & there[j]


@dataclass(frozen=True, eq=False)
class RepetitionPenalty(Around):
    """A denoiser that makes the tokens less likely that the row already shows elsewhere.

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
        asked, other = elsewhere.nonzero(as_tuple=True)
        token = xt[row[asked], other]
        logit = logits[asked, token]
        changed = torch.where(logit > 0, logit / self.penalty, logit * self.penalty)
        logits.index_put_((asked, token), changed)
        return logits.view(*xt.shape, -1) if at is None else logits
