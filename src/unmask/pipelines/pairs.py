"""A target for a source, from a model that was trained on pairs."""

from __future__ import annotations

from dataclasses import replace

import torch

from unmask.data.pairs import PairCodec
from unmask.errors import UserError
from unmask.pipelines import mbr
from unmask.pipelines.base import DiffusionPipeline
from unmask.pipelines.filling import target
from unmask.pipelines.generation import Watch, plan_rows
from unmask.pipelines.output import Generated, joined
from unmask.pipelines.prompts import Rows, row_seed
from unmask.pipelines.request import MAX_ROWS, GenerationRequest
from unmask.sampling.canvas import Canvas


def generate_targets(
    request: GenerationRequest,
    pipeline: DiffusionPipeline,
    pairs: PairCodec,
    watch: Watch | None = None,
) -> Generated:
    """Generate a target for each source; see ``Unmasker.transform``.

    Args:
        request: The sources as its prompts, the candidates for each as its samples.
        pipeline: The model.
        pairs: How it was trained to see a source and its target.
        watch: Called with every frame; see ``generation.Watch``.
    """
    size = max(MAX_ROWS // request.num_samples, 1)
    sources = request.prompts
    parts = [replace(request, prompts=sources[i : i + size]) for i in range(0, len(sources), size)]
    return joined([_generate_batch(part, pipeline, pairs, watch) for part in parts])


def _generate_batch(
    request: GenerationRequest,
    pipeline: DiffusionPipeline,
    pairs: PairCodec,
    watch: Watch | None,
) -> Generated:
    rows = pair_rows(pairs, request).to(pipeline.device)
    candidates = request.num_samples
    bleu = mbr.bleu() if candidates > 1 else None
    plan = plan_rows(rows, request, pipeline)
    recording = plan.record(watch)
    last = recording.frames[-1]
    found = [target(pipeline.codec, last, row) for row in range(len(last.canvas.ids))]
    texts = [filling.text for filling in found]
    kept = [
        i if bleu is None else i + mbr.choose(texts[i : i + candidates], bleu)
        for i in range(0, len(texts), candidates)
    ]
    return Generated(
        texts=tuple(texts[row] for row in kept),
        nfe=last.nfe,
        seconds=recording.seconds[-1],
        seed=request.seed,
        settings=plan.settings | {"candidates": candidates},
        tracks=recording.tracks(pipeline.codec, plan.settings["sampler"], kept),
        fillings=tuple((found[row],) for row in kept),
    )


def pair_rows(pairs: PairCodec, request: GenerationRequest) -> Rows:
    """Lay out the candidates for the target of every source, one source after the other.

    Args:
        pairs: The layout.
        request: The sources as its prompts, the candidates for each as its samples. Candidate i
            for every source gets its seed from (seed, i).

    Raises:
        UserError: If there are too many rows, or a source is empty or leaves no room for a target.
    """
    request.in_one_batch()
    sources, candidates, codec = request.prompts, request.num_samples, pairs.codec
    if not all(source.strip() for source in sources):
        raise UserError("the source is empty; give a text to generate a target for")
    rows: list[list[int | None]] = []
    for given in pairs.given(sources):
        room = pairs.length - len(given)
        if room < 2:
            raise UserError(
                f"the source takes {len(given)} of the {pairs.length} tokens that the model was "
                "trained on, which leaves no room for a target; shorten it"
            )
        rows.append([*given, *[None] * room])
    return Rows(
        Canvas.from_rows(rows, codec.mask_token_id, codec.pad_token_id),
        torch.tensor([row_seed(request.seed, i) for i in range(candidates)] * len(sources)),
        [[row] for row in range(len(rows)) for _ in range(candidates)],
        [(row.count(None),) for row in rows],
    )
