"""Quality against cost: one line a sampler, as a PNG."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from unmask.files import replacing
from unmask.render.marks import PNG_METADATA
from unmask.render.optional import viz_extra

_INK, _LINE = "#22242b", "#e2dfd6"
_MARKERS = "osD^vP*X<>"


class Point(NamedTuple):
    """One sampler with one setting: what it costs and how far it is from the truth."""

    sampler: str
    cost: float
    distance: float


def frontier(
    points: Sequence[Point],
    path: str | os.PathLike[str],
    *,
    title: str,
    cost: str,
    floor: tuple[str, float],
    quality: str = "total variation of trigrams to the truth",
) -> None:
    """Draw distance over cost, both on logarithmic axes.

    Args:
        points: In any order; those of one sampler are joined by a line.
        path: The file; replaced whole or not at all.
        title: The heading.
        cost: What the cost is, with its unit.
        floor: Name and distance of what cannot be told from the truth.
        quality: What the distance is.

    Raises:
        UserError: If matplotlib is missing or the file cannot be written.
    """
    with viz_extra("a plot of samplers"):
        from matplotlib import colormaps
        from matplotlib.figure import Figure
    figure = Figure(figsize=(8, 5), dpi=160, layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    names = dict.fromkeys(point.sampler for point in points)
    for index, name in enumerate(names):
        own = sorted((p.cost, p.distance) for p in points if p.sampler == name)
        # Ten colours and, from the eleventh name on, another marker for each.
        marker = _MARKERS[(index + index // 10) % 10]
        colour = colormaps["tab10"](index % 10)
        axes.plot(*zip(*own, strict=True), ms=4, label=name, marker=marker, color=colour)
    axes.axhline(floor[1], color=_INK, lw=0.8, ls="--", label=floor[0])
    _label(axes, title, cost, quality)
    if len(names) > 10:
        axes.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    else:
        axes.legend(frameon=False, fontsize=8, ncols=2)
    with replacing(path) as part:
        figure.savefig(part, format="png", metadata=PNG_METADATA)


def _label(axes: Any, title: str, cost: str, quality: str) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(cost)
    axes.set_ylabel(quality)
    axes.set_title(title, loc="left", color=_INK)
    axes.grid(color=_LINE)
