"""Policies: which positions a step unmasks, and which it masks again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unmask._names.lazy import lazy

if TYPE_CHECKING:
    from unmask.sampling.policies.base import Clock as Clock
    from unmask.sampling.policies.base import Move as Move
    from unmask.sampling.policies.base import Past as Past
    from unmask.sampling.policies.base import Policy as Policy
    from unmask.sampling.policies.base import Prediction as Prediction
    from unmask.sampling.policies.base import best as best
    from unmask.sampling.policies.base import grid_time as grid_time
    from unmask.sampling.policies.base import quota as quota
    from unmask.sampling.policies.confidence import EntropyBound as EntropyBound
    from unmask.sampling.policies.confidence import Factor as Factor
    from unmask.sampling.policies.confidence import MostConfident as MostConfident
    from unmask.sampling.policies.confidence import Threshold as Threshold
    from unmask.sampling.policies.confidence_scores import confidence_score as confidence_score
    from unmask.sampling.policies.fixed_order import ByToken as ByToken
    from unmask.sampling.policies.fixed_order import FirstHitting as FirstHitting
    from unmask.sampling.policies.fixed_order import LeftToRight as LeftToRight
    from unmask.sampling.policies.fixed_order import RandomOrder as RandomOrder
    from unmask.sampling.policies.fixed_order import RandomQuota as RandomQuota
    from unmask.sampling.policies.gibbs import Gibbs as Gibbs
    from unmask.sampling.policies.remasking import Capped as Capped
    from unmask.sampling.policies.remasking import ForwardBackward as ForwardBackward
    from unmask.sampling.policies.remasking import LeastConfident as LeastConfident
    from unmask.sampling.policies.remasking import Loop as Loop
    from unmask.sampling.policies.remasking import NextRate as NextRate
    from unmask.sampling.policies.remasking import Remask as Remask
    from unmask.sampling.policies.remasking import Renoise as Renoise
    from unmask.sampling.policies.remasking import Rescaled as Rescaled
    from unmask.sampling.policies.self_correction import Edited as Edited
    from unmask.sampling.policies.self_correction import Planned as Planned
    from unmask.sampling.policies.transition import TransitionReverse as TransitionReverse

__getattr__, __dir__ = lazy(__name__)
