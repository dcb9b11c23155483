"""``unmask bench``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unmask.cli import options, printing
from unmask.cli.grouped import Command
from unmask.errors import UserError
from unmask.validation import exclude

if TYPE_CHECKING:
    from torch import Tensor

    from unmask.evaluation.sampler_benchmark import Measured

STEPS = "1,4,16,64,128"
SWEPT = ("steps", "tokens per step", "threshold", "factor", "gamma", "edit threshold")
"""Options that vary along a line of the plot."""
SMOOTHING = 0.27
"""Pseudo-count of every context, summed over its symbols: a hundredth for each of 27."""
JOINT_ROWS = 300
"""Sequences of the joint benchmark per sequence of the text benchmark."""
MOST_NUMBERS = 2**28
"""Numbers that the exact denoiser may hold: rows x positions x pairs of symbols, in float64."""
Settings = list[tuple[str, dict[str, Any]]]


@click.group("bench")
def command() -> None:
    """Measure the error and cost of samplers."""


@command.command("samplers", cls=Command)
@click.option("--data", default="pydoc", show_default=True, help="Text to estimate the chain from.")
@click.option("--field", default="text", show_default=True, help="Column of a table.")
@click.option(
    "--symbols",
    type=click.Choice(["letters", "characters"]),
    default="letters",
    show_default=True,
    help="Lower-case letters and spaces, or the text as it is.",
)
@click.option(
    "--length", default=64, type=click.IntRange(3), show_default=True, help="Symbols per sequence."
)
@click.option(
    "--rows", default=64, type=click.IntRange(2), show_default=True, help="Sequences per sampler."
)
@click.option("--steps", help=f"Numbers of steps, for samplers with this option; default {STEPS}.")
@click.option("--sampler", multiple=True, help="Measure only this sampler; repeatable.")
@click.option("--plot", type=options.PLACE, help="Draw error against calls, as a PNG.")
@options.seed
@options.as_json
def samplers(
    data: str,
    field: str,
    symbols: str,
    length: int,
    rows: int,
    steps: str | None,
    sampler: tuple[str, ...],
    plot: Path | None,
    seed: int,
    as_json: bool,
) -> None:
    """Compare all samplers with the true law, without any network.

    The denoiser is exact, so every error is the sampler's own. KL of four is that of four tokens
    with an enumerated joint law; the other columns are of symbols of a Markov chain of order 2,
    estimated from --data. All samplers draw at temperature 1 without filters. ± is one standard
    error. Ctrl-C prints what is measured so far.
    """
    counts = _numbers(STEPS if steps is None else steps)
    options.check_pictures(plot=plot)
    chosen = _settings(counts, length, sampler)
    fixed = _settings([1], length, sampler) == _settings([2], length, sampler)
    names = " and ".join(dict.fromkeys(sampler))
    exclude(("--steps", steps is not None and fixed, f"{names}, measured at other numbers here"))
    ids, size = _read(data, field, symbols, length, rows)
    joint: list[Measured] = []
    chain: list[Measured] = []
    try:
        for four, one in _measured(ids, size, chosen, length, rows, seed):
            joint.extend(four)
            chain.append(one)
    finally:
        if joint:
            _print(joint, chain, as_json)
    if plot is not None:
        _draw(chain, plot)


def _read(data: str, field: str, symbols: str, length: int, rows: int) -> tuple[Tensor, int]:
    """Return the data as ids (N,) of symbols and the number of distinct symbols."""
    from unmask.data.documents import joined, read_documents
    from unmask.data.sources import check_field
    from unmask.evaluation.sampler_benchmark import SYMBOLS

    check_field(field, data)
    ids, size = SYMBOLS[symbols](joined(read_documents(data, field, note=options.note)))
    if len(ids) < 1000:
        raise UserError(f"{data} has only {len(ids)} {symbols}; a chain needs at least 1000")
    most = MOST_NUMBERS // (length * size**2)
    if rows > most:
        raise UserError(
            f"{rows} rows of {length} symbols of {size} kinds need too much memory; take at most "
            f"{most} such rows, or shorter ones"
        )
    return ids, size


def _numbers(text: str) -> list[int]:
    from unmask.sampling.samplers.base import MAX_STEPS

    parts = text.split(",")
    if not all(
        re.fullmatch(r"\s*[0-9]{1,6}\s*", part) and 1 <= int(part) <= MAX_STEPS for part in parts
    ):
        raise UserError(
            f"--steps takes whole numbers from 1 to {MAX_STEPS} with commas between, "
            f"not {text[:80]!r}"
        )
    return sorted({int(part) for part in parts})


def _settings(counts: list[int], length: int, names: tuple[str, ...]) -> Settings:
    from unmask.evaluation.sampler_study import settings
    from unmask.sampling.samplers.registry import make_sampler

    for name in names:
        make_sampler(name)  # an unknown one is refused
    return [one for one in settings(counts, length) if not names or one[0] in names]


def _measured(
    ids: Tensor, size: int, chosen: Settings, length: int, rows: int, seed: int
) -> Iterator[tuple[list[Measured], Measured]]:
    """Yield, for each sampler, its joint and its text benchmark, with a progress bar.

    The first pair is the floor: the true law itself, which has no joint benchmark.
    """
    from unmask.evaluation.oracles.markov import SecondOrderOracle
    from unmask.evaluation.sampler_benchmark import (
        against_joint,
        against_text,
        small_joint,
        true_text,
        unfiltered,
    )
    from unmask.evaluation.sampler_study import label
    from unmask.render.console import progress_bar

    chain, small = SecondOrderOracle.from_ids(ids, size, SMOOTHING / size), small_joint()
    floor = true_text(chain, rows, length, seed)
    yield [], replace(floor, setting=f"entropy {chain.entropy(length) / length:.3f}")
    with progress_bar() as progress:
        for name, changed in progress.track(chosen, description="measuring"):
            sampler, words = unfiltered(name, **changed), label(changed)
            four = against_joint(small, name, words, sampler, JOINT_ROWS * rows, seed)
            yield [four], against_text(chain, name, words, sampler, rows, length, seed)


def _draw(text: list[Measured], plot: Path) -> None:
    from unmask.render.plots import Point, sampler_curves

    floor, *rest = text
    sampler_curves(
        [Point(_line(one), one.calls, one.trigrams or 0.0) for one in rest],
        plot,
        title="Samplers with an exact denoiser",
        cost="network calls per sequence",
        floor=(floor.sampler, floor.trigrams or 0.0),
    )


def _line(one: Measured) -> str:
    """Return the sampler and the options that stay constant along a line of the plot."""
    parts = [part for part in one.setting.split(", ") if not part.startswith(SWEPT)]
    return ", ".join(
        [one.sampler, *("other eta" if part.startswith("eta ") else part for part in parts)]
    )


def _print(joint: list[Measured], text: list[Measured], as_json: bool) -> None:
    from unmask.evaluation.sampler_study import markdown_table

    if as_json:
        found = {"joint": joint, "text": text}
        printing.record({key: [one.as_dict() for one in many] for key, many in found.items()})
        return
    entropy, divergence = "above the entropy", "KL of four (calls)"
    header = ["sampler", "setting", "calls", "KL of text at most", entropy, "trigrams"]
    floor, *rest = text
    error = _with_error(floor.error, floor.error_se)
    rows = [[floor.sampler, floor.setting, "", "0", error, f"{floor.trigrams:.3f}", "0", ""]]
    for one, four in zip(rest, joint, strict=True):
        bound = "" if one.bound is None else _with_error(one.bound, one.bound_se or 0.0)
        error = _with_error(one.error, one.error_se)
        of_four = f"{_with_error(four.error, four.error_se, 4)} ({four.calls:.1f})"
        cells = [one.sampler, one.setting, f"{one.calls:.1f}", bound, error]
        rows.append([*cells, f"{one.trigrams:.3f}", of_four, f"{one.seconds:.1f}"])
    printing.result(markdown_table([*header, divergence, "seconds"], rows))


def _with_error(value: float, se: float, digits: int = 3) -> str:
    return f"{value:.{digits}f} ± {se:.{digits}f}"
