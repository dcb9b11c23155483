"""What a text is steered by besides its prompt: guidance, a classifier, what it may consist of.

Takes the wishes of a caller apart and refuses what contradicts itself before any work is done. What
remains builds denoisers and draws for the sampler.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from unmask.data.text import TextCodec
from unmask.data.token_text import token_texts
from unmask.diffusion.denoiser import Denoiser
from unmask.diffusion.formulation import Formulation, UniformFormulation
from unmask.errors import UserError
from unmask.models.classifier import TextClassifier
from unmask.pipelines.prompts import Plan
from unmask.sampling.canvas import Canvas
from unmask.sampling.constraints.matching import Allowed, Matching
from unmask.sampling.constraints.token_automaton import Automaton
from unmask.sampling.guidance import ClassifierFree, ClassifierGuided
from unmask.validation import place, real, whole, words

MAX_SCALE = 1_000_000
"""Of guidance; more would leave the range of float32."""


@dataclass(frozen=True)
class Steered:
    """What steers one run.

    Attributes:
        plan: The rows that can be written, of which each text has one.
        codec: The tokenizer.
        scale: Of the guidance without a classifier; 1 for none.
        classified: How a classifier guides a denoiser, None for none.
        picks: Whether it does so by picking a few tokens, of which one is written.
        automata: What the blanks of a row have to match, in turn or all of them; () for nothing.
        sets: Shape (K, V), bool; sets of allowed tokens, None if all are.
        of_position: Shape (B, L), int64; the set of each position.
    """

    plan: Plan
    codec: TextCodec
    scale: float = 1.0
    classified: Callable[[Denoiser], Denoiser] | None = None
    picks: bool = False
    automata: Sequence[Automaton] = ()
    sets: Tensor | None = None
    of_position: Tensor | None = None

    def chosen(self, rows: Sequence[int]) -> Steered:
        """Return what steers the row ``rows[i]`` of the plan as text i; see ``Plan.chosen``."""
        plan, of_position = self.plan.chosen(rows), self.of_position
        if of_position is not None:
            of_position = of_position[rows, : plan.canvas.ids.shape[1]]
        return replace(self, plan=plan, of_position=of_position)

    def guided(self, denoiser: Denoiser, canvas: Canvas, tokenwise: bool = False) -> Denoiser:
        """Return a denoiser that is guided while it writes on a canvas.

        Args:
            denoiser: The network.
            canvas: The rows.
            tokenwise: See ``ClassifierFree``.
        """
        if self.scale != 1:
            given = canvas.given(len(self.codec.start))
            denoiser = ClassifierFree(
                denoiser, self.scale, given, self.codec.mask_token_id, tokenwise
            )
        return denoiser if self.classified is None else self.classified(denoiser)

    def within(self, denoiser: Denoiser) -> Denoiser:
        """Return a denoiser that guesses only what is allowed."""
        if self.sets is None or self.of_position is None:
            return denoiser
        return Allowed(denoiser, self.sets, self.of_position)

    def matching(self, canvas: Canvas) -> Matching | None:
        """Return what all that is written on a canvas has to match."""
        return Matching(canvas, self.automata, self.codec.end) if self.automata else None


@dataclass(frozen=True)
class Steering:
    """What a caller wishes for.

    Args:
        guidance_scale: How much the prompt, the source or the given words of a template count:
            log p ~ g log p(text | given) + (1 - g) log p(text). 1 is the model as it is, at no
            cost; 0 writes as if nothing were given; above 1 exaggerates.
        classifier: Directory or hub id of a ``*ForSequenceClassification`` with the same tokenizer
            that was trained on texts with masks in them.
        label: Name or number of the label that it should find.
        classifier_scale: g in log p ~ log p(text) + g log p(label | text); 1 if None.
        classifier_top_k: Ask it about so many of the likeliest tokens of each position, one by one;
            None asks about all tokens at once, to first order.
        matching: A regular expression, in the syntax of ``re``, for all that is written in a blank
            or after the prompt, up to the end symbol if it writes one. Several are for the blanks
            of a template in turn. One blank before the text does not count.
        allowed: For each token to be written, the ids that it may be, or None for any.

    Raises:
        UserError: If a number is out of range or one wish makes no sense without another.
    """

    guidance_scale: float = 1.0
    classifier: str | None = None
    label: str | int | None = None
    classifier_scale: float | None = None
    classifier_top_k: int | None = None
    matching: str | Sequence[str] = ()
    allowed: Sequence[Collection[int] | None] | None = None

    def __post_init__(self) -> None:
        scales = {"guidance": self.guidance_scale, "classifier": self.classifier_scale}
        for name, scale in scales.items():
            if scale is not None and not 0 <= scale <= MAX_SCALE:
                raise UserError(
                    f"the {name} scale must be a number from 0 to {MAX_SCALE:,}, not {scale}"
                )
        if self.classifier is None:
            names = ("label", "classifier_scale", "classifier_top_k")
            said = [name for name in names if getattr(self, name) is not None]
            if said:
                word = said[0].replace("_", "-")
                raise UserError(f"{word} says how a classifier guides; give a classifier as well")
        elif self.label is None:
            raise UserError("a classifier guides towards one of its labels; give the label as well")
        if self.classifier_top_k is not None and self.classifier_top_k < 1:
            raise UserError(f"classifier-top-k must be at least 1, not {self.classifier_top_k}")
        if "" in ([self.matching] if isinstance(self.matching, str) else self.matching):
            raise UserError("an empty expression matches only an empty text; leave it out")
        if self.classifier_top_k is not None and (self.matching or self.allowed):
            raise UserError(
                "classifier-top-k rules out all but a few tokens, among which none may match; "
                "leave it out, and the classifier weighs all of them"
            )

    @classmethod
    def names(cls) -> set[str]:
        """Return the names of all wishes."""
        return {field.name for field in fields(cls)}

    @classmethod
    def split(cls, options: Mapping[str, Any]) -> tuple[Steering, dict[str, Any]]:
        """Return the wishes among some options, and the other options; None is not said."""
        own = cls.names()
        mine = {k: _READERS[k](k, v) for k, v in options.items() if k in own and v is not None}
        return cls(**mine), {k: v for k, v in options.items() if k not in own}

    @property
    def settings(self) -> dict[str, Any]:
        """What differs from a run without steering, fit for JSON."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        if self.allowed is not None:
            values["allowed"] = [None if ids is None else sorted(ids) for ids in self.allowed]
        values["matching"] = list(self._patterns)
        if self.classifier is not None:
            values["classifier_scale"] = self._classifier_scale
        empty = {field.name: field.default for field in fields(self)} | {"matching": []}
        return {name: value for name, value in values.items() if value != empty[name]}

    @property
    def _patterns(self) -> tuple[str, ...]:
        return (self.matching,) if isinstance(self.matching, str) else tuple(self.matching)

    @property
    def _classifier_scale(self) -> float:
        return 1.0 if self.classifier_scale is None else self.classifier_scale

    def steer(
        self,
        plan: Plan,
        codec: TextCodec,
        denoiser: Denoiser,
        formulation: Formulation,
        phrases: Sequence[Sequence[int]] = (),
    ) -> Steered:
        """Return what steers a run.

        Args:
            plan: The rows, on the model's device.
            codec: The tokenizer.
            denoiser: Whoever guesses; what is no data of it is never written.
            formulation: What it was trained by.
            phrases: Ids that must not come to stand side by side where the text has to match.

        Raises:
            UserError: If there is nothing to guide by, the classifier does not fit, or what is to
                be written cannot match.
        """
        self._check_goes_with(plan, codec, formulation)
        data = torch.zeros(1, denoiser.vocab_size, dtype=torch.bool, device=plan.seeds.device)
        data[0, denoiser.data_ids] = True
        sets, of_position = data, torch.zeros_like(plan.canvas.ids)
        if self.allowed is not None:
            sets, of_position = _allowed_sets(self.allowed, data, plan)
        automata = [a.without(phrases) for a in self._automata(codec, denoiser.vocab_size)]
        if automata:
            possible = Matching(plan.canvas, automata, codec.end).possible(sets, of_position)
            self._check_possible(plan, possible)
            plan = plan.only(possible)
        return Steered(
            plan,
            codec,
            self.guidance_scale,
            self._classified(plan, codec),
            self.classifier_top_k is not None,
            automata,
            None if self.allowed is None else sets,
            of_position,
        )

    def _check_goes_with(self, plan: Plan, codec: TextCodec, formulation: Formulation) -> None:
        if isinstance(formulation, UniformFormulation) and (
            self.classifier or self.guidance_scale != 1
        ):
            raise UserError(
                "guidance weighs guesses of what is under a mask, and a model of the uniform "
                "process has no masks; leave guidance out, or take a model trained with masks"
            )
        if self.guidance_scale != 1 and not plan.canvas.given(len(codec.start)).any(1).all():
            raise UserError(
                "guidance weighs the text with and without what is given, and nothing is: give a "
                "prompt, a source or words around the blanks, or leave the scale out"
            )
        if plan.slides and (self._patterns or self.allowed is not None):
            raise UserError(
                "what is to match or allowed is known for a text that is seen as a whole, and this "
                "one is longer than the window; give a smaller length"
            )

    def _automata(self, codec: TextCodec, vocab_size: int) -> list[Automaton]:
        texts = token_texts(codec) if self._patterns else {}
        return [Automaton.from_regex(pattern, texts, vocab_size) for pattern in self._patterns]

    def _classified(self, plan: Plan, codec: TextCodec) -> Callable[[Denoiser], Denoiser] | None:
        """Open the classifier; return how it guides a denoiser."""
        if self.classifier is None or self.label is None:
            return None
        device = plan.seeds.device
        judge = TextClassifier.from_pretrained(self.classifier, codec, self.label, device)
        judge.check_length(plan.width)
        scale, top_k = self._classifier_scale, self.classifier_top_k
        return partial(ClassifierGuided, judge=judge, scale=scale, candidates=top_k)

    def _check_possible(self, plan: Plan, possible: Tensor) -> None:
        for rows in plan.choices:
            if not possible[rows].any():
                counts = plan.canvas.masked[rows].sum(1)
                low, high = int(counts.min()), int(counts.max())
                size = f"{low}" if low == high else f"{low} to {high}"
                wish = ", ".join(map(repr, self._patterns))
                allowed = " of the allowed ones" if self.allowed is not None else ""
                raise UserError(
                    f"no text of {size} tokens{allowed} matches {wish}; "
                    "change the length, the expression or what is ruled out"
                )


