"""The reverse side: samplers, policies, draws, constraints and the loop that ties them together.

    from unmask.sampling import Ancestral

    writer.generate("The history of", sampler=Ancestral(steps=16))

A policy of one's own takes its names from here too; see ``docs/extending.md``. Importing this
package does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unmask._names.lazy import lazy

if TYPE_CHECKING:
    from unmask.diffusion.rng import RowRng
    from unmask.sampling.canvas import Canvas, Frame
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
    from unmask.sampling.sampler import sample
    from unmask.sampling.samplers.base import Custom, Sampler
    from unmask.sampling.samplers.confidence import (
        EntropyBound,
        FastDLLMFactor,
        MaskGIT,
        Threshold,
        ThresholdEdit,
    )
    from unmask.sampling.samplers.fixed_order import Ancestral, FirstHitting, LeftToRight, Random
    from unmask.sampling.samplers.gibbs import Gibbs, GibbsSequential
    from unmask.sampling.samplers.registry import SAMPLERS, make_sampler
    from unmask.sampling.samplers.remasking import (
        P2,
        ForwardBackward,
        Refine,
        ReMDMCap,
        ReMDMConf,
        ReMDMLoop,
        ReMDMNextRate,
        ReMDMRescale,
    )
    from unmask.sampling.token_sampling import Draw

__all__ = [
    "P2",
    "SAMPLERS",
    "Ancestral",
    "Canvas",
    "Clock",
    "Custom",
    "Draw",
    "EntropyBound",
    "FastDLLMFactor",
    "FirstHitting",
    "ForwardBackward",
    "Frame",
    "Gibbs",
    "GibbsSequential",
    "LeftToRight",
    "MaskGIT",
    "Move",
    "Past",
    "Policy",
    "Prediction",
    "Random",
    "ReMDMCap",
    "ReMDMConf",
    "ReMDMLoop",
    "ReMDMNextRate",
    "ReMDMRescale",
    "Refine",
    "RowRng",
    "Sampler",
    "Threshold",
    "ThresholdEdit",
    "best",
    "grid_time",
    "make_sampler",
    "quota",
    "sample",
]

__getattr__, __dir__ = lazy(__name__)
