"""From prompts to a canvas: how many texts, their seeds, and the lengths each of them may have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from unmask.data.pairs import PairCodec
from unmask.data.templates import Blank, Layout
from unmask.data.text import TextCodec
from unmask.diffusion.rng import RowRng
from unmask.errors import UserError
from unmask.sampling.canvas import Canvas
from unmask.sampling.samplers.base import MAX_LENGTH
from unmask.sampling.sliding_window import Window

DEFAULT_LENGTH = 100
MAX_ROWS = 1024
"""Texts that are written in one go; see ``batches``."""
MAX_LAYOUTS = 4096
MAX_TEXTS = 2**20


@dataclass(frozen=True)
class Plan:
    """What one call writes.

    Attributes:
        canvas: The possible rows, (R, L): each prompt with each combination of blank lengths.
        seeds: Shape (N,), int64; one for each text to be written.
        choices: For each text the rows of the canvas that it may become, one of which is written.
        blanks: For each row the length of each of its blanks, in tokens.
        window: What the network sees at once; None for all of a row.
        end: The id behind which nothing is written; None for none.
        judge: Seed of the masks by which lengths are chosen; None for that of the first text that
            may become a row.
        texts: For each row the given texts before, between and behind its blanks.
    """

    canvas: Canvas
    seeds: Tensor
    choices: list[list[int]]
    blanks: list[tuple[int, ...]]
    window: Window | None = None
    end: int | None = None
    judge: int | None = None
    texts: Sequence[tuple[str, ...]] = ()

    @property
    def length(self) -> int:
        """Tokens to write in the row with the most blanks."""
        return int(self.canvas.masked.sum(1).max())

    @property
    def is_open(self) -> bool:
        """Whether a blank of some text has more than one possible length."""
        return any(len(choice) > 1 for choice in self.choices)

    def to(self, device: torch.device) -> Plan:
        """Return the same plan on a device."""
        return replace(self, canvas=self.canvas.to(device), seeds=self.seeds.to(device))

    @property
    def settings(self) -> dict[str, Any]:
        """What there is to know of the rows, for the record."""
        found: dict[str, Any] = {"length": self.length}
        if self.window is not None and self.slides:
            found |= {"window": self.window.size, "stride": self.window.stride}
        return found | ({} if self.end is None else {"stop_at_end": True})

    @property
    def slides(self) -> bool:
        """Whether a row is longer than the window."""
        return self.window is not None and self.canvas.ids.shape[1] > self.window.size

    @property
    def width(self) -> int:
        """Most tokens that the network sees at once."""
        length = self.canvas.ids.shape[1]
        return length if self.window is None else min(length, self.window.size)

    def only(self, possible: Tensor) -> Plan:
        """Return the plan without the rows for which a boolean (R,) is False."""
        kept = possible.tolist()
        return replace(self, choices=[[r for r in rows if kept[r]] for rows in self.choices])

    def chosen(self, rows: Sequence[int]) -> Plan:
        """Return the plan in which text i is row i of the canvas: the former row ``rows[i]``."""
        return replace(
            self,
            canvas=self.canvas.rows(rows),
            choices=[[i] for i in range(len(rows))],
            blanks=[self.blanks[row] for row in rows],
            texts=[self.texts[row] for row in rows] if self.texts else (),
        )


class Batch(NamedTuple):
    """Texts that are written in one go.

    Attributes:
        prompts: The prompts.
        first: Number of the first sample of each.
        samples: Samples of each.
        is_open: Whether a blank of some prompt has more than one possible length.
    """

    prompts: list[str]
    first: int
    samples: int
    is_open: bool


def batches(codec: TextCodec, prompts: Sequence[str], num_samples: int) -> list[Batch]:
    """Return the texts of a call in parts of at most ``MAX_ROWS``, in order.

    Args:
        codec: The tokenizer.
        prompts: Texts, with or without blanks.
        num_samples: Samples of each prompt.

    Raises:
        UserError: If there are more than ``MAX_TEXTS``, or the lengths of the blanks of a prompt
            have too many combinations.
    """
    if not 1 <= num_samples <= MAX_TEXTS:
        raise UserError(f"num_samples must be from 1 to {MAX_TEXTS}, not {num_samples}")
    if len(prompts) * num_samples > MAX_TEXTS:
        raise UserError(
            f"prompts x samples make {len(prompts) * num_samples} texts; at most {MAX_TEXTS} are "
            "possible"
        )
    if num_samples > MAX_ROWS:
        return [
            Batch([prompt], first, min(MAX_ROWS, num_samples - first), codec.count_rows(prompt) > 1)
            for prompt in prompts
            for first in range(0, num_samples, MAX_ROWS)
        ]
    found: list[list[tuple[str, int]]] = [[]]
    layouts = 0
    for prompt in prompts:
        own = codec.count_rows(prompt)
        layouts += own
        if layouts > MAX_LAYOUTS or (len(found[-1]) + 1) * num_samples > MAX_ROWS:
            found.append([])
            layouts = own
        found[-1].append((prompt, own))
    return [
        Batch([prompt for prompt, _ in part], 0, num_samples, any(own > 1 for _, own in part))
        for part in found
        if part
    ]


def make_plan(
    codec: TextCodec,
    prompts: Sequence[str],
    length: int | None,
    num_samples: int,
    seed: int,
    limit: int | None,
    window: Window | None = None,
    first: int = 0,
    lengths: Sequence[int] | None = None,
) -> Plan:
    """Lay out the rows for prompts or templates.

    Args:
        codec: The tokenizer.
        prompts: Texts, with or without blanks.
        length: Tokens to write after a prompt without blanks; ``DEFAULT_LENGTH`` or what fits if
            None.
        num_samples: Samples of each prompt.
        seed: Sample i of every prompt gets its seed from (seed, i).
        limit: Positions of the model, None for no limit.
        window: What is seen at once of a row that is longer; None if a row cannot be.
        first: Number of the first sample.
        lengths: Of a model of records, tokens of texts such as it was trained on; None for any
            other. A row then has its end, and its length is one of these if none is given.

    Raises:
        UserError: If a number is out of range or a row is longer than the model.
    """
    check_numbers("num_samples", num_samples, seed)
    if length is not None and not 1 <= length <= MAX_LENGTH:
        raise UserError(f"length must be from 1 to {MAX_LENGTH} tokens, not {length}")
    layouts: list[Layout] = []
    choices: list[list[int]] = []
    numbers = range(first, first + num_samples)
    own_seeds = torch.tensor([_row_seed(seed, i) for i in numbers])
    ending = [] if lengths is None else [codec.end]
    for prompt in prompts:
        begin = len(layouts)
        if lengths is not None and length is None and not has_blank(codec, prompt):
            for size in _drawn(codec, prompt, lengths, own_seeds):
                choices.append([len(layouts)])
                found = codec.rows([prompt, Blank(size, size)])
                layouts += [replace(layout, row=[*layout.row, *ending]) for layout in found]
            continue
        layouts += codec.rows(_parts(codec, prompt, length, limit))
        choices += [list(range(begin, len(layouts)))] * num_samples
    rows = [layout.row for layout in layouts]
    if len(choices) > MAX_ROWS:
        raise UserError(
            f"prompts x samples make {len(choices)} rows; at most {MAX_ROWS} are possible"
        )
    if len(rows) > MAX_LAYOUTS:
        raise UserError(
            f"prompts x lengths make {len(rows)} rows to choose from; at most {MAX_LAYOUTS} are "
            "possible: narrow the ranges of the blanks"
        )
    longest = max(map(len, rows), default=0)
    if limit is not None and longest > limit and (window is None or length is None):
        raise UserError(
            f"prompt and blanks make {longest} tokens, but the model has {limit} positions; "
            "shorten the prompt or the length"
        )
    canvas = Canvas.from_rows(rows, codec.mask_token_id, codec.pad_token_id)
    return Plan(
        canvas,
        own_seeds.repeat(len(prompts)),
        choices,
        [layout.sizes for layout in layouts],
        window,
        judge=_row_seed(seed, 0),
        texts=[layout.texts for layout in layouts],
    )


def _drawn(codec: TextCodec, prompt: str, lengths: Sequence[int], seeds: Tensor) -> list[int]:
    """Draw how many tokens each sample adds to a prompt, by the lengths of texts that are longer.

    Raises:
        UserError: If there are none.
    """
    used = len(codec.encode(prompt))
    left = [length - used for length in lengths if length > used]
    if not left:
        raise UserError(
            f"the prompt has {used} tokens, as many as the longest texts that the model was "
            "trained on; give a length"
        )
    u = RowRng(seeds).uniform("record", 0, 1)[:, 0].tolist()
    return [left[int(number * len(left))] for number in u]


def lay_out(
    codec: TextCodec,
    prompts: Sequence[str],
    *,
    length: int | None,
    num_samples: int,
    seed: int,
    limit: int | None,
    window: int | None = None,
    stride: int | None = None,
    stop_at_end: bool = False,
    whole: str | None = None,
    first: int = 0,
    lengths: Sequence[int] | None = None,
) -> Plan:
    """Lay out rows that may be longer than the model, and end where an end symbol is written.

    Args:
        codec: The tokenizer.
        prompts: As of ``make_plan``, like ``length``, ``num_samples``, ``seed`` and ``limit``.
        window: Tokens that are seen at once of a longer row, see ``make_window``.
        stride: Tokens that each stretch of a longer row adds.
        stop_at_end: Write nothing behind an end symbol.
        whole: How the model was trained, if it writes no rows longer than fit.
        first: Number of the first sample of each prompt.
        lengths: As of ``make_plan``.

    Raises:
        UserError: As ``make_plan`` and ``make_window``, or if an option does not go with the
            prompts, the tokenizer or the model.
    """
    told = {"window": window, "stride": stride, "stop_at_end": stop_at_end or None}
    asked = [name for name, value in told.items() if value is not None]
    if asked and any(has_blank(codec, prompt) for prompt in prompts):
        raise UserError(f"the prompt holds blanks of its own, so leave {asked[0]} out")
    if stop_at_end and codec.end is None:
        raise UserError("the tokenizer has no end symbol to stop at; leave stop_at_end out")
    if stop_at_end and lengths is not None:
        raise UserError(
            "a model of records is told where its text ends before it writes; leave stop_at_end out"
        )
    sight = None
    if whole is None:
        sight = make_window(codec, limit, window, stride)
    elif window is not None or stride is not None:
        raise UserError(
            f"a model that was trained {whole} writes without a window that slides; leave out "
            "window and stride"
        )
    plan = make_plan(codec, prompts, length, num_samples, seed, limit, sight, first, lengths)
    return replace(plan, end=codec.end if stop_at_end else None)


def has_blank(codec: TextCodec, text: str) -> bool:
    """Return whether a text holds a blank."""
    return any(isinstance(part, Blank) for part in codec.template(text))


def make_window(
    codec: TextCodec, limit: int | None, size: int | None, stride: int | None
) -> Window | None:
    """Return what is seen at once of a long row: by default what the model has positions for.

    Args:
        codec: The tokenizer.
        limit: Positions of the model, None for no limit.
        size: Tokens of the window, None for the limit.
        stride: Tokens that a stretch adds, None for half a window.

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


