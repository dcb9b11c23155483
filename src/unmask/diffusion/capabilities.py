"""What a kind of model supports: one table of features, and the one sentence that refuses.

A kind is a formulation, the layout of the rows that a model was trained on, or an input. Each names
the features that it supports, and ``require`` raises "X is not supported for Y; do Z".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from unmask.errors import UserError

_LEAVE_OUT = "leave it out"
_BOUND = "score by the bound"
_TORCH = "use --backend torch"

FEATURES: dict[str, tuple[str, str]] = {
    "guidance": ("guidance", "leave it out, or use a model trained with masks"),
    "constraints": ("a constraint", _LEAVE_OUT),
    "classifier": ("a classifier", _LEAVE_OUT),
    "repetition_penalty": ("repetition_penalty", _LEAVE_OUT),
    "phrase_bans": ("a ban of several tokens", "ban single tokens only"),
    "stop_at_end": ("stop_at_end", _LEAVE_OUT),
    "sliding_window": ("a sliding window", _LEAVE_OUT),
    "excerpts": ("a text longer than the model", "shorten it"),
    "text_after_blank": (
        "text after a blank",
        "leave the text after the blank out, or use a masked model (an encoder)",
    ),
    "length_search": ("a blank with a range of lengths", "give one length, such as [MASK:5]"),
    "top": ("a list of the likeliest tokens", "use a model trained with masks"),
    "frozen_cache": ("the frozen cache", "choose another cache"),
    "likelihood_in_order": ("a likelihood in a fixed order", _BOUND),
    "pseudo_likelihood": ("a pseudo-log-likelihood", _BOUND),
    "bound_in_steps": ("a bound in steps", "leave the number of steps out"),
    "continuous_time": ("a bound in continuous time", "take one in steps"),
    "any_steps": ("a bound in steps that were not trained on", "take steps that divide them"),
    "scoring_window": ("a window for scoring", _LEAVE_OUT),
    "cut_data": ("data cut by characters", _LEAVE_OUT),
    "export": ("an exported network", _TORCH),
    "eight_bits": ("rounding to eight bits", _TORCH),
    "bfloat16": ("rounding to bfloat16", _TORCH),
}
"""Of each feature: what it is called in an error, and what to do where it is not supported."""
ALL = frozenset(FEATURES)


class Kind(Protocol):
    """A kind of model: a formulation or a ``Layout``."""

    @property
    def kind(self) -> str:
        """What models of this kind are called in an error, in the plural."""
        ...

    @property
    def supports(self) -> frozenset[str]:
        """Names of ``FEATURES``."""
        ...


@dataclass(frozen=True)
class Layout:
    """How texts lie in the rows that a model was trained on, or what it reads; a ``Kind``."""

    kind: str
    supports: frozenset[str]


PAIRS = Layout(
    "models trained on pairs",
    ALL - {"sliding_window", "scoring_window", "cut_data", "export"},
)
RECORDS = Layout(
    "models trained on records",
    ALL - {"sliding_window", "stop_at_end", "excerpts", "scoring_window"},
)
IMAGES = Layout(
    "models of images",
    ALL
    - {"constraints", "repetition_penalty", "phrase_bans", "stop_at_end", "sliding_window"}
    - {"excerpts", "length_search", "top", "scoring_window", "cut_data", "export", "classifier"},
)
TIMED = Layout("models conditioned on the time", ALL - {"export", "eight_bits", "bfloat16"})


def supported(kinds: Iterable[Kind], feature: str) -> bool:
    """Return whether all kinds that a model is of support a feature."""
    return all(feature in kind.supports for kind in kinds)


def unsupported(kind: Kind, feature: str, name: str | None = None) -> UserError:
    """Return the error that refuses a feature of ``FEATURES`` to a kind of model.

    Args:
        kind: The kind of model.
        feature: A name of ``FEATURES``.
        name: What the caller requested, such as the name of an option; None for the feature.
    """
    subject, remedy = FEATURES[feature]
    return UserError(f"{name or subject} is not supported for {kind.kind}; {remedy}")


def require(kinds: Iterable[Kind], feature: str, name: str | None = None) -> None:
    """Raise a UserError unless all kinds that a model is of support a feature.

    The arguments are those of ``unsupported``.
    """
    for kind in kinds:
        if feature not in kind.supports:
            raise unsupported(kind, feature, name)
