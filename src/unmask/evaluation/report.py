"""Scores as lines and tables for people to read.

"≤" marks an upper bound. A number is followed by half of its 95 % confidence interval over masks
(this text), then by that over texts (texts like this one); see ``evaluation.intervals``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from unmask.data.codec import Codec
from unmask.evaluation.scores import Difference, Score

LEGEND = (
    "≤ marks an upper bound. The first ± is the 95 % confidence interval over random masks: how "
    "well the bound on this text is known; exact values have 0. The second ± and the range in "
    "brackets are over texts: how far the bound on other texts like this one may be. ? means "
    "unknown, from one draw of masks or too few rows. Words are separated by white space; a line "
    "end counts as one."
)
_LARGE = 1e7
_LOSSY = (
    "† The tokenizer does not reproduce the text (case, accents or white space are lost): "
    "characters and words are those of the tokens, so the number is for another text than that of "
    "a lossless tokenizer."
)


@dataclass(frozen=True)
class Column:
    """A reported property of a score.

    Attributes:
        unit: A name in ``scores.UNITS``.
        name: What it is called.
        digits: Decimals.
        skewed: Whether its interval is asymmetric, so that both ends are shown.
    """

    unit: str
    name: str
    digits: int
    skewed: bool = False

    def spelt(self, score: Score, over: str) -> str:
        """Return the property with its interval as words."""
        if self.skewed:
            return f"{self.name} {_with_range(score, self.unit, self.digits, over)}"
        return f"{_with_margin(score, self.unit, self.digits, over)} {self.name}"


COLUMNS = (
    Column("bits_per_dim", "bits/dim", 4),
    Column("nats_per_token", "nats/token", 4),
    Column("perplexity", "perplexity", 2, skewed=True),
    Column("bits_per_char", "bits/char", 4),
    Column("word_perplexity", "word perplexity", 1, skewed=True),
)


def columns(scores: Iterable[Score]) -> list[Column]:
    """Return what is reported of scores; of images no perplexity, which nobody gives."""
    known = {unit for score in scores for unit in score.known}
    hidden = {"perplexity"} if "bits_per_dim" in known else set()
    return [column for column in COLUMNS if column.unit in known - hidden]


def _size(score: Score) -> str:
    """Return the size of the data in words."""
    if "dims" in score.units:
        count = len(score.text.rows)
        images = "1 image" if count == 1 else f"{count} images"
        return f"{images} of {score.tokens // len(score.text.rows)} sub-pixels"
    return (
        f"{score.tokens} tokens, {score.characters} characters, {score.words} words and line ends"
    )


def _these(score: Score) -> str:
    return "these images" if "dims" in score.units else "this text"


def lines(score: Score) -> list[str]:
    """Return a score as a few lines of text."""
    sign = "<= " if score.kind == "bound" else ""
    margin = "" if score.masks is None else f" ± {score.masks.margin:.2f}"
    found = [
        f"{sign}{score.nats:.2f}{margin} nats in {_size(score)}",
        sign + " · ".join(column.spelt(score, "masks") for column in columns([score])),
    ]
    if score.masks is not None:
        found.append(f"±: 95 % over {score.draws} random masks of each row, for {_these(score)}")
    elif score.kind == "bound":
        found.append("one random mask a row gives no error; raise --draws")
    if score.texts:
        margins = (
            f"± {_half(score, column.unit, 'texts'):.{column.digits}f} {column.name}"
            for column in columns([score])
            if not column.skewed
        )
        like = "images like these" if "dims" in score.units else "texts like this one"
        found.append(f"for {like}: {', '.join(margins)} (95 %, over {score.clusters})")
    return found + notes(score)


def brief(score: Score) -> str:
    """Return a score on one line, with the error over masks, or over texts if that is unknown."""
    over = "texts" if score.masks is None else "masks"
    sign = "at most " if score.kind == "bound" else ""
    error = "" if score.interval("nats_per_token", over) is None else f" (95 % over {over})"
    shown = [column for column in columns([score]) if not column.skewed]
    parts = [f"{_with_margin(score, column.unit, 3, over)} {column.name}" for column in shown]
    return f"{sign}{', '.join(parts)}{error}"


def token_scores(score: Score, codec: Codec) -> list[tuple[str, float]]:
    """Return every predicted token of a text and its nats, in reading order."""
    assert score.token_nats is not None
    text = score.text
    pieces = codec.pieces(text.rows[text.editable].tolist())
    return list(zip(pieces, score.token_nats[text.editable].tolist(), strict=True))


def notes(score: Score) -> list[str]:
    """Return notes on how to read the units."""
    found = [*([_LOSSY] if score.lossy else []), *score.text.notes]
    if score.unknown:
        found.append(
            f"{score.unknown} of {score.tokens} tokens are unknown to the tokenizer, which "
            "flatters the units per character and per word"
        )
    return found


def table(scores: Mapping[str, Score]) -> str:
    """Return scores, by the names of their models, as a Markdown table."""
    shown = columns(scores.values())
    names = ["model", *(column.name for column in shown), "tokens"]
    rows = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    for name, score in scores.items():
        sign = "≤ " if score.kind == "bound" else ""
        cells = [
            sign
            + (
                _with_range(score, column.unit, column.digits, "texts")
                if column.skewed
                else _with_both(score, column.unit, column.digits)
            )
            for column in shown
        ]
        unknown = f" ({score.unknown} unknown)" if score.unknown else ""
        mark = " †" if score.lossy else ""
        rows.append(f"| {name}{mark} | {' | '.join(cells)} | {score.tokens}{unknown} |")
    return "\n".join(rows)


def legend(scores: Mapping[str, Score]) -> str:
    """Return the legend of a table."""
    over = sorted({score.clusters for score in scores.values() if score.texts})
    parts = [LEGEND, *([f"Over texts: {', '.join(over)}."] if over else [])]
    parts += [_LOSSY] * any(score.lossy for score in scores.values())
    parts += [f"{name}: {note}." for name, score in scores.items() for note in score.text.notes]
    return " ".join(parts)


def differences(scores: Mapping[str, Score]) -> dict[str, Difference]:
    """Return the difference of each score to the first one, by name.

    Raises:
        UserError: If two scores are of different rows.
    """
    (_, first), *others = scores.items()
    return {name: Difference.of(score, first) for name, score in others}


def difference_table(first: str, found: Mapping[str, Difference]) -> str:
    """Return paired differences to the first model as a Markdown table."""
    kinds = {name for difference in found.values() for name in difference.as_dict()}
    shown = [column for column in COLUMNS if column.unit in kinds]
    names = [f"model, less {first}", *(column.name for column in shown), "p (masks)", "p (texts)"]
    rows = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    for name, difference in found.items():
        facts = difference.as_dict()
        cells = [_signed(facts, column.unit) for column in shown]
        cells += [_p(facts, over) for over in ("masks", "texts")]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _signed(facts: dict[str, Any], unit: str) -> str:
    """Return a difference with its margins over masks and over texts, in this order."""
    text = f"{facts[unit]:+.4f}"
    for over in ("masks", "texts"):
        low, high = facts.get(f"{unit}_95_{over}", (None, None))
        text += " ± -" if low is None else f" ± {(high - low) / 2:.4f}"
    return text


def _p(facts: dict[str, Any], over: str) -> str:
    p = facts.get(f"p_{over}")
    if p is None:
        return "-"
    return f"{p:.3f}" if p >= 0.001 else f"{p:.0e}"


def _half(score: Score, unit: str, over: str) -> float:
    interval = score.interval(unit, over)
    assert interval is not None
    return (interval[1] - interval[0]) / 2


def _with_margin(score: Score, unit: str, digits: int, over: str) -> str:
    value = f"{getattr(score, unit):.{digits}f}"
    if score.interval(unit, over) is None:
        return value
    return f"{value} ± {_half(score, unit, over):.{digits}f}"


def _with_both(score: Score, unit: str, digits: int) -> str:
    """Return a number with its margins over masks and over texts, in this order."""
    of_masks = "0" if score.kind != "bound" else "?"
    if score.masks is not None:
        of_masks = f"{_half(score, unit, 'masks'):.{digits}f}"
    of_texts = f"{_half(score, unit, 'texts'):.{digits}f}" if score.texts else "?"
    return f"{getattr(score, unit):.{digits}f} ± {of_masks} ± {of_texts}"


def _with_range(score: Score, unit: str, digits: int, over: str) -> str:
    """Return a number with the ends of its interval, which is asymmetric."""
    value, interval = _number(getattr(score, unit), digits), score.interval(unit, over)
    if interval is None:
        return value
    return f"{value} ({_number(interval[0], digits)} to {_number(interval[1], digits)})"


def _number(value: float, digits: int) -> str:
    # A protein is a single word, so its word perplexity has dozens of digits.
    return f"{value:.{digits}f}" if value < _LARGE else f"{value:.1e}"
