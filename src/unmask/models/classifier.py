"""Any Hugging Face ``*ForSequenceClassification`` as the classifier that guides generation.

It is called on partly masked sequences, so it should have been trained on texts with masks. A
sequence is laid out as its tokenizer does it, with the end symbol if there is one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, pad
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from unmask.data.text import TextCodec
from unmask.errors import UserError, did_you_mean
from unmask.models import loading
from unmask.models.compat import can_classify
from unmask.models.encoder import by_length
from unmask.models.exclusive import exclusive
from unmask.models.positions import position_limit
from unmask.models.traits import padded, same

PositionFunction = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""(ids, at, valid) -> numbers (N, D) for the N positions at ``at``."""


class TextClassifier:
    """log p(label | sequence) and its slopes, for one label; see ``sampling.guidance``.

    Args:
        model: A sequence classifier.
        codec: The tokenizer of the texts.
        label: Name or number of the label.

    Raises:
        UserError: If there is no such label.
    """

    def __init__(self, model: PreTrainedModel, codec: TextCodec, label: str | int) -> None:
        self.model = model.eval()
        self.label = _label(model, label)
        self.end = _closing(codec)
        limit = position_limit(model)
        self.limit = None if limit is None else limit - len(self.end)
        self.batch_invariant = self._is_batch_invariant()

    @classmethod
    def from_pretrained(
        cls, name: str, codec: TextCodec, label: str | int, device: torch.device
    ) -> TextClassifier:
        """Open a classifier that reads the ids of ``codec``.

        Raises:
            UserError: If there is none, it is damaged, it reads other tokens or has no such label.
        """
        model = _load(name)
        model.config.return_dict = True
        if loading.load_tokenizer(name).get_vocab() != codec.tokenizer.get_vocab():
            raise UserError(
                f"the classifier {name} has another vocabulary than the model, so it cannot read "
                "generated texts; train one that starts from this model"
            )
        return cls(loading.place(model, str(device)), codec, label)

    def check_length(self, length: int) -> None:
        """Raise a UserError if sequences of that many tokens are too long for the classifier."""
        if self.limit is not None and length > self.limit:
            raise UserError(
                f"a row has {length} tokens, but the classifier reads {self.limit}; "
                "shorten the prompt or the length"
            )

    @torch.no_grad()
    def log_prob(self, ids: Tensor, valid: Tensor | None) -> Tensor:
        """Return log p(label | sequence), shape (B,), for ids (B, L) and valid (B, L)."""
        at = torch.zeros_like(ids, dtype=torch.bool)
        at[:, 0] = True

        def run(ids: Tensor, _at: Tensor, valid: Tensor | None) -> Tensor:
            with exclusive(self.model):
                return self._log_prob(ids, valid)[:, None]

        return self._run_batch_invariant(run, ids, at, valid)[:, 0]

    def slopes(self, ids: Tensor, at: Tensor, valid: Tensor | None) -> Tensor:
        """Return grad . (e_v - e_now) at ``at``, shape (N, V'), with the input embeddings e."""
        rows = at.any(1)
        if not rows.any():
            return self._table.new_zeros(0, len(self._table))
        return self._run_batch_invariant(
            self._slopes, ids[rows], at[rows], None if valid is None else valid[rows]
        )

    def _slopes(self, ids: Tensor, at: Tensor, valid: Tensor | None) -> Tensor:
        embedding = self.model.get_input_embeddings()
        kept: list[Tensor] = []

        def keep(_module: nn.Module, _args: Any, output: Tensor) -> Tensor:
            kept.append(output.detach().requires_grad_())
            return kept[0]

        with exclusive(self.model), torch.enable_grad():
            handle = embedding.register_forward_hook(keep)
            try:
                total = self._log_prob(ids, valid).sum()
            finally:
                handle.remove()
        (gradient,) = torch.autograd.grad(total, kept[0])
        with torch.no_grad():
            table = self._table
            here = gradient[:, : ids.shape[1]][at]  # (N, D)
            return here @ table.T - (here * table[ids[at]]).sum(1, keepdim=True)

    def _run_batch_invariant(
        self, run: PositionFunction, ids: Tensor, at: Tensor, valid: Tensor | None
    ) -> Tensor:
        """Run on all rows, or on those of each length separately if padding changes them."""
        if self.batch_invariant or valid is None:
            return run(ids, at, valid)

        def of_one_length(ids: Tensor, _t: Tensor, at: Any, valid: Tensor | None) -> Tensor:
            return run(ids, at, valid)

        return by_length(of_one_length, ids, torch.zeros(len(ids), device=ids.device), at, valid)

    @torch.no_grad()
    def _is_batch_invariant(self) -> bool:
        """Return whether the logits of a padded row do not depend on its batch."""
        row, together, mask = padded(self.model)
        try:
            alone, beside = self._logits(row, None), self._logits(together, mask.bool())
        except torch.OutOfMemoryError:
            raise
        except Exception:
            # Such as a network that does not accept short sequences.
            return False
        return same(alone, beside[:1])

    @cached_property
    def _table(self) -> Tensor:
        """The input embedding of every token, shape (V', D)."""
        embedding = self.model.get_input_embeddings()
        ids = torch.arange(embedding.num_embeddings, device=self.model.device)
        return embedding(ids).detach()

    def _log_prob(self, ids: Tensor, valid: Tensor | None) -> Tensor:
        logits = self._logits(ids, valid)
        if self.model.config.problem_type == "multi_label_classification":
            return logsigmoid(logits)[:, self.label]
        return logits.log_softmax(1)[:, self.label]

    def _logits(self, ids: Tensor, valid: Tensor | None) -> Tensor:
        ids, mask = _closed(ids, valid, self.end)
        logits: Tensor = self.model(input_ids=ids, attention_mask=mask.long()).logits
        return logits if logits.dtype == torch.float64 else logits.float()


