"""Properties of a network that its configuration does not state reliably, found by calling it.

The number of logits, the shortest input, whether padding leaks into a sequence: architectures state
these in many ways, and sometimes wrong. So a model is called on short sequences when it is opened,
and the result is cached for its lifetime.
"""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers import PreTrainedModel

from unmask.errors import UserError, explained, reason_of
from unmask.models.forward import evaluating, logits_of, only_at
from unmask.models.positions import (
    entries_of,
    position_limit,
    positions_of,
    probe_ids,
    tables_in_order,
)
from unmask.models.time_conditioning import conditioning_of

_SHORT, _LONG, _LONGEST = 4, 13, 16
_SAME = 1e-3
"""Largest difference of logits that counts as rounding, over the largest logit, in float32."""


@dataclass(frozen=True)
class Traits:
    """Properties of a masked language model.

    Attributes:
        vocab_size: Number of logits per position, V.
        entries: Number of ids with embeddings.
        shortest: Fewest tokens of a sequence that it accepts.
        first: Position id of the first token.
        selective_head: Whether its head can run on some positions only, see ``forward.only_at``.
        batch_invariant: Whether the logits of a padded sequence do not depend on its batch.
        draws: Whether it draws random numbers in evaluation mode.
    """

    vocab_size: int
    entries: int
    shortest: int
    first: int
    selective_head: bool
    batch_invariant: bool
    draws: bool


_KNOWN: WeakKeyDictionary[nn.Module, tuple[tuple[int, int], Traits]] = WeakKeyDictionary()


def traits_of(model: PreTrainedModel) -> Traits:
    """Return the traits of a bare model, from a cache unless the model has changed.

    Raises:
        UserError: As ``probe``.
    """
    state = (id(conditioning_of(model)), entries_of(model))
    known = _KNOWN.get(model)
    if known is None or known[0] != state:
        known = _KNOWN[model] = (state, probe(model))
    return known[1]


@torch.no_grad()
def probe(model: PreTrainedModel) -> Traits:
    """Find the traits of a masked language model by calls on a few short sequences.

    Raises:
        UserError: If it cannot be called on sequences of any length, does not return logits for
            each position, or its prediction of a token does not depend on the other tokens.
    """
    with evaluating(model):
        shortest, vocab_size = shortest_row(model)
        # Architectures raise errors of any type.
        what = f"{_unfit(model, 'it does not compute rows of any length')}"
        with explained(what, keep=(UserError, torch.OutOfMemoryError)):
            return _probed(model, shortest, vocab_size)


def _probed(model: PreTrainedModel, shortest: int, vocab_size: int) -> Traits:
    limit = position_limit(model)
    row = probe_ids(model, max(shortest, min(_SHORT, limit or _SHORT)))
    if not (_sees(model, row) or _sees_once_trained(model, row)):
        raise _unfit(model, "what it predicts does not depend on the other tokens (on this device)")
    long = probe_ids(model, _length(model, len(row[0]), limit))
    together, mask = _batch(model, row, long)
    draws = not same(logits_of(model, long), logits_of(model, together, mask)[1:])
    alone = logits_of(model, row, draws=draws)
    answers = logits_of(model, together, mask, draws)
    return Traits(
        vocab_size=vocab_size,
        entries=entries_of(model),
        shortest=shortest,
        first=positions_of(model)[1],
        selective_head=_has_selective_head(model, row, alone, draws),
        # The random numbers of a sequence may depend on its length.
        batch_invariant=not draws and same(alone, answers[:1, : len(row[0])]),
        draws=draws,
    )


