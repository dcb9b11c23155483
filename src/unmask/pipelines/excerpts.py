"""Blanks in a text that is longer than the model: windows around them, and the rest put back.

    ... text | text [MASK:5] text [MASK] text | text ... text | text [MASK:3] text | text ...
               <------- a window ----------->                   <---- another --->

Blanks that are close together share a window. It shows as much of the text on either side as fits,
up to the middle between two windows. The network does not see the text outside, which comes back
unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TypeVar

from unmask.data.templates import Blank
from unmask.data.text import TextCodec

Item = TypeVar("Item")
_SHARE = 0.75
"""Share of a window for blanks and the text between them; the rest is context."""
_SPARE = 8
"""Tokens that a text may gain where it is cut."""


@dataclass(frozen=True)
class Excerpts:
    """A text with blanks as windows to fill, and the text around them.

    Attributes:
        templates: The windows, N texts with blanks.
        around: The text before, between and after the windows, N + 1 texts.
    """

    templates: tuple[str, ...]
    around: tuple[str, ...]

    def filled(self, texts: Sequence[str]) -> str:
        """Return the whole text, with the filled text of each window."""
        first, *rest = self.around
        return first + "".join(chain.from_iterable(zip(texts, rest, strict=True)))


def cut_out(codec: TextCodec, text: str, limit: int | None) -> Excerpts:
    """Return the windows of a text: all of it if it fits, holds no blank or cannot be cut.

    Args:
        codec: The tokenizer.
        text: A text with or without blanks.
        limit: Tokens that the model sees at once, the start symbol included; None for no limit.
    """
    whole = Excerpts((text,), ("", ""))
    if limit is None:
        return whole
    parts = codec.template(text)
    blanks = [i for i, part in enumerate(parts) if isinstance(part, Blank)]
    room = limit - len(codec.start)
    if not blanks or _size(codec, parts) <= room:
        return whole
    groups = _groups(codec, parts, blanks, int(room * _SHARE))
    inner = [parts[first : last + 1] for first, last in groups]
    spare = [room - _size(codec, group) - _SPARE for group in inner]
    if min(spare) < 0:
        return whole
    gaps = [
        "".join(map(str, parts[end:begin]))
        for end, begin in zip(
            [0, *(last + 1 for _, last in groups)],
            [*(first for first, _ in groups), len(parts)],
            strict=True,
        )
    ]
    return _windows(codec, inner, gaps, spare)


def _windows(
    codec: TextCodec, inner: list[list[str | Blank]], gaps: list[str], spare: list[int]
) -> Excerpts:
    """Give each group of blanks as much of the gaps next to it as it has tokens to spare."""
    # A gap between two windows belongs to the first up to its middle.
    halves = [("", gaps[0]), *map(_halves, gaps[1:-1]), (gaps[-1], "")]
    around, templates, after = list[str](), list[str](), ""
    for group, (_, left), (right, _), tokens in zip(
        inner, halves[:-1], halves[1:], spare, strict=True
    ):
        # One side takes what the other does not need.
        ahead = prefix(codec, right, tokens - tokens // 2)
        before = suffix(codec, left, tokens - len(codec.encode(ahead)))
        ahead = prefix(codec, right, tokens - len(codec.encode(before)))
        around.append(after + left.removesuffix(before) if before else after + left)
        templates.append(before + "".join(map(_spelt, group)) + ahead)
        after = right[len(ahead) :]
    return Excerpts(tuple(templates), (*around, after))


def _groups(
    codec: TextCodec, parts: list[str | Blank], blanks: list[int], most: int
) -> list[tuple[int, int]]:
    """Return the first and last part of each group of blanks that take at most so many tokens.

    Blanks without text between them are never separated.
    """
    groups = [(blanks[0], blanks[0])]
    for index in blanks[1:]:
        first, last = groups[-1]
        if index == last + 1 or _size(codec, parts[first : index + 1]) <= most:
            groups[-1] = (first, index)
        else:
            groups.append((index, index))
    return groups


def _size(codec: TextCodec, parts: Sequence[str | Blank]) -> int:
    """Return the most tokens that parts of a template take."""
    return sum(p.longest if isinstance(p, Blank) else len(codec.encode(p)) for p in parts)


def _spelt(part: str | Blank) -> str:
    return f"[MASK:{part.shortest}-{part.longest}]" if isinstance(part, Blank) else part


def _halves(text: str) -> tuple[str, str]:
    """Cut a text near its middle, before a word if there is one near."""
    middle = len(text) // 2
    found = re.compile(r"(?<=\s)(?=\S)").search(text, max(middle, 1), min(middle + 100, len(text)))
    place = found.start() if found else middle
    return text[:place], text[place:]


def prefix(codec: TextCodec, text: str, count: int) -> str:
    """Return the beginning of a text that takes at most ``count`` tokens, of whole words if any."""

    def part(size: int) -> str:
        # The space goes with the word after it.
        ends = [found.start() for found in re.finditer(r"(?<=\S)(?=\s)", text[: size + 1])]
        return text[: ends[-1] if ends and size < len(text) else size]

    return _fitting(codec, part, len(text), count)


def suffix(codec: TextCodec, text: str, count: int) -> str:
    """Return the end of a text that takes at most ``count`` tokens, of whole words if any."""

    def part(size: int) -> str:
        begin = len(text) - size
        word = re.compile(r"(?<=\s)(?=\S)").search(text, begin) if begin else None
        return text[word.start() if word else begin :]

    return _fitting(codec, part, len(text), count)


def _fitting(codec: TextCodec, part: Callable[[int], str], most: int, count: int) -> str:
    """Return a long part of about as many characters as make ``count`` tokens, no more of them."""
    size = min(most, 16 * max(count, 0))
    while size > 0:
        found = part(size)
        tokens = len(codec.encode(found))
        if tokens <= count:
            return found
        size = min(size - 1, int(size * count / tokens))
    return ""


def by_text(
    items: Sequence[Item], excerpts: Sequence[Excerpts], samples: int
) -> Iterator[tuple[Excerpts, list[Item]]]:
    """Yield each sample of each text with what belongs to its windows.

    Args:
        items: One for each sample of each window: all samples of the first window, and so on.
        excerpts: The texts.
        samples: Samples of each text.
    """
    begin = 0
    for text in excerpts:
        end = begin + len(text.templates) * samples
        for sample in range(samples):
            yield text, list(items[begin + sample : end : samples])
        begin = end
