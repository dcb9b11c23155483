"""Templates: texts with blanks such as ``[MASK]``, ``[MASK:5]`` and ``[MASK:3-8]``."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from unmask.errors import UserError

MAX_BLANK = 4096
MAX_TEMPLATES = 4096
_SHOWN = 40
_MARK = re.compile(r"\[MASK(?::([^\]\s]*))?\]")
# How other programs write a blank. An ellipsis counts only in a text without any other such mark.
_WORDS = r"(?:mask|blank|gap|fill|extra_id)[^\[\]<>{}()]{0,20}"
_BRACKETS = rf"\[+\s*{_WORDS}\]+|<+[\s|]*{_WORDS}>+|\{{+\s*{_WORDS}\}}+|\(\s*{_WORDS}\)"
_LIKE_A_MARK = re.compile(rf"{_BRACKETS}|_{{2,}}|\[_\]|\[\s*\]|\?{{2,}}|\.{{3,}}|…", re.IGNORECASE)


@dataclass(frozen=True)
class Blank:
    """A blank in a template, of ``shortest`` to ``longest`` tokens."""

    shortest: int
    longest: int


Part = str | Blank
"""A template is a list of parts: given texts and blanks."""


@dataclass(frozen=True)
class Layout:
    """One sequence that a template stands for.

    Attributes:
        row: Ids, None where a token is to be generated.
        sizes: The number of tokens in each of its n blanks.
        texts: The n + 1 given texts before, between and after the blanks, unchanged.
    """

    row: list[int | None]
    sizes: tuple[int, ...]
    texts: tuple[str, ...]


def parse(text: str) -> list[Part]:
    """Split a text at its blanks; empty texts are dropped.

    Raises:
        UserError: If a blank cannot be read.
    """
    parts: list[Part] = []
    end = 0
    for mark in _MARK.finditer(text):
        parts += [text[end : mark.start()], _blank(mark)]
        end = mark.end()
    return [part for part in [*parts, text[end:]] if part != ""]


def count_layouts(parts: Sequence[Part]) -> int:
    """Return how many sequences a template stands for: the product of its blanks' lengths."""
    return math.prod(b.longest - b.shortest + 1 for b in parts if isinstance(b, Blank))


def layouts(
    parts: Sequence[Part], encoded: Sequence[list[int] | Blank], start: Sequence[int]
) -> Iterator[Layout]:
    """Yield every sequence that a template stands for.

    Args:
        parts: The template.
        encoded: The same with ids in place of texts.
        start: The ids that every sequence begins with.

    Raises:
        UserError: If there are more than ``MAX_TEMPLATES``.
    """
    count = count_layouts(parts)
    if count > MAX_TEMPLATES:
        raise UserError(
            f"the blanks allow {count} combinations of lengths, more than {MAX_TEMPLATES}; "
            "narrow their ranges"
        )
    blanks = [part for part in parts if isinstance(part, Blank)]
    texts = _given_texts(parts)
    for choice in product(*(range(blank.shortest, blank.longest + 1) for blank in blanks)):
        sizes = iter(choice)
        row: list[int | None] = list(start)
        for part in encoded:
            row += [None] * next(sizes) if isinstance(part, Blank) else part
        yield Layout(row, choice, texts)


def like_a_mark(text: str) -> str | None:
    """Return the first part of a text that looks like a blank but is not written as one."""
    found = [mark.group() for mark in _LIKE_A_MARK.finditer(text)]
    # Many sentences end in three dots, so these come last.
    found.sort(key=lambda mark: mark.startswith((".", "…")))
    return found[0] if found else None


def _blank(mark: re.Match[str]) -> Blank:
    size = mark.group(1)
    if size is None:
        return Blank(1, 1)
    found = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", size, re.ASCII)
    if found is None:
        shown = mark.group() if len(mark.group()) <= _SHOWN else f"{mark.group()[:_SHOWN]}..."
        raise UserError(f"cannot read the blank {shown}; write [MASK], [MASK:5] or [MASK:3-8]")
    shortest, longest = int(found[1]), int(found[2] or found[1])
    if not 1 <= shortest <= longest <= MAX_BLANK:
        raise UserError(
            f"the blank {mark.group()} needs 1 <= shortest <= longest <= {MAX_BLANK} tokens"
        )
    return Blank(shortest, longest)


def _given_texts(parts: Sequence[Part]) -> tuple[str, ...]:
    """Return the texts before, between and after the blanks."""
    texts = [""]
    for part in parts:
        if isinstance(part, Blank):
            texts.append("")
        else:
            texts[-1] += part
    return tuple(texts)
