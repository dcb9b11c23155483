"""Options of guidance and constraints: what steers a text besides its prompt."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from unmask.errors import UserError
from unmask.validation import Options, option, place, real, whole, words

MAX_SCALE = 1_000_000
"""Of guidance; more would leave the range of float32."""


def _label(name: str, value: Any) -> str | int:
    return value if isinstance(value, str) else whole(name, value)


def _patterns(name: str, value: Any) -> tuple[str, ...]:
    """Return one regular expression or several."""
    patterns = tuple(words(name, value))
    if "" in patterns:
        raise UserError("an empty expression matches only an empty text; leave it out")
    return patterns


def _sets(name: str, value: Any) -> tuple[tuple[int, ...] | None, ...]:
    """Return the ids that each token may be, None for any."""
    try:
        return tuple(
            None if ids is None else tuple(whole(f"an id in {name}", i) for i in ids)
            for ids in value
        )
    except TypeError as error:
        raise UserError(
            f"{name} is a list of sets of ids, one for each token to be generated"
        ) from error


@dataclass(frozen=True, kw_only=True)
class ControlOptions(Options):
    """What steers a text besides its prompt.

    Guidance: log p ~ g log p(text | given) + (1 - g) log p(text), and with a classifier
    log p ~ log p(text) + g log p(label | text).

    Raises:
        UserError: If a value is out of range, or an option makes no sense without another.
    """

    guidance_scale: float = option(
        1.0,
        "Weight of the prompt, source or given words: 1 is the model as it is, 0 ignores them, "
        "above 1 exaggerates.",
        real,
        low=0,
        high=MAX_SCALE,
    )
    classifier: str | None = option(
        None,
        "Guide by a classifier with the same tokenizer, trained on texts with masks.",
        place,
        metavar="DIR|HUB_ID",
    )
    label: str | int | None = option(
        None, "Name or number of the label that the classifier should find.", _label
    )
    classifier_scale: float | None = option(
        None, "Weight of the classifier; 1.", real, low=0, high=MAX_SCALE
    )
    classifier_top_k: int | None = option(
        None,
        "Ask the classifier about the k most likely tokens one by one; else about all tokens at "
        "first order.",
        whole,
        low=1,
    )
    matching: Sequence[str] = option(
        (),
        "Regular expression (Python's re) that the generated text must match; several are for the "
        "blanks in turn.",
        _patterns,
        metavar="REGEX",
        repeated=True,
    )
    allowed: Sequence[Collection[int] | None] | None = option(
        None,
        "Ids that each generated token may be, None for any.",
        _sets,
        metavar="sets of ids",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.classifier is None:
            for name in ("label", "classifier_scale", "classifier_top_k"):
                if getattr(self, name) is not None:
                    name = name.replace("_", "-")
                    raise UserError(
                        f"{name} says how a classifier guides; give a classifier as well"
                    )
        elif self.label is None:
            raise UserError("a classifier guides towards one of its labels; give the label as well")
        if self.classifier_top_k is not None and (self.matching or self.allowed):
            raise UserError(
                "classifier-top-k rules out all but a few tokens, among which none may match; "
                "leave it out, and the classifier weighs all of them"
            )

    @property
    def settings(self) -> dict[str, Any]:
        """What differs from a run without them, fit for JSON."""
        found = self.given
        if self.allowed is not None:
            found["allowed"] = [None if ids is None else sorted(ids) for ids in self.allowed]
        if self.matching:
            found["matching"] = list(self.matching)
        if self.classifier is not None:
            found["classifier_scale"] = self.weight
        return found

    @property
    def weight(self) -> float:
        """Weight of the classifier."""
        return 1.0 if self.classifier_scale is None else self.classifier_scale