def _label(name: str, value: Any) -> str | int:
    return value if isinstance(value, str) else whole(name, value)


def _sets(name: str, value: Any) -> list[list[int] | None]:
    """Return the ids of each place, None for any."""
    try:
        return [
            None if ids is None else [whole(f"an id in {name}", i) for i in ids] for ids in value
        ]
    except TypeError as error:
        raise UserError(
            f"{name} is a list of sets of ids, one for each token to be written"
        ) from error


_READERS: dict[str, Callable[[str, Any], Any]] = {
    "guidance_scale": real,
    "classifier": place,
    "label": _label,
    "classifier_scale": real,
    "classifier_top_k": whole,
    "matching": words,
    "allowed": _sets,
}


def _allowed_sets(
    allowed: Sequence[Collection[int] | None], data: Tensor, plan: Plan
) -> tuple[Tensor, Tensor]:
    """Return sets of tokens (K, V), the first of all data ids, and the set of each position."""
    counts = plan.canvas.masked.sum(1)
    if bool((counts != len(allowed)).any()):
        raise UserError(
            f"allowed has {len(allowed)} entries, but {int(counts.min())} to {int(counts.max())} "
            "tokens are to be written; give one entry for each"
        )
    sets = [data[0]]
    number = []
    for index, ids in enumerate(allowed):
        if ids is None:
            number.append(0)
            continue
        own = torch.zeros_like(data[0])
        own[torch.tensor([i for i in ids if 0 <= i < len(own)], dtype=torch.int64)] = True
        own &= data[0]
        if not own.any():
            raise UserError(f"no token of the model's vocabulary is allowed at place {index}")
        number.append(len(sets))
        sets.append(own)
    masked = plan.canvas.masked
    of_position = torch.zeros_like(plan.canvas.ids)
    of_position[masked] = torch.tensor(number, device=masked.device).repeat(len(masked))
    return torch.stack(sets), of_position
