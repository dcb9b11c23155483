"""What a text is steered by besides its prompt: guidance, a classifier, what it may consist of.

Takes the wishes of a caller apart and refuses what contradicts itself before any work is done. What
remains builds denoisers and draws for the sampler.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from unmask.data.codec import Codec
from unmask.data.text import TextCodec
from unmask.data.token_text import token_texts
from unmask.diffusion.denoiser import Denoiser
from unmask.diffusion.formulation import Formulation, UniformFormulation
from unmask.errors import UserError
from unmask.models.classifier import TextClassifier
from unmask.pipelines.guidance_options import ControlOptions
from unmask.pipelines.prompts import Plan
from unmask.sampling.canvas import Canvas
from unmask.sampling.constraints.matching import Allowed, Matching
from unmask.sampling.constraints.token_automaton import Automaton
from unmask.sampling.guidance import ClassifierFree, ClassifierGuided


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
    codec: Codec
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


class Steering(ControlOptions):
    """What a caller wishes for, applied to a run."""

    @classmethod
    def split(cls, options: Mapping[str, Any]) -> tuple[Steering, dict[str, Any]]:
        """Return the wishes among some options, and the other options; None is not said."""
        own = cls.options()
        mine = {k: v for k, v in options.items() if k in own and v is not None}
        return cls(**mine), {k: v for k, v in options.items() if k not in own}

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

    def _check_goes_with(self, plan: Plan, codec: Codec, formulation: Formulation) -> None:
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
        if plan.slides and (self.matching or self.allowed is not None):
            raise UserError(
                "what is to match or allowed is known for a text that is seen as a whole, and this "
                "one is longer than the window; give a smaller length"
            )

    def _automata(self, codec: TextCodec, vocab_size: int) -> list[Automaton]:
        texts = token_texts(codec) if self.matching else {}
        return [Automaton.from_regex(pattern, texts, vocab_size) for pattern in self.matching]

    def _classified(self, plan: Plan, codec: TextCodec) -> Callable[[Denoiser], Denoiser] | None:
        """Open the classifier; return how it guides a denoiser."""
        if self.classifier is None or self.label is None:
            return None
        device = plan.seeds.device
        judge = TextClassifier.from_pretrained(self.classifier, codec, self.label, device)
        judge.check_length(plan.width)
        scale, top_k = self.weight, self.classifier_top_k
        return partial(ClassifierGuided, judge=judge, scale=scale, candidates=top_k)

    def _check_possible(self, plan: Plan, possible: Tensor) -> None:
        for rows in plan.choices:
            if not possible[rows].any():
                counts = plan.canvas.masked[rows].sum(1)
                low, high = int(counts.min()), int(counts.max())
                size = f"{low}" if low == high else f"{low} to {high}"
                wish = ", ".join(map(repr, self.matching))
                allowed = " of the allowed ones" if self.allowed is not None else ""
                raise UserError(
                    f"no text of {size} tokens{allowed} matches {wish}; "
                    "change the length, the expression or what is ruled out"
                )


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
