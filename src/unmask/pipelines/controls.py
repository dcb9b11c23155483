"""What ``ControlOptions`` do to a run: guided denoisers, constraints, possible rows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from unmask.data.codec import Codec
from unmask.data.token_text import token_texts
from unmask.diffusion.denoiser import Denoiser
from unmask.errors import UserError
from unmask.models.classifier import TextClassifier
from unmask.pipelines.base import DiffusionPipeline
from unmask.pipelines.guidance_options import ControlOptions
from unmask.pipelines.prompts import Rows
from unmask.sampling.canvas import Canvas
from unmask.sampling.constraints.matching import Allowed, Matching
from unmask.sampling.constraints.token_automaton import Automaton
from unmask.sampling.guidance import ClassifierFree, ClassifierGuided
from unmask.sampling.sliding_window import Window


@dataclass(frozen=True)
class Controls:
    """What controls the text of a run besides its prompt.

    Attributes:
        codec: The tokenizer.
        condition: Returns the tokens of a canvas, (B, L), bool, that guidance hides.
        scale: Of classifier-free guidance; 1 for none.
        classified: How a classifier guides a denoiser, None for none.
        picks: Whether it does so by picking a few tokens, of which one is generated.
        automata: What the blanks of a row have to match, in turn or all of them; () for nothing.
        sets: Shape (K, V), bool; sets of allowed tokens, None if all are.
        of_position: Shape (B, L), int64; the set of each position.
    """

    codec: Codec
    condition: Callable[[Canvas], Tensor]
    scale: float = 1.0
    classified: Callable[[Denoiser], Denoiser] | None = None
    picks: bool = False
    automata: Sequence[Automaton] = ()
    sets: Tensor | None = None
    of_position: Tensor | None = None

    def chosen(self, rows: Sequence[int], length: int) -> Controls:
        """Return what controls the row ``rows[i]`` as text i, with rows of this many tokens."""
        if self.of_position is None:
            return self
        return replace(self, of_position=self.of_position[rows, :length])

    def guided(self, denoiser: Denoiser, canvas: Canvas, mask_is_evidence: bool) -> Denoiser:
        """Return a denoiser that is guided on a canvas.

        Args:
            denoiser: The network.
            canvas: The rows.
            mask_is_evidence: See ``ClassifierFree``.
        """
        if self.scale != 1:
            denoiser = ClassifierFree(
                denoiser,
                self.scale,
                self.condition(canvas),
                self.codec.mask_token_id,
                mask_is_evidence,
            )
        return denoiser if self.classified is None else self.classified(denoiser)

    def within(self, denoiser: Denoiser) -> Denoiser:
        """Return a denoiser that predicts only what is allowed."""
        if self.sets is None or self.of_position is None:
            return denoiser
        return Allowed(denoiser, self.sets, self.of_position)

    def matching(self, canvas: Canvas) -> Matching | None:
        """Return what the generated text of a canvas has to match."""
        return Matching(canvas, self.automata, self.codec.end) if self.automata else None


def control(
    options: ControlOptions,
    rows: Rows,
    pipeline: DiffusionPipeline,
    window: Window | None,
    data_ids: Tensor,
    phrases: Sequence[Sequence[int]] = (),
) -> tuple[Controls, Rows]:
    """Return what controls a run, and the rows that can be generated.

    Args:
        options: The options.
        rows: The rows, on the model's device.
        pipeline: The model.
        window: What the network sees at once; None for all of a row.
        data_ids: Ids that may be generated.
        phrases: Ids that must not stand next to each other where the text has to match.

    Raises:
        UserError: If there is nothing to guide by, the classifier does not fit, or no text that can
            be generated matches.
    """
    codec, canvas = pipeline.codec, rows.canvas
    patterns = options.matching
    length = canvas.ids.shape[1]
    if options.guidance_scale != 1 and not pipeline.condition(canvas).any(1).all():
        raise UserError(pipeline.unconditioned)
    if window is not None and length > window.size and (patterns or options.allowed is not None):
        raise UserError(
            "what is to match or allowed is known for a text that is seen as a whole, and this "
            "one is longer than the window; give a smaller length"
        )
    vocab_size = pipeline.denoiser.vocab_size
    data = torch.zeros(1, vocab_size, dtype=torch.bool, device=rows.seeds.device)
    data[0, data_ids] = True
    sets, of_position = data, torch.zeros_like(canvas.ids)
    if options.allowed is not None:
        sets, of_position = _allowed_sets(options.allowed, data, canvas)
    texts = token_texts(codec) if patterns else {}
    automata = [
        Automaton.from_regex(pattern, texts, vocab_size).without(phrases) for pattern in patterns
    ]
    if automata:
        possible = Matching(canvas, automata, codec.end).possible(sets, of_position)
        _check_possible(options, rows, possible)
        rows = rows.only(possible)
    controls = Controls(
        codec,
        pipeline.condition,
        options.guidance_scale,
        _classified(options, pipeline, length if window is None else min(length, window.size)),
        options.classifier_top_k is not None,
        automata,
        None if options.allowed is None else sets,
        of_position,
    )
    return controls, rows


def _classified(
    options: ControlOptions, pipeline: DiffusionPipeline, width: int
) -> Callable[[Denoiser], Denoiser] | None:
    """Open the classifier for rows of ``width`` tokens; return how it guides a denoiser."""
    if options.classifier is None or options.label is None:
        return None
    classifier = TextClassifier.from_pretrained(
        options.classifier, pipeline.codec, options.label, pipeline.device
    )
    classifier.check_length(width)
    return partial(
        ClassifierGuided,
        classifier=classifier,
        scale=options.weight,
        candidates=options.classifier_top_k,
    )


def _check_possible(options: ControlOptions, rows: Rows, possible: Tensor) -> None:
    """Raise a UserError for a text of which no possible row (R,) can match."""
    for choices in rows.choices:
        if not possible[choices].any():
            counts = rows.canvas.masked[choices].sum(1)
            low, high = int(counts.min()), int(counts.max())
            size = f"{low}" if low == high else f"{low} to {high}"
            allowed = " of the allowed ones" if options.allowed is not None else ""
            raise UserError(
                f"no text of {size} tokens{allowed} matches "
                f"{', '.join(map(repr, options.matching))}; "
                "change the length, the expression or what is ruled out"
            )


def _allowed_sets(
    allowed: Sequence[Collection[int] | None], data: Tensor, canvas: Canvas
) -> tuple[Tensor, Tensor]:
    """Return sets of tokens (K, V), the first of all data ids, and the set of each position."""
    counts = canvas.masked.sum(1)
    if bool((counts != len(allowed)).any()):
        raise UserError(
            f"allowed has {len(allowed)} entries, but {int(counts.min())} to {int(counts.max())} "
            "tokens are to be generated; give one entry for each"
        )
    sets, number = [data[0]], list[int]()
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
    of_position = torch.zeros_like(canvas.ids)
    of_position[canvas.masked] = torch.tensor(number, device=canvas.ids.device).repeat(len(counts))
    return torch.stack(sets), of_position
