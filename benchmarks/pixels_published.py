"""The comparisons of ``pixels`` with the network of ``cifar10``, at the size of the paper.

A step of one image takes seconds on a CPU, so these run only if they are named.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from benchmarks import pixels
from benchmarks.measure import Comparison


def comparisons(quick: bool) -> Iterator[Comparison]:
    """Yield the comparisons, with fewer rounds and two images."""
    for found in pixels.comparisons(quick, "cifar10", "pixels_published", rows=2):
        yield replace(found, repeats=3)
