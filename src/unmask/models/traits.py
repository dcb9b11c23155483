"""What a network does, found by asking it: a few short rows take the place of knowing its name.

Positions, the number of logits, whether padding leaks into a row: a configuration says these in as
many ways as there are architectures, and some say it wrongly. So a model is called on rows of a
dozen tokens when it is opened, and what it answers is remembered as long as it lives.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, pad
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel

from unmask.errors import UserError
from unmask.models.exclusive import exclusive
from unmask.models.time_conditioning import conditioning_of

_SHORT, _LONG, _LONGEST = 4, 13, 16
_SAME = 1e-3
"""Largest difference of logits that counts as rounding, over the largest logit, in float32."""


@dataclass(frozen=True)
class Traits:
    """What is known of a masked language model.

    Attributes:
        vocab_size: Number of logits of a position, V.
        entries: Ids that it has embeddings for.
        shortest: Fewest tokens of a row that it computes.
        first: Position id of a row's first token.
        head_apart: Whether its head can be kept to some positions, see ``only_at``.
        keeps_rows_apart: Whether a padded row in a batch is what it is alone.
        draws: Whether it draws random numbers to compute its answer.
    """

    vocab_size: int
    entries: int
    shortest: int
    first: int
    head_apart: bool
    keeps_rows_apart: bool
    draws: bool


_KNOWN: WeakKeyDictionary[nn.Module, tuple[tuple[int, int], Traits]] = WeakKeyDictionary()


def traits_of(model: PreTrainedModel) -> Traits:
    """Return what is known of a bare model; it is asked once, and anew when it was changed.

    Raises:
        UserError: As ``ask``.
    """
    state = (id(conditioning_of(model)), entries_of(model))
    known = _KNOWN.get(model)
    if known is None or known[0] != state:
        known = _KNOWN[model] = (state, ask(model))
    return known[1]


@torch.no_grad()
def ask(model: PreTrainedModel) -> Traits:
    """Call a masked language model on a few rows.

    Raises:
        UserError: If it cannot be called on rows of any length, does not answer position by
            position, or what it says of a token does not depend on the other tokens.
    """
    with evaluating(model):
        shortest, vocab_size = shortest_row(model)
        try:
            return _asked(model, shortest, vocab_size)
        except (UserError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            # What an architecture raises where it cannot go on is its own.
            why = f"it does not compute rows of any length ({_said(error)})"
            raise _unfit(model, why) from error


def _asked(model: PreTrainedModel, shortest: int, vocab_size: int) -> Traits:
    limit = position_limit(model)
    row = _words(model, max(shortest, min(_SHORT, limit or _SHORT)))
    if not (_sees(model, row) or _sees_once_trained(model, row)):
        raise _unfit(model, "what it predicts does not depend on the other tokens (on this device)")
    long = _words(model, _length(model, len(row[0]), limit))
    together, mask = _beside(model, row, long)
    draws = not same(logits_of(model, long), logits_of(model, together, mask)[1:])
    alone = logits_of(model, row, draws=draws)
    answers = logits_of(model, together, mask, draws)
    return Traits(
        vocab_size=vocab_size,
        entries=entries_of(model),
        shortest=shortest,
        first=_positions(model)[1],
        head_apart=_has_head_apart(model, row, alone, draws),
        # What is drawn for a row may depend on how long it is.
        keeps_rows_apart=not draws and same(alone, answers[:1, : len(row[0])]),
        draws=draws,
    )


def shortest_row(model: PreTrainedModel) -> tuple[int, int]:
    """Return the length of the shortest row that a model computes, and the number of logits.

    Raises:
        UserError: If it computes no short row, or does not answer position by position.
    """
    reason = ""
    for length in range(1, _LONGEST + 1):
        ids = _words(model, length)
        try:
            answer = logits_of(model, ids)
        except (UserError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            reason = _said(error)
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


def logits_of(
    model: PreTrainedModel, ids: Tensor, mask: Tensor | None = None, draws: bool = False
) -> Tensor:
    """Return the logits of a bare model, at time 1 if it is told the time.

    Args:
        model: A masked language model.
        ids: Shape (B, L), int64.
        mask: Shape (B, L), int64; 0 on padding, None for no padding.
        draws: See ``Traits``.

    Returns:
        Shape (B, L, V).
    """
    conditioning = conditioning_of(model)
    t = torch.ones(len(ids), device=ids.device)
    told = nullcontext() if conditioning is None else conditioning.at(t)
    network: Any = model
    with told, repeatable(draws, ids.device):
        answer: Tensor = network(input_ids=ids, attention_mask=mask).logits
    return answer


def entries_of(model: PreTrainedModel) -> int:
    """Return how many ids a model has embeddings for."""
    table: Any = model.get_input_embeddings()
    return len(table if isinstance(table, Tensor) else table.weight)


def position_limit(model: PreTrainedModel) -> int | None:
    """Return the longest text the model has positions for, or None if it has no limit."""
    with evaluating(model), torch.no_grad():
        limit = _positions(model)[0]
    config: Any = model.config
    said = getattr(config.get_text_config(), "max_position_embeddings", None)
    if said is not None:
        said -= _extra_tokens(model)
    return min((n for n in (limit, said) if n is not None), default=None)


@torch.no_grad()
def check_masks(model: PreTrainedModel, mask_token_id: int) -> None:
    """Make sure that a network tells the masks of a row apart, by their positions.

    RoBERTa and its relatives give all padding one position, and know padding by its id alone.

    Raises:
        UserError: If it gives one position to all masks.
    """
    length = max(_SHORT, traits_of(model).shortest)
    if (position_limit(model) or length) < length:
        return
    words = _words(model, length)
    with evaluating(model):
        found, kept = (
            _read_in_order(model, row) for row in (words, torch.full_like(words, mask_token_id))
        )
    if found and not kept:
        raise _unfit(
            model,
            f"it takes masks for padding; pad_token_id in config.json is {mask_token_id}, the id "
            "of the mask token, so set it to that of the padding token",
        )


def padded(model: PreTrainedModel) -> tuple[Tensor, Tensor, Tensor]:
    """Return a short row (1, S), and the same padded above a longer one, (2, L), with its mask."""
    limit = position_limit(model)
    row = _words(model, min(_SHORT, limit or _SHORT))
    return row, *_beside(model, row, _words(model, _length(model, row.shape[1], limit)))


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
def repeatable(draws: bool, device: torch.device) -> Iterator[None]:
    """Within this context a network that draws random numbers draws the same ones every time."""
    if not draws:
        yield
        return
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(0)
        yield


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


def _unfit(model: PreTrainedModel, why: str) -> UserError:
    return UserError(f"a {model.config.model_type} model cannot be used here: {why}")


def _said(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(":")


def _words(model: PreTrainedModel, length: int) -> Tensor:
    """Return a row (1, length) of ordinary ids, from all over the vocabulary and in no order."""
    kinds = ("pad", "mask", "bos", "eos", "cls", "sep", "unk")
    # A model of several end symbols has a list of them.
    said = [getattr(model.config, f"{kind}_token_id", None) for kind in kinds]
    special = {i for ids in said for i in (ids if isinstance(ids, list) else [ids])}
    known = [i for i in range(entries_of(model)) if i not in special]
    step = torch.arange(1, length + 1, dtype=torch.float64)
    # Multiples of the golden ratio modulo 1.
    place = (step * 0.6180339887498949 % 1 * len(known)).long()
    return torch.tensor(known)[place][None].to(model.device)


def _length(model: PreTrainedModel, short: int, limit: int | None) -> int:
    """Return how long a row has to be to show how a model treats long ones."""
    pieces = [
        size
        for name, size in model.config.to_dict().items()
        if name.endswith("_chunk_length") and isinstance(size, int)
    ]
    wanted = max([_LONG, 2 * short, *(3 * size for size in pieces)])
    return max(short, min(wanted, limit or wanted))


def _beside(model: PreTrainedModel, row: Tensor, long: Tensor) -> tuple[Tensor, Tensor]:
    """Return a padded row above a longer one, (2, L), and the attention mask."""
    filler = getattr(model.config, "pad_token_id", None)
    more = long.shape[1] - row.shape[1]
    ids = torch.cat([pad(row, (0, more), value=0 if filler is None else int(filler)), long])
    mask = torch.cat([pad(torch.ones_like(row), (0, more)), torch.ones_like(long)])
    return ids, mask


def same(one: Tensor, other: Tensor) -> bool:
    """Return whether two answers of a network differ by rounding at most."""
    rounding = max(_SAME, 16 * torch.finfo(one.dtype).eps)
    return bool((one - other).abs().max() <= rounding * one.abs().max())


def _sees(model: PreTrainedModel, row: Tensor) -> bool:
    """Return whether another first token changes what is said of the last."""
    other = row.clone()
    other[0, 0] = row[0, 1]
    return not torch.equal(logits_of(model, row)[0, -1], logits_of(model, other)[0, -1])


def _sees_once_trained(model: PreTrainedModel, row: Tensor) -> bool:
    """Return whether it does so without the zeros that the layers of a fresh network may have."""
    zeros = [weight for weight in model.parameters() if not weight.any()]
    for weight in zeros:
        weight.copy_(torch.arange(weight.numel()).sin().view_as(weight))
    try:
        return bool(zeros) and _sees(model, row)
    finally:
        for weight in zeros:
            weight.zero_()


def _has_head_apart(model: PreTrainedModel, row: Tensor, whole: Tensor, draws: bool) -> bool:
    at = torch.zeros_like(row, dtype=torch.bool)
    at[:, -1] = True
    try:
        with only_at(model, at):
            part = logits_of(model, row, draws=draws)
    except torch.OutOfMemoryError:
        raise
    except Exception:
        # A body that returns something else than hidden states, or a head that reads more of them.
        return False
    return part.shape[:2] == (1, 1) and same(whole[:, -1], part[:, 0])


class _Lookups(TorchFunctionMode):
    """Notes which rows are read of every table, and how many it has."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[Tensor, int]] = []

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        if func is embedding:
            self.found.append((args[0], len(args[1])))
        return func(*args, **(kwargs or {}))

    def in_order(self, length: int) -> list[tuple[int, int]]:
        """Return size and first row of the tables that were read in the order of the tokens."""
        tables = []
        for index, size in self.found:
            # Behind the tokens some networks add padding of their own.
            read = index.reshape(-1, index.shape[-1])[0, :length] if index.ndim else index[None]
            if len(read) == length and bool((read.diff() == 1).all()):
                tables.append((size, int(read[0])))
        return tables


def _positions(model: PreTrainedModel) -> tuple[int | None, int]:
    """Return how many tokens a model has positions for, and the position id of the first.

    A table of positions is one that is read in order, whatever it is called. Without one the first
    is 0, and there is no limit but that of the configuration.
    """
    # Networks for an experiment may be shorter than anything.
    for length in (_SHORT, _LONGEST, 2):
        try:
            tables = _read_in_order(model, _words(model, length))
        except (UserError, torch.OutOfMemoryError):
            raise
        except Exception:
            # What cannot be computed at all is refused elsewhere.
            continue
        extra = _extra_tokens(model)
        return min(((size - first - extra, first) for size, first in tables), default=(None, 0))
    return None, 0


def _read_in_order(model: PreTrainedModel, row: Tensor) -> list[tuple[int, int]]:
    """Return size and first row of the tables that are read in the order of a row's tokens."""
    noted = _Lookups()
    with noted:
        logits_of(model, row)
    return noted.in_order(row.shape[1] + _extra_tokens(model))


def _extra_tokens(model: PreTrainedModel) -> int:
    conditioning = conditioning_of(model)
    return 0 if conditioning is None else conditioning.extra_tokens