def shortest_row(model: PreTrainedModel) -> tuple[int, int]:
    """Return the length of the shortest sequence that a model accepts, and the number of logits.

    Raises:
        UserError: If it accepts no short sequence, or does not return logits for each position.
    """
    reason = ""
    for length in range(1, _LONGEST + 1):
        ids = probe_ids(model, length)
        try:
            answer = logits_of(model, ids)
        except (UserError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            reason = reason_of(error)
            continue
        if answer.shape[:2] != ids.shape:
            raise _unfit(
                model,
                f"to a row of {length} tokens it gives {answer.shape[1]} predictions, not one for "
                "each",
            )
        return length, answer.shape[-1]
    if getattr(model.config, "pad_token_id", 0) is None:
        reason += "; pad_token_id in config.json is null, so set it to that of the padding token"
    raise _unfit(model, f"it computes no row of up to {_LONGEST} tokens ({reason})")


@torch.no_grad()
def check_masks(model: PreTrainedModel, mask_token_id: int) -> None:
    """Check that masks get different positions.

    RoBERTa and its relatives give all padding one position, and recognise padding by its id.

    Raises:
        UserError: If all masks get one position.
    """
    length = max(_SHORT, traits_of(model).shortest)
    if (position_limit(model) or length) < length:
        return
    words = probe_ids(model, length)
    with evaluating(model):
        found, kept = (
            tables_in_order(model, row) for row in (words, torch.full_like(words, mask_token_id))
        )
    if found and not kept:
        raise _unfit(
            model,
            f"it takes masks for padding; pad_token_id in config.json is {mask_token_id}, the id "
            "of the mask token, so set it to that of the padding token",
        )


def padded(model: PreTrainedModel) -> tuple[Tensor, Tensor, Tensor]:
    """Return a short sequence (1, S), and a batch of it and a longer one, (2, L), with the mask."""
    limit = position_limit(model)
    row = probe_ids(model, min(_SHORT, limit or _SHORT))
    return row, *_batch(model, row, probe_ids(model, _length(model, row.shape[1], limit)))


def _unfit(model: PreTrainedModel, why: str) -> UserError:
    return UserError(f"a {model.config.model_type} model cannot be used here: {why}")


def _length(model: PreTrainedModel, short: int, limit: int | None) -> int:
    """Return a length at which a model treats sequences as it does long ones."""
    pieces = [
        size
        for name, size in model.config.to_dict().items()
        if name.endswith("_chunk_length") and isinstance(size, int)
    ]
    wanted = max([_LONG, 2 * short, *(3 * size for size in pieces)])
    return max(short, min(wanted, limit or wanted))


def _batch(model: PreTrainedModel, row: Tensor, long: Tensor) -> tuple[Tensor, Tensor]:
    """Return a padded sequence and a longer one, (2, L), and the attention mask."""
    filler = getattr(model.config, "pad_token_id", None)
    more = long.shape[1] - row.shape[1]
    ids = torch.cat([pad(row, (0, more), value=0 if filler is None else int(filler)), long])
    mask = torch.cat([pad(torch.ones_like(row), (0, more)), torch.ones_like(long)])
    return ids, mask


def same(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors of logits differ by rounding at most."""
    rounding = max(_SAME, 16 * torch.finfo(one.dtype).eps)
    return bool((one - other).abs().max() <= rounding * one.abs().max())


def _sees(model: PreTrainedModel, row: Tensor) -> bool:
    """Return whether another first token changes the logits of the last."""
    other = row.clone()
    other[0, 0] = row[0, 1]
    return not torch.equal(logits_of(model, row)[0, -1], logits_of(model, other)[0, -1])


def _sees_once_trained(model: PreTrainedModel, row: Tensor) -> bool:
    """Return the same without the zeros that the layers of an untrained network may have."""
    zeros = [weight for weight in model.parameters() if not weight.any()]
    for weight in zeros:
        weight.copy_(torch.arange(weight.numel()).sin().view_as(weight))
    try:
        return bool(zeros) and _sees(model, row)
    finally:
        for weight in zeros:
            weight.zero_()


def _has_selective_head(model: PreTrainedModel, row: Tensor, whole: Tensor, draws: bool) -> bool:
    at = torch.zeros_like(row, dtype=torch.bool)
    at[:, -1] = True
    try:
        with only_at(model, at):
            part = logits_of(model, row, draws=draws)
    except torch.OutOfMemoryError:
        raise
    except Exception:
        # The body may return something else than hidden states, or the head may read more of them.
        return False
    return part.shape[:2] == (1, 1) and same(whole[:, -1], part[:, 0])
