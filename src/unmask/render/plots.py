"""PNG plots: the curves of a training run, learned schedule exponents, samplers compared."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

from unmask.errors import UserError
from unmask.files import replacing
from unmask.render.marks import PNG_METADATA
from unmask.render.optional import viz_extra

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LOG_FROM = 30.0
"""Ratio of last to first step from which the steps are drawn on a logarithmic axis."""
_INK, _QUIET, _LINE = "#22242b", "#6d6f78", "#e2dfd6"
_TRAIN, _VALIDATION = "#3d9876", "#c2416b"
_MARKERS = "osD^vP*X<>"
_Points = list[tuple[float, float]]


def loss_curve(records: Sequence[dict[str, Any]], path: str | os.PathLike[str], title: str) -> None:
    """Draw training loss and validation bound over the steps, as a PNG.

    The training loss is faint, its running mean strong. If the records hold bits per character,
    a second axis on the right converts the bound on the validation text to them.

    Args:
        records: One dict per log; ``step`` with ``loss`` or ``eval_nats_per_token``, in nats per
            token. Of a step that was logged twice, as by a resumed run, the last log counts.
        path: The file; replaced whole or not at all.
        title: The heading.

    Raises:
        UserError: If no record holds a number to draw, matplotlib is missing, or the file cannot be
            written.
    """
    train = _points(records, "loss")
    validation = _points(records, "eval_nats_per_token")
    if not train and not validation:
        raise UserError("the log holds no loss to draw; let the training run until its first log")
    with _drawing(path, "a loss curve") as axes:
        _draw_train(axes, train)
        _draw_validation(axes, validation)
        _label(axes, title)
        steps = [step for step, _ in train + validation]
        if min(steps) > 0 and max(steps) >= LOG_FROM * min(steps):
            _log_steps(axes)
        _add_bits_per_char(axes, records)


def smoothed(values: Sequence[float], window: int) -> list[float]:
    """Return the centred running mean over ``window`` values (rounded up to odd).

    Near the ends the window shrinks on both sides alike, so a straight line stays unchanged.
    """
    sums = [0.0, *accumulate(values)]
    means = []
    for index in range(len(values)):
        reach = min(window // 2, index, len(values) - 1 - index)
        means.append((sums[index + reach + 1] - sums[index - reach]) / (2 * reach + 1))
    return means


def exponents(
    counts: Sequence[int], powers: Sequence[float], path: str | os.PathLike[str], title: str
) -> None:
    """Draw the learned exponents of the schedule against how often each token occurs, as a PNG.

    Args:
        counts: Occurrences in the training text; tokens that never occur are left out.
        powers: Exponents w_v of the tokens, in the same order.
        path: The file; replaced whole or not at all.
        title: The heading.

    Raises:
        UserError: If matplotlib is missing or the file cannot be written.
    """
    seen = [(count, power) for count, power in zip(counts, powers, strict=True) if count > 0]
    with _drawing(path, "a plot of the exponents") as axes:
        x, y = [count for count, _ in seen], [power for _, power in seen]
        axes.scatter(x, y, s=5, color=_TRAIN, alpha=0.35)
        axes.axhline(1.0, color=_QUIET, linewidth=1, linestyle="--")
        axes.set_xscale("log")
        axes.set_title(title, loc="left", color=_INK, parse_math=False)
        axes.set_xlabel("occurrences in the training text", color=_QUIET)
        axes.set_ylabel("exponent w (above 1: revealed early)", color=_QUIET)
        axes.grid(color=_LINE, linewidth=0.8)
        axes.tick_params(colors=_QUIET)


class Point(NamedTuple):
    """The cost of one sampler with one setting, and its distance from the reference."""

    sampler: str
    cost: float
    distance: float


def sampler_curves(
    points: Sequence[Point],
    path: str | os.PathLike[str],
    *,
    title: str,
    cost: str,
    floor: tuple[str, float],
    quality: str = "total variation of trigrams to the reference",
) -> None:
    """Draw distance over cost, one line per sampler, both axes logarithmic, as a PNG.

    Args:
        points: In any order; those of one sampler are joined by a line.
        path: The file; replaced whole or not at all.
        title: The heading.
        cost: What the cost is, with its unit.
        floor: Name and distance of a sample of the reference itself.
        quality: What the distance is.

    Raises:
        UserError: If matplotlib is missing or the file cannot be written.
    """
    names = dict.fromkeys(point.sampler for point in points)
    with _drawing(path, "a plot of samplers", height=5) as axes:
        from matplotlib import colormaps

        for index, name in enumerate(names):
            own = sorted((p.cost, p.distance) for p in points if p.sampler == name)
            # Ten colours; from the eleventh name on, each with a second marker.
            marker = _MARKERS[(index + index // 10) % 10]
            colour = colormaps["tab10"](index % 10)
            axes.plot(*zip(*own, strict=True), ms=4, label=name, marker=marker, color=colour)
        axes.axhline(floor[1], color=_INK, lw=0.8, ls="--", label=floor[0])
        axes.set(xscale="log", yscale="log", xlabel=cost, ylabel=quality)
        axes.set_title(title, loc="left", color=_INK)
        axes.grid(color=_LINE)
        if len(names) > 10:
            axes.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
        else:
            axes.legend(frameon=False, fontsize=8, ncols=2)


@contextmanager
def _drawing(path: str | os.PathLike[str], purpose: str, height: float = 4.5) -> Iterator[Axes]:
    """Yield the axes of a new figure, which is saved if the block succeeds."""
    with viz_extra(purpose):
        from matplotlib.figure import Figure
    # Figure, not pyplot, which would change the backend and the settings of the caller.
    figure = Figure(figsize=(8, height), dpi=160, layout="constrained", facecolor="white")
    yield figure.add_subplot()
    with replacing(path) as part:
        figure.savefig(part, format="png", metadata=PNG_METADATA)


def _points(records: Sequence[dict[str, Any]], key: str) -> _Points:
    points: dict[float, float] = {}
    for record in records:
        step, value = _number(record.get("step")), _number(record.get(key))
        if step is not None and value is not None:
            points[step] = value
    return sorted(points.items())


def _number(value: Any) -> float | None:
    """Return a finite number as it is, anything else as None."""
    if isinstance(value, (int, float)) and math.isfinite(value):
        return float(value)
    return None


def _draw_train(axes: Axes, points: _Points) -> None:
    if not points:
        return
    steps, losses = zip(*points, strict=True)
    mean = smoothed(losses, len(losses) // 20)
    axes.plot(steps, losses, color=_TRAIN, alpha=0.3, linewidth=1)
    marker = "o" if len(points) == 1 else ""
    axes.plot(steps, mean, color=_TRAIN, linewidth=2, marker=marker, label="training loss")


def _draw_validation(axes: Axes, points: _Points) -> None:
    if not points:
        return
    steps, bounds = zip(*points, strict=True)
    axes.plot(
        steps,
        bounds,
        color=_VALIDATION,
        linewidth=1,
        marker="o",
        markersize=5,
        markeredgecolor="white",
        label="validation bound",
        zorder=3,
    )
    axes.annotate(
        f"{bounds[-1]:.3f}",
        points[-1],
        xytext=(0, -16),
        textcoords="offset points",
        ha="center",
        color=_VALIDATION,
        fontweight="bold",
    )


def _label(axes: Axes, title: str) -> None:
    axes.set_title(
        title, loc="left", color=_INK, fontsize=14, fontweight="bold", pad=12, parse_math=False
    )
    axes.set_xlabel("step", color=_QUIET)
    axes.set_ylabel("nats per token", color=_QUIET)
    axes.grid(color=_LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_QUIET, length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.margins(x=0.03, y=0.1)
    axes.legend(frameon=False, labelcolor=_INK)


def _log_steps(axes: Axes) -> None:
    from matplotlib.ticker import LogLocator, StrMethodFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.minorticks_off()


def _add_bits_per_char(axes: Axes, records: Sequence[dict[str, Any]]) -> None:
    """Add an axis on the right; the validation text sets the ratio of bits to nats."""
    nats = dict(_points(records, "eval_nats_per_token"))
    bits = dict(_points(records, "eval_bits_per_char"))
    both = [step for step in nats if step in bits and nats[step] > 0]
    if not both:
        return
    factor = bits[both[-1]] / nats[both[-1]]
    if factor <= 0:
        return

    def to_bits(value: Any) -> Any:
        return value * factor

    def to_nats(value: Any) -> Any:
        return value / factor

    right = axes.secondary_yaxis("right", functions=(to_bits, to_nats))
    right.set_ylabel("bits per character", color=_QUIET)
    right.tick_params(colors=_QUIET, length=0)
    right.spines["right"].set_visible(False)
