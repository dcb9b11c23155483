"""From prompts to a canvas: how many rows, which seeds, and which rows compete with each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unmask.canvas import Canvas
from unmask.codec.pairs import PairCodec
from unmask.codec.text import Blank, TextCodec
from unmask.errors import UserError

DEFAULT_LENGTH = 100
MAX_LENGTH = 1_000_000
MAX_ROWS = 1024


@dataclass(frozen=True)
class Plan:
    """What one call writes.

    Attributes:
        canvas: The rows.
        seeds: Shape (B,), int64; of each row's random numbers.
        groups: For every text that is to come out, the rows that compete for it: the possible
            lengths of its blanks, or the candidates for a source.
    """

    canvas: Canvas
    seeds: Tensor
    groups: list[list[int]]

    @property
    def length(self) -> int:
        """Tokens to write in the row with the most blanks."""
        return int(self.canvas.masked.sum(1).max())

    def to(self, device: torch.device) -> Plan:
        """Return the same plan on a device."""
        return Plan(self.canvas.to(device), self.seeds.to(device), self.groups)


def make_plan(
    codec: TextCodec,
    prompts: Sequence[str],
    length: int | None,
    num_samples: int,
    seed: int,
    limit: int | None,
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

    Raises:
        UserError: If a number is out of range or a row is longer than the model.
    """
    _check_numbers("num_samples", num_samples, seed)
    if length is not None and not 1 <= length <= MAX_LENGTH:
        raise UserError(f"length must be from 1 to {MAX_LENGTH} tokens, not {length}")
    rows: list[list[int | None]] = []
    groups: list[list[int]] = []
    seeds: list[int] = []
    for prompt in prompts:
        candidates = [row for row, _ in codec.rows(_parts(codec, prompt, length, limit))]
        for index in range(num_samples):
            groups.append(list(range(len(rows), len(rows) + len(candidates))))
            rows += candidates
            seeds += [_row_seed(seed, index)] * len(candidates)
    if len(rows) > MAX_ROWS:
        raise UserError(
            f"prompts x samples x lengths make {len(rows)} rows; at most {MAX_ROWS} are possible"
        )
    longest = max(map(len, rows), default=0)
    if limit is not None and longest > limit:
        raise UserError(
            f"prompt and blanks make {longest} tokens, but the model has {limit} positions; "
            "shorten the prompt or the length"
        )
    canvas = Canvas.from_rows(rows, codec.mask_token_id, codec.pad_token_id)
    return Plan(canvas, torch.tensor(seeds), groups)


def make_pair_plan(pairs: PairCodec, sources: Sequence[str], candidates: int, seed: int) -> Plan:
    """Lay out a row for every candidate for the target of every source.

    Args:
        pairs: The layout.
        sources: Texts.
        candidates: Rows of each source.
        seed: Candidate i for every source gets its seed from (seed, i).

    Raises:
        UserError: If a number is out of range, or a source is empty or leaves no room for a target.
    """
    _check_numbers("candidates", candidates, seed)
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
        rows += [[*given, *[None] * room]] * candidates
    codec = pairs.codec
    return Plan(
        Canvas.from_rows(rows, codec.mask_token_id, codec.pad_token_id),
        torch.tensor([_row_seed(seed, i) for i in range(candidates)] * len(sources)),
        [list(range(i, i + candidates)) for i in range(0, len(rows), candidates)],
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
    if any(len(group) > 1 for group in plan.groups):
        raise UserError(
            "a model of blocks cannot choose among the lengths of a blank; give one length"
        )


def _check_numbers(name: str, count: int, seed: int) -> None:
    if not 1 <= count <= MAX_ROWS:
        raise UserError(f"{name} must be from 1 to {MAX_ROWS}, not {count}")
    if not -(2**40) < seed < 2**40:
        raise UserError(f"seed must be a whole number below 2^40, not {seed}")


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
        length = what_fits(limit, len(next(codec.rows(parts))[0]))
    return [*parts, Blank(length, length)]
