"""Any Hugging Face ``*ForMaskedLM`` as a denoiser, without touching its code.

Every encoder of the library is a body that returns hidden states, and a head that maps each of them
to logits, position by position. A forward hook on the body keeps only the hidden states of the
queried positions, so the head runs on N positions instead of B x L. No architecture is named here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from itertools import repeat
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers import PreTrainedModel

from unmask.errors import UserError
from unmask.models.compat import switch_token_dropout_off, wrapped_in
from unmask.models.forward import only_at, repeatable
from unmask.models.time_conditioning import conditioning_of
from unmask.models.traits import Traits, traits_of

_CPU_TOKENS = 2**10


class EncoderDenoiser:
    """A denoiser, conditioned on t if its model has an input for it; see ``time_conditioning``.

    Without time conditioning the prediction depends on the visible tokens only. For masked
    diffusion with one schedule for all tokens this loses nothing: the optimal prediction does not
    depend on t (Zheng et al. 2024, arXiv:2409.02908, Proposition 1).

    Args:
        model: A masked language model, bare or wrapped (DistributedDataParallel, compiled).
        not_data: Ids that never occur in data and must not be predicted.

    Attributes:
        bare: The model without its wrapper.
        traits: Its properties.
        first: Position id of the first token.
        not_data: Shape (V - V',), int64; the ids that are never predicted.

    Raises:
        UserError: If the network cannot be used, see ``traits.probe``.
    """

    def __init__(self, model: nn.Module, not_data: Iterable[int]) -> None:
        self.model = model
        self.bare: PreTrainedModel = unwrap(model)
        switch_token_dropout_off(self.bare)
        self.traits = traits = traits_of(self.bare)
        self.vocab_size, self.first = traits.vocab_size, traits.first
        # An id with a logit but no embedding could be generated but not read again.
        not_data = (*not_data, *range(traits.entries, traits.vocab_size))
        self.data_ids, self.not_data = split_ids(self.vocab_size, not_data, self.bare.device)

    @property
    def uses_time(self) -> bool:
        """Whether the predictions depend on t."""
        return conditioning_of(self.bare) is not None

    def __call__(
        self, xt: Tensor, t: Tensor, *, at: Tensor | None = None, valid: Tensor | None = None
    ) -> Tensor:
        """Return logits of p(x_0 | x_t), (N, V) at ``at`` or (B, L, V); see ``Denoiser``.

        Without gradients and with ``at``, the network runs on the queried rows only, on a CPU a few
        at a time. In training a batch keeps its shape.
        """
        if not torch.is_grad_enabled():
            xt, t, at, valid = queried_rows(xt, t, at, valid)
        rows = rows_at_once(xt.shape[1], xt.device)
        if at is None or torch.is_grad_enabled() or rows >= len(xt):
            return self._run(xt, t, at, valid)
        count = len(xt.split(rows))
        valids = repeat(None, count) if valid is None else valid.split(rows)
        pieces = zip(xt.split(rows), t.split(rows), at.split(rows), valids, strict=True)
        return gathered((self._run(*piece) for piece in pieces), int(at.sum()))

    def _run(self, xt: Tensor, t: Tensor, at: Tensor | None, valid: Tensor | None) -> Tensor:
        logits = run_batch_invariant(self._logits, self.traits, xt, t, at, valid)
        # In place, since a linear layer does not need its output for the backward pass.
        return logits.index_fill_(-1, self.not_data, float("-inf"))

    def _logits(self, xt: Tensor, t: Tensor, at: Tensor | None, valid: Tensor | None) -> Tensor:
        length, traits = xt.shape[1], self.traits
        if length < traits.shortest:
            more = (0, traits.shortest - length)
            valid = pad(torch.ones_like(xt, dtype=torch.bool) if valid is None else valid, more)
            xt, at = pad(xt, more), None if at is None else pad(at, more)
        mask = None if valid is None else valid.long()
        conditioning = conditioning_of(self.bare)
        at_time = nullcontext() if conditioning is None else conditioning.at(t)
        head_at = at if traits.selective_head else None
        with at_time, repeatable(traits.draws, xt.device), only_at(self.bare, head_at):
            logits: Tensor = self.model(input_ids=xt, attention_mask=mask).logits
        if at is None:
            return logits[:, :length]
        return logits[0] if traits.selective_head else logits[at]


def run_batch_invariant(
    run: Callable[[Tensor, Tensor, Tensor | None, Tensor | None], Tensor],
    traits: Traits,
    xt: Tensor,
    t: Tensor,
    at: Tensor | None,
    valid: Tensor | None,
) -> Tensor:
    """Run a network so that the logits of a row do not depend on the other rows.

    The arguments and the result are those of ``by_length``; ``valid`` may be None for no padding.
    """
    if valid is None or bool(valid.all()):
        return run(xt, t, at, None)
    return run(xt, t, at, valid) if traits.batch_invariant else by_length(run, xt, t, at, valid)


def by_length(
    run: Callable[[Tensor, Tensor, Tensor | None, Tensor | None], Tensor],
    xt: Tensor,
    t: Tensor,
    at: Tensor | None,
    valid: Tensor,
) -> Tensor:
    """Run a network whose logits depend on padding, on the rows of each length separately.

    Args:
        run: The network, with the arguments and result of a ``Denoiser``; it gets no padding.
        xt: As for a ``Denoiser``, like ``t``, ``at`` and ``valid``.

    Returns:
        As of a ``Denoiser``; 0 where padding is queried.
    """
    where = torch.ones_like(valid) if at is None else at
    sizes, parts, places = valid.sum(1), [], []
    place = (where.flatten().cumsum(0) - 1).view_as(xt)
    for size in sizes.unique().tolist():
        rows = (sizes == size).nonzero()[:, 0]
        kept = valid[rows]
        queried = where[rows][kept].view(len(rows), size)
        if queried.any():
            parts.append(run(xt[rows][kept].view(len(rows), size), t[rows], queried, None))
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
    """Return how many rows of ``tokens`` tokens to run at a time without gradients.

    On a CPU, more tokens than keep the cores busy bring no speed, but take memory for activations.
    A caller that needs memory for other things takes one part in ``share`` of that.
    """
    few = _CPU_TOKENS // share // max(1, tokens)
    return max(1, few) if device.type == "cpu" else 2**31


def gathered(pieces: Iterable[Tensor], count: int) -> Tensor:
    """Return chunks of logits (n, V) in one tensor (count, V), filled as they are computed."""
    answer, start = torch.empty(0), 0
    for piece in pieces:
        if not start:
            answer = piece.new_empty(count, piece.shape[1])
        answer[start : start + len(piece)] = piece
        start += len(piece)
    return answer


def split_ids(
    vocab_size: int, not_data: Iterable[int], device: torch.device | str
) -> tuple[Tensor, Tensor]:
    """Return the ids that can occur in data, and those that cannot, both int64."""
    keep = torch.ones(vocab_size, dtype=torch.bool)
    keep[[i for i in not_data if i < vocab_size]] = False
    return keep.nonzero()[:, 0].to(device), (~keep).nonzero()[:, 0].to(device)


def queried_rows(
    xt: Tensor, t: Tensor, at: Tensor | None, valid: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Return the queried rows of a ``Denoiser``'s arguments; all rows if none is queried.

    The queried positions, in row-major order, are the same without the other rows.
    """
    if at is None or len(at) == 1 or len(rows := at.any(1).nonzero()[:, 0]) in (0, len(at)):
        return xt, t, at, valid
    return xt[rows], t[rows], at[rows], None if valid is None else valid[rows]
