"""From a request to texts: ``resolve`` checks it against a model, a ``GenerationPlan`` runs it.

What a network caches while it generates belongs to one chunk of text: every chunk has a denoiser of
its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Any, cast

import torch

from unmask.diffusion.denoiser import BlockContext, Denoiser, uses_time
from unmask.diffusion.rng import RowRng
from unmask.errors import UserError
from unmask.pipelines import rerank
from unmask.pipelines.base import DiffusionPipeline
from unmask.pipelines.controls import Controls, control
from unmask.pipelines.excerpts import by_text, cut_out
from unmask.pipelines.filling import fill
from unmask.pipelines.guidance_options import ControlOptions
from unmask.pipelines.output import Generated, joined
from unmask.pipelines.prompts import Rows, lay_out, window_for
from unmask.pipelines.recorder import Recording
from unmask.pipelines.request import GenerationRequest, batches
from unmask.pipelines.sampler_options import resolve_sampler
from unmask.sampling.blocks import sample_blocks
from unmask.sampling.canvas import Canvas, Frame
from unmask.sampling.logits_processors import Banned, Restriction
from unmask.sampling.memoize import Reused
from unmask.sampling.reverse import reverse, sample
from unmask.sampling.samplers.base import Sampler
from unmask.sampling.sliding_window import Window, slide

Watch = Callable[[Frame, float], None]
"""Called with every frame and the seconds spent so far."""


@dataclass(frozen=True)
class GenerationPlan:
    """One batch of texts and how they are generated; made by ``resolve``, which checks everything.

    Attributes:
        pipeline: The model.
        rows: The rows, one for each text.
        sampler: Which positions and which tokens.
        restriction: Which tokens are never generated, special symbols included.
        controls: What controls the text besides its prompt.
        settings: The options in force, for the record.
        window: What the network sees at once; None for all of a row.
        end: The id after which nothing is generated; None for none.
        nfe: Network calls before the first step.
        seconds: Time that they took.
    """

    pipeline: DiffusionPipeline
    rows: Rows
    sampler: Sampler
    restriction: Restriction
    controls: Controls
    settings: dict[str, Any]
    window: Window | None = None
    end: int | None = None
    nfe: int = 0
    seconds: float = 0.0

    def denoiser(self, canvas: Canvas) -> Denoiser:
        """Return a new denoiser for a canvas, guided first and restricted then."""
        spell, restriction = self.pipeline.codec.spellings, self.restriction
        denoiser = self.pipeline.new_denoiser()
        if self.controls.picks:
            # What is banned is no candidate. The penalty, which is a matter of degree, comes later.
            denoiser = replace(restriction, repetition_penalty=1.0).around(denoiser, spell)
        # Within a blank that has to match, the automaton knows the banned phrases as well.
        watched = canvas.masked if self.controls.automata else None
        guided = self.controls.guided(denoiser, canvas, self.pipeline.mask_is_evidence)
        restricted = restriction.around(guided, spell, watched)
        early = canvas.editable & canvas.before_given()
        if bool(early.any()) and (end := self._early_end) is not None:
            restricted = Banned(restricted, torch.tensor([end]), early)
        return self.controls.within(restricted)

    @property
    def _early_end(self) -> int | None:
        """The end symbol unless it may be generated where given text follows, else None."""
        codec, unban = self.pipeline.codec, self.restriction.unban
        return None if codec.end is None or codec.symbols.get(codec.end) in unban else codec.end

    def frames(self) -> Iterator[Frame]:
        """Yield the canvas as it is given, and then as every step leaves it."""
        canvas, rng = self.rows.canvas, RowRng(self.rows.seeds)
        if not self.pipeline.card.block_length:
            return slide(self._chunk, canvas, rng, self.window, self.end)
        return self._blocks(canvas, rng)

    def _chunk(self, canvas: Canvas, rng: RowRng) -> Iterator[Frame]:
        return self._sample(
            self.denoiser(canvas),
            int(canvas.masked.sum(1).max()),
            canvas,
            rng,
            end=self.end,
            matching=self.controls.matching(canvas),
        )

    def _blocks(self, canvas: Canvas, rng: RowRng) -> Iterator[Frame]:
        pipeline, context = self.pipeline, self.pipeline.new_denoiser()
        length = pipeline.card.block_length
        restricted = self.restriction.around(context, pipeline.codec.spellings)
        # The masks of other rows must not pace a row, so a block counts as all masks.
        one_block = partial(self._sample, restricted, length)
        blocks = cast(BlockContext, context)
        return sample_blocks(blocks, canvas, rng, length, one_block, pipeline.codec.end)

    def _sample(
        self, denoiser: Denoiser, masks: int, canvas: Canvas, rng: RowRng, **options: Any
    ) -> Iterator[Frame]:
        formulation = self.pipeline.formulation
        policy, _ = reverse(formulation, self.sampler.policy)
        if policy.asks_again and self.pipeline.cache == "exact" and not uses_time(denoiser):
            denoiser = Reused(denoiser)
        return sample(
            formulation,
            denoiser,
            canvas,
            self.sampler.policy,
            self.sampler.drawing,
            self.sampler.times(masks),
            rng,
            **options,
        )

    def record(self, watch: Watch | None = None) -> Recording:
        """Generate; return the frames with the seconds until each, those of the plan included.

        Args:
            watch: Called with every frame; its time is not counted.
        """
        recording, spent = Recording(), self.seconds
        frames, begun = self.frames(), now(self.pipeline.device)
        for frame in frames:
            spent += now(self.pipeline.device) - begun
            recording.add(frame, spent)
            if watch is not None:
                watch(frame, spent)
            begun = now(self.pipeline.device)
        return recording


def now(device: torch.device) -> float:
    """Return the time in seconds, when all work handed to the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def resolve(request: GenerationRequest, pipeline: DiffusionPipeline) -> GenerationPlan:
    """Return the plan of a request of one batch.

    The length of every blank is chosen here, which calls the network where a length is open.

    Args:
        request: What to generate.
        pipeline: The model.

    Raises:
        UserError: If the model does not support an option, two contradict each other or one has no
            effect, or a row does not fit the model.
    """
    window = window_for(request, pipeline)
    rows = lay_out(request, pipeline, window).to(pipeline.device)
    return plan_rows(rows, request, pipeline, window)