def make_pair_plan(pairs: PairCodec, sources: Sequence[str], candidates: int, seed: int) -> Plan:
    """Lay out the candidates for the target of every source, one source after the other.

    Args:
        pairs: The layout.
        sources: Texts.
        candidates: Targets to write for each source.
        seed: Candidate i for every source gets its seed from (seed, i).

    Raises:
        UserError: If a number is out of range, or a source is empty or leaves no room for a target.
    """
    check_numbers("candidates", candidates, seed)
    if not sources or not all(source.strip() for source in sources):
        raise UserError("the source is empty; give a text to write a target for")
    if len(sources) * candidates > MAX_ROWS:
        raise UserError(
            f"sources x candidates make {len(sources) * candidates} rows; at most {MAX_ROWS} are "
            "possible"
        )
    rows: list[list[int | None]] = []
    for given in pairs.given(sources):
        room = pairs.length - len(given)
        if room < 2:
            raise UserError(
                f"the source takes {len(given)} of the {pairs.length} tokens that the model was "
                "trained on, which leaves no room for a target; shorten it"
            )
        rows.append([*given, *[None] * room])
    codec = pairs.codec
    return Plan(
        Canvas.from_rows(rows, codec.mask_token_id, codec.pad_token_id),
        torch.tensor([_row_seed(seed, i) for i in range(candidates)] * len(sources)),
        [[row] for row in range(len(rows)) for _ in range(candidates)],
        [(row.count(None),) for row in rows],
    )


