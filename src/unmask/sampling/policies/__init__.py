"""Policies: which positions a step unmasks, and which it masks again."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unmask.sampling.policies.base import (
        Clock,
        Move,
        Past,
        Policy,
        Prediction,
        best,
        grid_time,
        quota,
    )
    from unmask.sampling.policies.confidence import EntropyBound, Factor, MostConfident, Threshold
    from unmask.sampling.policies.confidence_scores import confidence_score
    from unmask.sampling.policies.fixed_order import (
        ByToken,
        FirstHitting,
        LeftToRight,
        RandomOrder,
        RandomQuota,
    )
    from unmask.sampling.policies.gibbs import Gibbs
    from unmask.sampling.policies.remasking import (
        Capped,
        ForwardBackward,
        LeastConfident,
        Loop,
        NextRate,
        Remask,
        Renoise,
        Rescaled,
    )
    from unmask.sampling.policies.self_correction import Edited, Planned
    from unmask.sampling.policies.uniform import UniformReverse

__all__ = [
    "ByToken",
    "Capped",
    "Clock",
    "Edited",
    "EntropyBound",
    "Factor",
    "FirstHitting",
    "ForwardBackward",
    "Gibbs",
    "LeastConfident",
    "LeftToRight",
    "Loop",
    "MostConfident",
    "Move",
    "NextRate",
    "Past",
    "Planned",
    "Policy",
    "Prediction",
    "RandomOrder",
    "RandomQuota",
    "Remask",
    "Renoise",
    "Rescaled",
    "Threshold",
    "UniformReverse",
    "best",
    "confidence_score",
    "grid_time",
    "quota",
]

_HOMES = {
    "unmask.sampling.policies.base": "Clock Move Past Policy Prediction best grid_time quota",
    "unmask.sampling.policies.confidence": "EntropyBound Factor MostConfident Threshold",
    "unmask.sampling.policies.confidence_scores": "confidence_score",
    "unmask.sampling.policies.fixed_order": (
        "ByToken FirstHitting LeftToRight RandomOrder RandomQuota"
    ),
    "unmask.sampling.policies.gibbs": "Gibbs",
    "unmask.sampling.policies.remasking": (
        "Capped ForwardBackward LeastConfident Loop NextRate Remask Renoise Rescaled"
    ),
    "unmask.sampling.policies.self_correction": "Edited Planned",
    "unmask.sampling.policies.uniform": "UniformReverse",
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names.split():
            return getattr(import_module(home), name)
    raise AttributeError(f"module 'unmask.sampling.policies' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