def plan_rows(
    rows: Rows,
    request: GenerationRequest,
    pipeline: DiffusionPipeline,
    window: Window | None = None,
) -> GenerationPlan:
    """Return the plan of a request whose rows are laid out; see ``resolve``.

    Args:
        rows: The rows, on the model's device.
        request: What to generate.
        pipeline: The model.
        window: What the network sees at once; None for all of a row.
    """
    codec = pipeline.codec
    options = request.controls
    sampler, settings = resolve_sampler(pipeline.card.sampler, request.sampling)
    end = codec.end if request.stop_at_end else None
    restriction = _without_symbols(sampler.restriction, pipeline, end is not None)
    _check_supported(rows, options, restriction, pipeline)
    settings["length"] = rows.length
    if window is not None and rows.canvas.ids.shape[1] > window.size:
        _check_bans(restriction, window, pipeline)
        settings |= {"window": window.size, "stride": window.stride}
    policy, _ = reverse(pipeline.formulation, sampler.policy)
    data_ids = restriction.around(pipeline.denoiser, codec.spellings).data_ids
    if end is not None:
        if policy.revises or end not in data_ids:
            reason = "may change the end again" if policy.revises else "never writes an end symbol"
            raise UserError(f"this sampler {reason}, so stop_at_end has no effect; leave it out")
        settings["stop_at_end"] = True
    phrases = restriction.phrases(codec.spellings)
    controls, rows = control(options, rows, pipeline, window, data_ids, phrases)
    settings |= options.settings | pipeline.computed_by
    plan = GenerationPlan(pipeline, rows, sampler, restriction, controls, settings, window, end)
    return _with_lengths(plan, request.choose_length)


def _without_symbols(
    restriction: Restriction, pipeline: DiffusionPipeline, ends: bool
) -> Restriction:
    """Return a restriction that also bans symbols, but the end symbol where it ends a text."""
    possible = pipeline.denoiser.data_ids.tolist()
    restriction = restriction.without(pipeline.codec.symbols, possible)
    ends = ends or pipeline.ends_texts
    kept = (i for i in restriction.symbols if not (ends and i == pipeline.codec.end))
    return replace(restriction, symbols=tuple(kept))


