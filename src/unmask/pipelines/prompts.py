"""From the prompts of a request to rows: their seeds, and the lengths that each text may have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from unmask.data.templates import Blank, Layout
from unmask.data.text import TextCodec
from unmask.diffusion.rng import RowRng
from unmask.errors import UserError
from unmask.pipelines.base import DiffusionPipeline
from unmask.pipelines.request import MAX_LAYOUTS, GenerationRequest
from unmask.sampling.canvas import Canvas
from unmask.sampling.sliding_window import Window

DEFAULT_LENGTH = 100


@dataclass(frozen=True)
class Rows:
    """The rows of a batch before the lengths of their blanks are chosen, and after.

    Attributes:
        canvas: The possible rows, (R, L): each prompt with each combination of blank lengths.
        seeds: Shape (N,), int64; one for each text to be generated.
        choices: For each text the rows of the canvas that it may become, one of which is generated.
        blanks: For each row the length of each of its blanks, in tokens.
        texts: For each row the given texts before, between and after its blanks.
        length_seed: Seed of the masks by which lengths are compared; None for that of the first
            text that may become a row.
    """

    canvas: Canvas
    seeds: Tensor
    choices: list[list[int]]
    blanks: list[tuple[int, ...]]
    texts: Sequence[tuple[str, ...]] = ()
    length_seed: int | None = None

    @property
    def length(self) -> int:
        """Tokens to generate in the row with the most masks."""
        return int(self.canvas.masked.sum(1).max())

    @property
    def is_open(self) -> bool:
        """Whether a blank of some text has more than one possible length."""
        return any(len(choice) > 1 for choice in self.choices)

    @property
    def has_text_after_blank(self) -> bool:
        """Whether a given token of some row stands after a mask."""
        masked = self.canvas.masked
        return bool((self.canvas.valid & ~masked & (masked.cumsum(1) > 0)).any())

    def to(self, device: torch.device) -> Rows:
        """Return the same rows on a device."""
        return replace(self, canvas=self.canvas.to(device), seeds=self.seeds.to(device))

    def only(self, possible: Tensor) -> Rows:
        """Return the rows without the choices for which a boolean (R,) is False."""
        kept = possible.tolist()
        return replace(self, choices=[[r for r in rows if kept[r]] for rows in self.choices])

    def chosen(self, rows: Sequence[int]) -> Rows:
        """Return the rows in which text i is row i of the canvas: the former row ``rows[i]``."""
        return replace(
            self,
            canvas=self.canvas.rows(rows),
            choices=[[i] for i in range(len(rows))],
            blanks=[self.blanks[row] for row in rows],
            texts=[self.texts[row] for row in rows] if self.texts else (),
        )


def lay_out(
    request: GenerationRequest, pipeline: DiffusionPipeline, window: Window | None = None
) -> Rows:
    """Lay out the rows for the prompts of one batch.

    Args:
        request: What to generate.
        pipeline: The model. One that was trained on records has the ends of its texts in its rows,
            and draws their lengths from those of its data where none is given.
        window: What is seen at once of a row that is longer; None if no row can be.

    Raises:
        UserError: If there are too many rows, one is longer than the model, or a length is given
            for a prompt with blanks.
    """
    request.in_one_batch()
    codec, length = pipeline.codec, request.length
    numbers = range(request.first, request.first + request.num_samples)
    seeds = torch.tensor([row_seed(request.seed, i) for i in numbers])
    layouts, choices = list[Layout](), list[list[int]]()
    for prompt in request.prompts:
        begin = len(layouts)
        if pipeline.card.records and length is None and not has_blank(codec, prompt):
            layouts += _record_rows(pipeline, prompt, seeds)
            choices += [[row] for row in range(begin, len(layouts))]
            continue
        layouts += codec.rows(_parts(codec, prompt, length, pipeline.limit))
        choices += [list(range(begin, len(layouts)))] * request.num_samples
    if len(layouts) > MAX_LAYOUTS:
        raise UserError(
            f"prompts x lengths make {len(layouts)} rows to choose from; at most {MAX_LAYOUTS} are "
            "possible: narrow the ranges of the blanks"
        )
    longest, limit = max(len(layout.row) for layout in layouts), pipeline.limit
    if limit is not None and longest > limit and (window is None or length is None):
        raise UserError(
            f"prompt and blanks make {longest} tokens, but the model has {limit} positions; "
            "shorten the prompt or the length"
        )
    return Rows(
        Canvas.from_rows(
            [layout.row for layout in layouts], codec.mask_token_id, codec.pad_token_id
        ),
        seeds.repeat(len(request.prompts)),
        choices,
        [layout.sizes for layout in layouts],
        [layout.texts for layout in layouts],
        length_seed=row_seed(request.seed, 0),
    )


def _record_rows(pipeline: DiffusionPipeline, prompt: str, seeds: Tensor) -> list[Layout]:
    """Return a row with an end for each sample of a prompt.

    Its length is drawn from those of the training texts that are longer than the prompt.

    Raises:
        UserError: If there are none.
    """
    codec = pipeline.codec
    used = len(codec.encode(prompt))
    left = [length - used for length in pipeline.card.records["lengths"] if length > used]
    if not left:
        raise UserError(
            f"the prompt has {used} tokens, as many as the longest texts that the model was "
            "trained on; give a length"
        )
    u = RowRng(seeds).uniform("record", 0, 1)[:, 0].tolist()
    sizes = [left[int(number * len(left))] for number in u]
    rows = [layout for size in sizes for layout in codec.rows([prompt, Blank(size, size)])]
    return [replace(layout, row=[*layout.row, codec.end]) for layout in rows]


def _parts(
    codec: TextCodec, prompt: str, length: int | None, limit: int | None
) -> list[str | Blank]:
    parts = codec.template(prompt)
    if any(isinstance(part, Blank) for part in parts):
        if length is not None:
            raise UserError("the prompt holds blanks of its own, so leave length out")
        return parts
    if length is None:
        length = what_fits(limit, len(next(codec.rows(parts)).row))
    return [*parts, Blank(length, length)]


def has_blank(codec: TextCodec, text: str) -> bool:
    """Return whether a text holds a blank."""
    return any(isinstance(part, Blank) for part in codec.template(text))


def what_fits(limit: int | None, used: int) -> int:
    """Return the default length, or what a model with ``limit`` positions has left after ``used``.

    At least 1, so that a prompt that fills the model is refused for what it is.
    """
    return DEFAULT_LENGTH if limit is None else max(min(DEFAULT_LENGTH, limit - used), 1)


def row_seed(seed: int, index: int) -> int:
    """Return the seed of a sample of every prompt."""
    return seed * 1_000_003 + index


def window_for(request: GenerationRequest, pipeline: DiffusionPipeline) -> Window | None:
    """Return what the network sees at once of a longer row; None where no row can be longer.

    Raises:
        UserError: If an option does not go with the prompts, the tokenizer or the model, or a
            number is out of range.
    """
    requested = [
        name
        for name in ("window", "stride", "stop_at_end")
        if getattr(request, name) not in (None, False)
    ]
    if requested and any(has_blank(pipeline.codec, prompt) for prompt in request.prompts):
        raise UserError(f"the prompt holds blanks of its own, so leave {requested[0]} out")
    for name in requested:
        pipeline.require("stop_at_end" if name == "stop_at_end" else "sliding_window", name)
    if request.stop_at_end and pipeline.codec.end is None:
        raise UserError("the tokenizer has no end symbol to stop at; leave stop_at_end out")
    if not pipeline.supports("sliding_window"):
        return None
    return make_window(pipeline.codec, pipeline.limit, request.window, request.stride)


def make_window(
    codec: TextCodec, limit: int | None, size: int | None, stride: int | None
) -> Window | None:
    """Return what is seen at once of a long row: by default what the model has positions for.

    Args:
        codec: The tokenizer.
        limit: Positions of the model, None for no limit.
        size: Tokens of the window, None for the limit.
        stride: Tokens that a chunk adds, None for half a window.

    Returns:
        The window, None if there is no end to what the model sees.

    Raises:
        UserError: If a number is out of range.
    """
    if size is None and limit is None:
        if stride is not None:
            raise UserError("this model sees rows of any length, so a stride needs a window")
        return None
    if limit is not None and size is not None and size > limit:
        raise UserError(f"window must be at most the {limit} positions of the model, not {size}")
    seen = limit if size is None else size
    assert seen is not None
    start = len(codec.start)
    return Window(seen, max((seen - start) // 2, 1) if stride is None else stride, start)
