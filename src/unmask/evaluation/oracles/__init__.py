"""Exact denoisers of distributions whose conditionals are known; loaded on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unmask._names.lazy import lazy

if TYPE_CHECKING:
    from unmask.evaluation.oracles.block import BlockOracle as BlockOracle
    from unmask.evaluation.oracles.joint import JointOracle as JointOracle
    from unmask.evaluation.oracles.joint import LeaveOneOutOracle as LeaveOneOutOracle
    from unmask.evaluation.oracles.joint import MarkovOracle as MarkovOracle
    from unmask.evaluation.oracles.joint import TokenwiseOracle as TokenwiseOracle
    from unmask.evaluation.oracles.markov import SecondOrderOracle as SecondOrderOracle

__getattr__, __dir__ = lazy(__name__)