def _check_supported(
    rows: Rows, options: ControlOptions, restriction: Restriction, pipeline: DiffusionPipeline
) -> None:
    """Raise a UserError for a feature in use that the model does not support."""
    in_use = {
        "frozen_cache": pipeline.cache == "frozen",
        "text_after_blank": rows.has_text_after_blank,
        "length_search": rows.is_open,
        "repetition_penalty": restriction.repetition_penalty != 1,
        "phrase_bans": bool(restriction.phrases(pipeline.codec.spellings)),
    }
    for feature, used in in_use.items():
        if used:
            pipeline.require(feature)
    for name in options.settings:
        constraint = name in ("matching", "allowed")
        pipeline.require("constraints" if constraint else "guidance", name)
        if name == "classifier":
            pipeline.require(name)


def _check_bans(restriction: Restriction, window: Window, pipeline: DiffusionPipeline) -> None:
    """Raise a UserError for a ban too long to be seen where one chunk meets the next."""
    seen = window.size - window.start - window.stride
    for text in restriction.ban:
        longest = max(map(len, pipeline.codec.spellings(text)))
        if longest > seen + 1:
            raise UserError(
                f"the ban of {text!r} is {longest} tokens, but a chunk sees only {seen} of those "
                "before it, so that it could be written across two; set a smaller stride"
            )


def _with_lengths(plan: GenerationPlan, rule: str | None) -> GenerationPlan:
    """Return the plan in which every blank has one length; see ``pipelines.rerank``."""
    pipeline, rows = plan.pipeline, plan.rows
    if rule is not None and not rows.is_open:
        raise UserError(
            "no blank has a range of lengths, such as [MASK:3-8], so there is none to choose; "
            "leave choose_length out"
        )
    begun = now(pipeline.device)
    nats, nfe = rerank.given_nats(
        rows, len(pipeline.codec.start), pipeline.denoiser, pipeline.formulation
    )
    kept = rerank.choose_rows(rows, nats, rule or "sample")
    rows = rows.chosen(kept)
    return replace(
        plan,
        rows=rows,
        controls=plan.controls.chosen(kept, rows.canvas.ids.shape[1]),
        settings=plan.settings | {"length": rows.length},
        nfe=nfe,
        seconds=now(pipeline.device) - begun,
    )


def generate_texts(
    request: GenerationRequest, pipeline: DiffusionPipeline, watch: Watch | None = None
) -> Generated:
    """Generate the texts of a request, of any number and length; see ``Unmasker.generate``."""
    limit = pipeline.limit if pipeline.supports("excerpts") else None
    excerpts = [cut_out(pipeline.codec, text, limit) for text in request.prompts]
    templates = tuple(template for text in excerpts for template in text.templates)
    parts, blanks = list[Generated](), list[list[int]]()
    for batch in batches(pipeline.codec, replace(request, prompts=templates)):
        plan = resolve(batch, pipeline)
        parts.append(_generated(plan, request, watch))
        blanks += map(list, plan.rows.blanks)
    result, samples = joined(parts), request.num_samples
    settings = result.settings | {"num_samples": samples}
    if any(pipeline.codec.count_rows(template) > 1 for template in templates):
        lengths = [[*chain(*own)] for _, own in by_text(blanks, excerpts, samples)]
        rule = request.choose_length or "sample"
        settings |= {"choose_length": rule, "blank_lengths": lengths}
    fillings = by_text(result.fillings, excerpts, samples)
    return replace(
        result,
        texts=tuple(text.filled(own) for text, own in by_text(result.texts, excerpts, samples)),
        fillings=tuple(tuple(chain.from_iterable(own)) for _, own in fillings),
        settings=settings,
    )


def _generated(plan: GenerationPlan, request: GenerationRequest, watch: Watch | None) -> Generated:
    """Return the texts of one batch."""
    recording = plan.record(watch)
    last, rows = recording.frames[-1], plan.rows
    texts, fillings = zip(
        *(
            fill(plan.pipeline.codec, last, row, rows.blanks[row], rows.texts[row])
            for row in range(len(rows.seeds))
        ),
        strict=True,
    )
    return Generated(
        texts=texts,
        nfe=last.nfe + plan.nfe,
        seconds=recording.seconds[-1],
        seed=request.seed,
        settings=plan.settings,
        tracks=recording.tracks(
            plan.pipeline.codec, plan.settings["sampler"], range(len(rows.seeds))
        ),
        fillings=fillings,
    )
