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
    from unmask.diffusion.rng import RowRng as RowRng
    from unmask.sampling.canvas import Canvas as Canvas
    from unmask.sampling.canvas import Frame as Frame
    from unmask.sampling.policies.base import Clock as Clock
    from unmask.sampling.policies.base import Move as Move
    from unmask.sampling.policies.base import Past as Past
    from unmask.sampling.policies.base import Policy as Policy
    from unmask.sampling.policies.base import Prediction as Prediction
    from unmask.sampling.policies.base import best as best
    from unmask.sampling.policies.base import grid_time as grid_time
    from unmask.sampling.policies.base import quota as quota
    from unmask.sampling.sampler import sample as sample
    from unmask.sampling.samplers.base import Custom as Custom
    from unmask.sampling.samplers.base import Sampler as Sampler
    from unmask.sampling.samplers.confidence import EntropyBound as EntropyBound
    from unmask.sampling.samplers.confidence import FastDLLMFactor as FastDLLMFactor
    from unmask.sampling.samplers.confidence import MaskGIT as MaskGIT
    from unmask.sampling.samplers.confidence import Threshold as Threshold
    from unmask.sampling.samplers.confidence import ThresholdEdit as ThresholdEdit
    from unmask.sampling.samplers.fixed_order import Ancestral as Ancestral
    from unmask.sampling.samplers.fixed_order import FirstHitting as FirstHitting
    from unmask.sampling.samplers.fixed_order import LeftToRight as LeftToRight
    from unmask.sampling.samplers.fixed_order import Random as Random
    from unmask.sampling.samplers.gibbs import Gibbs as Gibbs
    from unmask.sampling.samplers.gibbs import GibbsSequential as GibbsSequential
    from unmask.sampling.samplers.registry import SAMPLERS as SAMPLERS
    from unmask.sampling.samplers.registry import make_sampler as make_sampler
    from unmask.sampling.samplers.remasking import P2 as P2
    from unmask.sampling.samplers.remasking import ForwardBackward as ForwardBackward
    from unmask.sampling.samplers.remasking import Refine as Refine
    from unmask.sampling.samplers.remasking import ReMDMCap as ReMDMCap
    from unmask.sampling.samplers.remasking import ReMDMConf as ReMDMConf
    from unmask.sampling.samplers.remasking import ReMDMLoop as ReMDMLoop
    from unmask.sampling.samplers.remasking import ReMDMNextRate as ReMDMNextRate
    from unmask.sampling.samplers.remasking import ReMDMRescale as ReMDMRescale
    from unmask.sampling.token_sampling import Draw as Draw

__getattr__, __dir__ = lazy(__name__)
