"""Any Hugging Face ``*ForMaskedLM`` as a denoiser, without touching its code.

Every encoder of the library is a body that ends in hidden states and a head that maps each of them
to logits, position by position. One forward hook on the body keeps only the hidden states that were
asked for, so the head, whatever it is called, runs on N rows instead of B x L. No architecture is
named here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from itertools import repeat
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from unmask.data.text import TextCodec
from unmask.errors import UserError
from unmask.models.compat import switch_token_dropout_off, wrapped_in
from unmask.models.time_conditioning import conditioning_of
from unmask.models.traits import Traits, only_at, repeatable, traits_of

_CPU_TOKENS = 2**10


class EncoderDenoiser:
    """A denoiser that is told t if its model has an input for it, see ``conditioning.attach``.

    Without one the guess depends on what is visible, not on t. For masked diffusion with one
    schedule for all tokens nothing is lost by that: the optimal guess does not depend on t (Zheng
    et al. 2024, arXiv:2409.02908, Proposition 1).

    Args:
        model: A masked language model, bare or wrapped (DistributedDataParallel, compiled).
        not_data: Ids that never occur in data and must not be predicted.

    Attributes:
        bare: The model without its wrapping.
        traits: What was found out about it.
        first: Position id of the first token.
        not_data: Shape (V - V',), int64, the ids that are never predicted.

    Raises:
        UserError: If the network cannot be used, see ``traits.ask``.
    """

    def __init__(self, model: nn.Module, not_data: Iterable[int]) -> None:
        self.model = model
        self.bare: PreTrainedModel = unwrap(model)
        switch_token_dropout_off(self.bare)
        self.traits = traits = traits_of(self.bare)
        self.vocab_size, self.first = traits.vocab_size, traits.first
        # What has a logit but no embedding could be written and not be read again.
        not_data = (*not_data, *range(traits.entries, traits.vocab_size))
        self.data_ids, self.not_data = told_apart(self.vocab_size, not_data, self.bare.device)

    @property
    def uses_time(self) -> bool:
        """Whether the guesses depend on t."""
        return conditioning_of(self.bare) is not None

    def __call__(
        self, xt: Tensor, t: Tensor, *, at: Tensor | None = None, valid: Tensor | None = None
    ) -> Tensor:
        """Return logits of p(x_0 | x_t), (N, V) at ``at`` or (B, L, V); see ``Denoiser``.

        Without gradients, and with ``at``, the network runs on those rows only that are asked
        about, on a CPU a few at a time; in training a batch keeps its shape.
        """
        if not torch.is_grad_enabled():
            xt, t, at, valid = only_rows(xt, t, at, valid)
        rows = rows_at_once(xt.shape[1], xt.device)
        if at is None or torch.is_grad_enabled() or rows >= len(xt):
            return self._run(xt, t, at, valid)
        count = len(xt.split(rows))
        valids = repeat(None, count) if valid is None else valid.split(rows)
        pieces = zip(xt.split(rows), t.split(rows), at.split(rows), valids, strict=True)
        return one_by_one((self._run(*piece) for piece in pieces), int(at.sum()))

    def _run(self, xt: Tensor, t: Tensor, at: Tensor | None, valid: Tensor | None) -> Tensor:
        logits = apart(self._logits, self.traits, xt, t, at, valid)
        # In place: the linear layer does not need its output for the backward pass.
        return logits.index_fill_(-1, self.not_data, float("-inf"))

    def _logits(self, xt: Tensor, t: Tensor, at: Tensor | None, valid: Tensor | None) -> Tensor:
        length, traits = xt.shape[1], self.traits
        if length < traits.shortest:
            more = (0, traits.shortest - length)
            valid = pad(torch.ones_like(xt, dtype=torch.bool) if valid is None else valid, more)
            xt, at = pad(xt, more), None if at is None else pad(at, more)
        mask = None if valid is None else valid.long()
        conditioning = conditioning_of(self.bare)
        told = nullcontext() if conditioning is None else conditioning.at(t)
        apart = at if traits.head_apart else None
        with told, repeatable(traits.draws, xt.device), only_at(self.bare, apart):
            logits: Tensor = self.model(input_ids=xt, attention_mask=mask).logits
        if at is None:
            return logits[:, :length]
        return logits[0] if traits.head_apart else logits[at]


def apart(
    run: Callable[[Tensor, Tensor, Tensor | None, Tensor | None], Tensor],
    traits: Traits,
    xt: Tensor,
    t: Tensor,
    at: Tensor | None,
    valid: Tensor | None,
) -> Tensor:
    """Run a network so that what it says of a row does not depend on the others.

    The arguments and the result are those of ``by_length``; ``valid`` may be None for no padding.
    """
    if valid is None or bool(valid.all()):
        return run(xt, t, at, None)
    return run(xt, t, at, valid) if traits.keeps_rows_apart else by_length(run, xt, t, at, valid)


def by_length(
    run: Callable[[Tensor, Tensor, Tensor | None, Tensor | None], Tensor],
    xt: Tensor,
    t: Tensor,
    at: Tensor | None,
    valid: Tensor,
) -> Tensor:
    """Run a network into which padding leaks on the rows of one length after the other.

    Args:
        run: The network; takes and returns what a ``Denoiser`` does, and gets no padding.
        xt: As of a ``Denoiser``, like ``t``, ``at`` and ``valid``.

    Returns:
        As of a ``Denoiser``; 0 where padding is asked about.
    """
    where = torch.ones_like(valid) if at is None else at
    sizes, parts, places = valid.sum(1), [], []
    place = (where.flatten().cumsum(0) - 1).view_as(xt)
    for size in sizes.unique().tolist():
        rows = (sizes == size).nonzero()[:, 0]
        kept = valid[rows]
        asked = where[rows][kept].view(len(rows), size)
        if asked.any():
            parts.append(run(xt[rows][kept].view(len(rows), size), t[rows], asked, None))
            places.append(place[rows][kept & where[rows]])
    if not parts:
        return run(xt, t, at, valid)
    found = torch.cat(parts)
    logits = found.new_zeros(int(where.sum()), found.shape[1])
    logits = logits.index_copy(0, torch.cat(places), found)
    return logits.view(*xt.shape, -1) if at is None else logits


def unwrap(model: nn.Module) -> Any:
    """Return the Hugging Face model inside DistributedDataParallel or torch.compile.

    Raises:
        UserError: If there is none.
    """
    while not isinstance(model, PreTrainedModel):
        inner = wrapped_in(model)
        if inner is None:
            raise UserError(f"{type(model).__name__} is not a Hugging Face model")
        model = inner
    return model


def rows_at_once(tokens: int, device: torch.device, share: int = 1) -> int:
    """Return how many rows of so many tokens a network without gradients runs on at a time.

    On a CPU more tokens than keep its cores busy bring no speed, only memory for what lies between
    the layers. Who needs memory for other things takes one part in ``share`` of that.
    """
    few = _CPU_TOKENS // share // max(1, tokens)
    return max(1, few) if device.type == "cpu" else 2**31


def one_by_one(pieces: Iterable[Tensor], count: int) -> Tensor:
    """Return pieces (n, V) of the logits in one tensor (count, V), as they are made."""
    answer, start = torch.empty(0), 0
    for piece in pieces:
        if not start:
            answer = piece.new_empty(count, piece.shape[1])
        answer[start : start + len(piece)] = piece
        start += len(piece)
    return answer


def told_apart(
    vocab_size: int, not_data: Iterable[int], device: torch.device | str
) -> tuple[Tensor, Tensor]:
    """Return the ids that can occur in data and those that cannot, each int64."""
    keep = torch.ones(vocab_size, dtype=torch.bool)
    keep[[i for i in not_data if i < vocab_size]] = False
    return keep.nonzero()[:, 0].to(device), (~keep).nonzero()[:, 0].to(device)


def only_rows(
    xt: Tensor, t: Tensor, at: Tensor | None, valid: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Return the rows of a ``Denoiser``'s arguments that are asked about; all if none is.

    In row-major order the positions asked about are the same without the other rows.
    """
    if at is None or len(at) == 1 or len(rows := at.any(1).nonzero()[:, 0]) in (0, len(at)):
        return xt, t, at, valid
    return xt[rows], t[rows], at[rows], None if valid is None else valid[rows]


def not_data_ids(tokenizer: PreTrainedTokenizerBase, vocab_size: int) -> list[int]:
    """Return the ids below ``vocab_size`` that are no part of any text.

    These are the special symbols but unknown and end of text, and the rows by which a model's
    vocabulary is larger than its tokenizer's.
    """
    text = {tokenizer.unk_token_id, tokenizer.eos_token_id, tokenizer.sep_token_id}
    known = set(tokenizer.get_vocab().values()) - (set(tokenizer.all_special_ids) - text)
    return sorted(set(range(vocab_size)) - known)


def check_vocabulary(codec: TextCodec, entries: int) -> None:
    """Make sure that a model has an embedding for every id that a text can have.

    Raises:
        UserError: If it has not.
    """
    tokenizer = codec.tokenizer
    laid_out = {*codec.start, codec.end, tokenizer.mask_token_id, tokenizer.pad_token_id}
    beyond = [
        token
        for token, i in tokenizer.get_vocab().items()
        if i >= entries and (i in laid_out or i not in codec.symbols)
    ]
    if beyond:
        more = f" and {len(beyond) - 1} more" if beyond[1:] else ""
        raise UserError(
            f"the tokenizer has {beyond[0]!r}{more} beyond the {entries} embeddings of the model; "
            "it is the tokenizer of another one, or the model was saved without "
            "resize_token_embeddings"
        )
