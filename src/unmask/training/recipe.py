"""A recipe: everything that decides a training run except the model, the data and the output.

A ``Recipe`` that exists is valid. ``sections`` declares its keys; ``recipe_file`` reads TOML files.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from unmask.training.sections import (
    DataSection,
    ImagesSection,
    ModelSection,
    ObjectiveSection,
    ProcessSection,
    ScheduleSection,
    TokenizerSection,
    TrainingSection,
    table,
)
from unmask.validation import Options, option, require, word


@dataclass(frozen=True)
class Recipe(Options):
    """One training method.

    Raises:
        UserError: If a value is out of range, or two do not go together.
    """

    name: str = option("custom", "What the recipe is called.", word)
    summary: str = option("", "One line for unmask train --list.", word)
    model: ModelSection = field(default_factory=ModelSection)
    tokenizer: TokenizerSection = field(default_factory=TokenizerSection)
    data: DataSection = field(default_factory=DataSection)
    images: ImagesSection = field(default_factory=ImagesSection)
    objective: ObjectiveSection = field(default_factory=ObjectiveSection)
    process: ProcessSection = field(default_factory=ProcessSection)
    schedule: ScheduleSection = field(default_factory=ScheduleSection)
    training: TrainingSection = field(default_factory=TrainingSection)
    sampler: dict[str, Any] = option(dict, "Default sampler of the model, with its options.", table)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(*(self._rule(*rule) for rule in (*self._rules(), *self._data_rules())))
        self._check_parts()

    @property
    def kind(self) -> str:
        """``causal`` for the autoregressive baseline, ``block`` for blocks, else ``masked``."""
        if self.objective.block_length:
            return "block"
        return "causal" if self.objective.name == "next-token" else "masked"

    @property
    def of_images(self) -> bool:
        """Whether the data are images."""
        return self.data.rows == "images"

    def with_length(self, length: int) -> Recipe:
        """Return the recipe for rows of so many tokens."""
        return dataclasses.replace(self, data=dataclasses.replace(self.data, length=length))

    def without_fresh(self) -> Recipe:
        """Return the recipe for an existing model: without what describes a fresh one."""
        model = dataclasses.replace(self.model, name="", type="", config={})
        return dataclasses.replace(self, model=model, tokenizer=TokenizerSection())

    def _rule(self, key: str, holds: object, needed: str) -> tuple[str, object, str]:
        """Return a rule for ``require``: a key that is not at its default needs something else."""
        section, name = key.split(".")
        own = getattr(self, section)
        value, usual = getattr(own, name), getattr(type(own)(), name)
        remedy = f"{needed}; otherwise set {key}={json.dumps(usual)}"
        return f"{key} = {json.dumps(value)}", holds or value == usual, remedy

    def _rules(self) -> Iterator[tuple[str, object, str]]:
        """Yield keys of the method, whether each may be set, and what it goes with."""
        model, objective, training = self.model, self.objective, self.training
        bound, masked_mean = objective.name == "nelbo", objective.name == "masked-mean"
        yield "objective.name", objective.mask_rates or not masked_mean, "objective.mask_rates"
        for key in ("mask_rates", "eighty_ten_ten"):
            yield f"objective.{key}", masked_mean, "objective.name = 'masked-mean'"
        for key in ("num_steps", "cross_entropy_weight", "block_length"):
            yield f"objective.{key}", bound, "objective.name = 'nelbo'"
        whole_blocks = not objective.block_length or self.data.length % objective.block_length == 0
        yield "objective.block_length", whole_blocks, self._fitting_blocks()
        yield "objective.interval", objective.block_length, "objective.block_length"
        first, second = objective.interval if len(objective.interval) == 2 else (1.0, 0.0)
        yield "objective.interval", first <= second > 0, "two times, 0 <= first <= second <= 1"
        yield "model.type", not model.name, "an empty model.name"
        for key in ("model.config", "tokenizer.vocab_size", "tokenizer.keep_whole"):
            yield key, model.type, "a fresh model, whose model.type is set"
        yield "model.new_head", not model.from_scratch, "model.from_scratch = false"
        yield "model.time", not objective.block_length, "objective.block_length = 0"
        any_order = bound and model.time == "none"
        yield "model.attention", any_order, "objective.name = 'nelbo' and model.time = 'none'"
        learned = self.schedule.name == "learned"
        yield "schedule.learning_rate", learned, "schedule.name = 'learned'"
        ends = training.steps or training.minutes or training.epochs
        yield "training.epochs", ends, "training.steps or training.minutes above 0"

    def _data_rules(self) -> Iterator[tuple[str, object, str]]:
        """Yield keys of the data, whether each may be set, and what it goes with."""
        data = self.data
        masked, packed = self.kind == "masked", data.rows == "packed" and not data.pairs
        longest = data.prefix_max or data.length - 1
        yield "data.prefix_max", longest < data.length, "a data.length above it"
        yield "data.prefix_min", data.prefix_min <= longest, f"prefixes of at most {longest} tokens"
        for key in ("before", "between"):
            yield f"data.{key}", data.pairs, "data.pairs = true"
        yield "data.prefix_share", not data.pairs, "data.pairs = false"
        for key in ("random_length_share", "skip_empty_lines"):
            yield f"data.{key}", packed, "data.rows = 'packed' and data.pairs = false"
        yield "data.rows", not data.pairs, "data.pairs = false"
        rows_fit = masked or (self.of_images and self.kind == "causal")
        yield "data.rows", rows_fit, "masked models, not with 'next-token' or blocks"
        yield "data.pairs", masked, "masked models, not with 'next-token' or blocks"
        for key in ImagesSection.options():
            yield f"images.{key}", self.of_images, "data.rows = 'images'"
        yield "data.prefix_share", not self.of_images, "texts, not with data.rows = 'images'"
        yield "tokenizer.vocab_size", not self.of_images, "texts, not with data.rows = 'images'"

    def _fitting_blocks(self) -> str:
        """Return which blocks fill the rows."""
        length, size = self.data.length, self.objective.block_length or 1
        divisors = (n for n in range(1, length + 1) if length % n == 0)
        near = min(divisors, key=lambda n: abs(n - size))
        fits = max(round(length / size), 1) * size
        return f"whole rows: blocks of {near} would fit, or rows of {fits} (data.length)"

    def _check_parts(self) -> None:
        """Build what only the finished model would use, so that a mistake shows before training."""
        # Here, so that the module can be imported without loading torch.
        from unmask.diffusion.registry import check_names
        from unmask.sampling.samplers.registry import make_sampler

        check_names(
            self.process.name,
            self.schedule.as_card(),
            self.objective.num_steps,
            self.objective.cross_entropy_weight,
            self.model.attention,
            self.objective.block_length,
            self.of_images,
        )
        sampler = dict(self.sampler)
        if self.kind != "causal" and sampler:
            make_sampler(sampler.pop("name", "ancestral"), **sampler)
