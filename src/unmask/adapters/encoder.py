"""Any Hugging Face ``*ForMaskedLM`` as a denoiser, without touching its code.

Every encoder of the library is a body that ends in hidden states and a head that maps each of them
to logits, position by position. One forward hook on the body keeps only the hidden states that were
asked for, so the head, whatever it is called, runs on N rows instead of B x L. No architecture is
named here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import repeat
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from unmask.adapters.compat import switch_token_dropout_off, wrapped_in
from unmask.adapters.conditioning import conditioning_of
from unmask.adapters.exclusive import exclusive
from unmask.errors import UserError

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
        first: Position id of the first token.
        not_data: Shape (V - V',), int64, the ids that are never predicted.
    """

    def __init__(self, model: nn.Module, not_data: Iterable[int]) -> None:
        self.model = model
        self.bare: PreTrainedModel = unwrap(model)
        switch_token_dropout_off(self.bare)
        self.vocab_size = int(self.bare.get_output_embeddings().out_features)
        self.first = first_position(self.bare)
        self.data_ids, self.not_data = told_apart(self.vocab_size, not_data, self.bare.device)

    @property
    def told_time(self) -> bool:
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
        mask = None if valid is None or bool(valid.all()) else valid.long()
        conditioning = conditioning_of(self.bare)
        told = nullcontext() if conditioning is None else conditioning.at(t)
        with told, only_at(self.bare, at):
            logits = self.model(input_ids=xt, attention_mask=mask).logits
        # In place: the linear layer does not need its output for the backward pass.
        logits.index_fill_(-1, self.not_data, float("-inf"))
        return logits if at is None else logits[0]


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
    vocab_size: int, not_data: Iterable[int], device: torch.device
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


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Within this context a model is without dropout; then each of its parts is as it was."""
    training = [part for part in model.modules() if part.training]
    model.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


@contextmanager
def only_at(model: PreTrainedModel, at: Tensor | tuple[Tensor, ...] | None) -> Iterator[None]:
    """Within this context the model's head sees only the positions ``at``, as one row.

    No other thread calls the model meanwhile, which would see the same.

    Args:
        model: A masked language model, bare.
        at: Shape (B, L), bool; or rows and columns, two of shape (N,), int64; None for everywhere.
    """

    def keep(_module: nn.Module, _args: Any, output: Any) -> Any:
        output.last_hidden_state = output.last_hidden_state[at][None]
        return output

    with exclusive(model):
        handle = None if at is None else model.base_model.register_forward_hook(keep)
        try:
            yield
        finally:
            if handle is not None:
                handle.remove()


def not_data_ids(tokenizer: PreTrainedTokenizerBase, vocab_size: int) -> list[int]:
    """Return the ids below ``vocab_size`` that are no part of any text.

    These are the special symbols but unknown and end of text, and the rows by which a model's
    vocabulary is larger than its tokenizer's.
    """
    text = {tokenizer.unk_token_id, tokenizer.eos_token_id, tokenizer.sep_token_id}
    known = set(tokenizer.get_vocab().values()) - (set(tokenizer.all_special_ids) - text)
    return sorted(set(range(vocab_size)) - known)


def position_limit(model: PreTrainedModel) -> int | None:
    """Return the longest text the model has positions for, or None if it has no limit."""
    limit = _positions(model)
    conditioning = conditioning_of(model)
    return limit if limit is None or conditioning is None else limit - conditioning.extra_tokens


def first_position(model: PreTrainedModel) -> int:
    """Return the position id of a text's first token, which for RoBERTa and its kin is not 0."""
    learned = _learned_positions(model)
    return 0 if learned is None or learned.padding_idx is None else learned.padding_idx + 1


def _positions(model: PreTrainedModel) -> int | None:
    learned = _learned_positions(model)
    if learned is None:
        return getattr(model.config, "max_position_embeddings", None)
    return learned.num_embeddings - first_position(model)


def _learned_positions(model: PreTrainedModel) -> nn.Embedding | None:
    for name, module in model.base_model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            return module
    return None