def check_left_to_right(plan: Plan) -> None:
    """Raise a UserError unless all that is to be written stands at the end of its row."""
    masked = plan.canvas.masked
    given = plan.canvas.valid & ~masked
    if bool((given & (masked.cumsum(1) > 0)).any()):
        raise UserError(
            "a model of blocks writes from left to right and does not see what stands behind a "
            "blank; leave the text after the blank out, or take a masked model (an encoder)"
        )
    if plan.is_open:
        raise UserError(
            "a model of blocks cannot choose among the lengths of a blank; give one length"
        )


def check_numbers(name: str, count: int, seed: int) -> None:
    """Raise a UserError for more rows than are possible, or a seed that ``check_seed`` refuses."""
    if not 1 <= count <= MAX_ROWS:
        raise UserError(f"{name} must be from 1 to {MAX_ROWS}, not {count}")
    check_seed(seed)


def check_seed(seed: int) -> None:
    """Raise a UserError for a seed of which no row could have one of its own."""
    if not -(2**40) < seed < 2**40:
        raise UserError(f"seed must be a whole number between -2^40 and 2^40, not {seed}")


def _row_seed(seed: int, index: int) -> int:
    return seed * 1_000_003 + index


def what_fits(limit: int | None, used: int) -> int:
    """Return the default length, or what a model with ``limit`` positions has left after ``used``.

    At least 1, so that a prompt that fills the model is refused for what it is.
    """
    return DEFAULT_LENGTH if limit is None else max(min(DEFAULT_LENGTH, limit - used), 1)


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
