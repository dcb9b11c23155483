"""The mark of a result: a hash of the model and the options, on which results depend."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING, Any

import click

from unmask._names import earlier
from unmask.cli.options import is_given
from unmask.models.checkpoint import Card

if TYPE_CHECKING:
    from unmask.pipelines.autoregressor import Autoregressor
    from unmask.pipelines.unmasker import Unmasker

_DECLARED = (
    *("work", "length", "window", "stride", "stop_at_end", "choose_length", "sampler", "steps"),
    *("grid", "tokens_per_step", "temperature", "top_k", "top_p", "top_p_crossing", "min_p"),
    *("confidence_metric", "threshold", "factor", "gamma", "eta", "edit_threshold"),
    *("alg_temperature", "burn_in", "repetition_penalty", "ban", "unban", "guidance_scale"),
    *("classifier", "label", "classifier_scale", "classifier_top_k", "matching", "num_samples"),
    *("seed", "candidates"),
)
"""Options of ``generate`` and ``infill`` in the order of the first marks."""


class Marks:
    """The mark of new results, and the one that an earlier version gave to the same.

    Args:
        model: The model.
        values: Options by name, and the name of the work.
    """

    def __init__(self, model: Unmasker | Autoregressor, values: dict[str, Any]) -> None:
        self.model, self.values = model, values

    @cached_property
    def now(self) -> str:
        """The mark of today. Order does not count, nor does what has its default value."""
        plain = {param.name: param.default for param in click.get_current_context().command.params}
        options = {
            name: value
            for name, value in self.values.items()
            if value is not None and value != plain.get(name)
        }
        default = asdict(Card())
        card = {name: value for name, value in self._card().items() if value != default[name]}
        return self._hashed(dict(sorted(card.items())), dict(sorted(options.items())))

    def known(self, mark: Any) -> bool:
        """Return whether results with a mark are of this model and these options."""
        return mark == self.now or mark == self._first

    @cached_property
    def _first(self) -> str:
        """The mark by the names of before, with the options in the order given."""
        values, names = self.values, list(self.values)
        if values["work"] != "score":
            given = [name for name in names if is_given(name) and name != "candidates"]
            names = ["work", *given, *(name for name in _DECLARED if name in names)]
        options = {name: values[name] for name in names}
        if isinstance(options.get("grid"), (list, tuple)):
            options["grid"] = ",".join(f"{time:.15g}" for time in options["grid"])
        if "matching" in options:
            options["matching"] = options["matching"] or []
            if not is_given("guidance_scale"):
                options["guidance_scale"] = None
        return self._hashed(*earlier.card_and_options(self._card(), options))

    def _card(self) -> dict[str, Any]:
        card = asdict(self.model.card)
        return {name: card[name] for name in card if name not in ("training", "scores")}

    def _hashed(self, card: dict[str, Any], options: dict[str, Any]) -> str:
        import torch

        backend = self.model.backend
        # The others compute the same, and which of them is taken is a matter of speed.
        rounded = "int8" in backend or "bf16" in backend
        frozen = getattr(self.model, "cache", "") == "frozen"
        facts = [card, options, backend if rounded else "", frozen]
        digest = hashlib.blake2b(json.dumps(facts, default=str).encode(), digest_size=8)
        for name, tensor in self.model.model.state_dict().items():
            digest.update(name.encode())
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            digest.update(flat.view(torch.uint8).numpy())
        return digest.hexdigest()
