"""Likelihoods, samplers against exact laws, images against real ones; loaded on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unmask._names.lazy import lazy

if TYPE_CHECKING:
    from unmask.evaluation.image_distances import frechet_distance as frechet_distance
    from unmask.evaluation.image_distances import precision_recall as precision_recall
    from unmask.evaluation.image_quality import Reference as Reference
    from unmask.evaluation.image_quality import SampleQuality as SampleQuality
    from unmask.evaluation.likelihood import bound_of_rows as bound_of_rows
    from unmask.evaluation.likelihood import bound_of_tokens as bound_of_tokens
    from unmask.evaluation.likelihood import score_text as score_text
    from unmask.evaluation.report import difference_table as difference_table
    from unmask.evaluation.report import legend as legend
    from unmask.evaluation.report import lines as lines
    from unmask.evaluation.report import table as table
    from unmask.evaluation.sampler_benchmark import Measured as Measured
    from unmask.evaluation.sampler_benchmark import against_joint as against_joint
    from unmask.evaluation.sampler_benchmark import against_text as against_text
    from unmask.evaluation.sampler_benchmark import true_text as true_text
    from unmask.evaluation.scores import Difference as Difference
    from unmask.evaluation.scores import Score as Score

__getattr__, __dir__ = lazy(__name__)
