"""Quality against cost: one line a sampler, as a PNG."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Protocol

from unmask.render.extras import viz_extra
from unmask.render.files import replacing

_INK, _LINE = "#22242b", "#e2dfd6"


class Point(Protocol):
    """What is drawn: ``trigrams`` over ``calls``; a point without calls is the floor."""

    @property
    def sampler(self) -> str: ...

    @property
    def calls(self) -> int: ...

    @property
    def trigrams(self) -> float | None: ...


def frontier(points: Sequence[Point], path: str | os.PathLike[str], title: str) -> None:
    """Draw the distance to the truth over network calls, both on logarithmic axes.

    Args:
        points: In any order; those of one sampler are joined by a line.
        path: The file; replaced whole or not at all.
        title: The heading.

    Raises:
        UserError: If matplotlib is missing or the file cannot be written.
    """
    with viz_extra("a plot of samplers"):
        from matplotlib import colormaps
        from matplotlib.figure import Figure
    figure = Figure(figsize=(8, 5), dpi=160, layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    names = list(dict.fromkeys(point.sampler for point in points if point.calls))
    markers = "osD^vP*X<>"
    for index, name in enumerate(names):
        own = sorted((p.calls, p.trigrams) for p in points if p.sampler == name)
        colour = colormaps["tab10"](index % 10)
        axes.plot(*zip(*own, strict=True), markers[index % 10] + "-", ms=4, c=colour, label=name)
    for point in points:
        if not point.calls and point.trigrams is not None:
            axes.axhline(point.trigrams, color=_INK, lw=0.8, ls="--", label=point.sampler)
    _label(axes, title)
    with replacing(path) as part:
        figure.savefig(part, format="png")


def _label(axes: Any, title: str) -> None:
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel("network calls")
    axes.set_ylabel("total variation of trigrams to the truth")
    axes.set_title(title, loc="left", color=_INK)
    axes.grid(color=_LINE)
    axes.legend(frameon=False, fontsize=8, ncols=2)