def _closed(ids: Tensor, valid: Tensor | None, end: list[int]) -> tuple[Tensor, Tensor]:
    """Return ids with end symbols after the last token of each row, and the new ``valid``."""
    mask = torch.ones_like(ids, dtype=torch.bool) if valid is None else valid
    for symbol in end:
        size = mask.sum(1, keepdim=True)
        ids, mask = pad(ids, (0, 1)), pad(mask, (0, 1))
        ids, mask = ids.scatter(1, size, symbol), mask.scatter(1, size, True)
    return ids, mask


def _closing(codec: TextCodec) -> list[int]:
    """Return the ids that the tokenizer adds after a text."""
    body = codec.encode("a")
    whole = list(codec.tokenizer("a")["input_ids"])
    starts = [i for i in range(len(whole)) if whole[i : i + len(body)] == body]
    return whole[starts[0] + len(body) :] if starts else []


def _load(name: str) -> PreTrainedModel:
    config = loading.load_config(name)
    if not can_classify(config):
        raise UserError(f"{name} is a {config.model_type} model, which cannot classify texts")
    place = loading.locate(name)
    model, report = loading.load_weights(AutoModelForSequenceClassification, place)
    missing = sorted(report.get("missing_keys", ()))
    if missing:
        # The library would silently initialise the missing layers at random.
        raise UserError(f"{name} is no trained classifier: its weights lack {missing[0]}")
    return model


def _label(model: PreTrainedModel, label: str | int) -> int:
    names = {str(name): int(i) for i, name in (model.config.id2label or {}).items()}
    if len(names) < 2:
        raise UserError("the classifier has a single output and no labels to choose from")
    number = names.get(str(label))
    if number is None and str(label).isdecimal() and int(label) < len(names):
        number = int(label)
    if number is None:
        raise UserError(f"the classifier has no label {label!r}{did_you_mean(str(label), names)}")
    return number
