"""Policies: which positions a step unmasks, and which it masks again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unmask._names.lazy import lazy

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
    from unmask.sampling.policies.transition import TransitionReverse

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
    "TransitionReverse",
    "best",
    "confidence_score",
    "grid_time",
    "quota",
]

__getattr__, __dir__ = lazy(__name__)
