"""``unmask bench``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unmask.cli import options, printing
from unmask.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from unmask.evaluation.sampler_benchmark import Measured

STEPS = "1,4,16,64,128"
SWEPT = ("steps", "tokens per step", "threshold", "factor", "gamma", "edit below")
"""Settings that change along a line of the plot."""
SMOOTHING = 0.27
"""Added to the counts of every context, over all symbols: a hundredth for each of 27."""
JOINT_ROWS = 300
"""Rows of four tokens for each row of text."""
MOST_NUMBERS = 2**28
"""That the exact denoiser may hold: rows x places x pairs of symbols, in float64."""
Settings = list[tuple[str, dict[str, Any]]]


@click.group("bench")
def command() -> None:
    """Measure what samplers cost."""


@command.command("samplers")
@click.option("--data", default="pydoc", show_default=True, help="Text to estimate the chain from.")
@click.option("--field", default="text", show_default=True, help="Column of a table.")
@click.option(
    "--symbols",
    type=click.Choice(["letters", "characters"]),
    default="letters",
    show_default=True,
    help="Lower-case letters and spaces, or the text as it is.",
)
@click.option("--length", default=64, show_default=True, help="Symbols in a row.")
@click.option("--rows", default=64, show_default=True, help="Rows that each sampler writes.")
@click.option("--steps", help=f"Numbers of steps, for samplers that have one; {STEPS} if left out.")
@click.option("--sampler", multiple=True, help="Only this one; may be given several times.")
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
    """Compare all samplers with the truth, without any network.

    The denoiser is exact, so that every error is the sampler's: of four tokens whose joint law is
    enumerated, and of symbols of a Markov chain of order 2 estimated from --data. All draw at
    temperature 1 and without filters. ± is one standard error. Ctrl-C prints what is measured.
    """
    counts = _numbers(STEPS if steps is None else steps)
    if length < 3 or rows < 2:
        raise UserError("--length must be at least 3 and --rows at least 2")
    options.check_pictures(plot=plot)
    chosen = _settings(counts, length, sampler)
    if steps is not None and _settings([1], length, sampler) == _settings([2], length, sampler):
        names = " and ".join(dict.fromkeys(sampler))
        raise UserError(
            f"--steps would have no effect on {names}, measured at other numbers here; leave it out"
        )
    from unmask.data.documents import check_field, joined, read_documents
    from unmask.evaluation.sampler_benchmark import SYMBOLS
    from unmask.pipelines.prompts import check_seed

    check_seed(seed)
    check_field(field, data)
    ids, size = SYMBOLS[symbols](joined(read_documents(data, field, note=options.note)))
    if len(ids) < 1000:
        raise UserError(f"{data} has only {len(ids)} {symbols}; a chain needs at least 1000")
    if rows * length * size**2 > MOST_NUMBERS:
        most = MOST_NUMBERS // (length * size**2)
        raise UserError(
            f"{rows} rows of {length} symbols of {size} kinds need too much memory; take at most "
            f"{most} such rows, or shorter ones"
        )
    joint: list[Measured] = []
    chain: list[Measured] = []
    try:
        for four, one in _measured(ids, size, chosen, length, rows, seed):
            joint.extend(four)
            chain.append(one)
    except KeyboardInterrupt:
        if joint:
            _print(joint, chain, as_json)
        raise
    _print(joint, chain, as_json)
    if plot is not None:
        _draw(chain, plot)


def _numbers(text: str) -> list[int]:
    from unmask.sampling.presets import MAX_STEPS

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
    from unmask.evaluation.sampler_grid import settings
    from unmask.sampling.presets import make_preset

    for name in names:
        make_preset(name)  # an unknown one is refused
    return [one for one in settings(counts, length) if not names or one[0] in names]


def _measured(
    ids: Tensor, size: int, chosen: Settings, length: int, rows: int, seed: int
) -> Iterator[tuple[list[Measured], Measured]]:
    """Yield the measures of samplers, with a progress bar: of four tokens, and of a text.

    The first is the truth itself, of which no four tokens are measured.
    """
    from rich.progress import Progress

    from unmask.evaluation.oracles.markov import SecondOrderOracle
    from unmask.evaluation.sampler_benchmark import (
        against_joint,
        against_text,
        exactly,
        small_joint,
        true_text,
    )
    from unmask.evaluation.sampler_grid import label

    chain, small = SecondOrderOracle.from_ids(ids, size, SMOOTHING / size), small_joint()
    truth = true_text(chain, rows, length, seed)
    yield [], replace(truth, setting=f"entropy {chain.entropy(length) / length:.3f}")
    console = options.console()
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        for name, changed in progress.track(chosen, description="measuring"):
            preset, words = exactly(name, **changed), label(changed)
            four = against_joint(small, name, words, preset, JOINT_ROWS * rows, seed)
            yield [four], against_text(chain, name, words, preset, rows, length, seed)


def _draw(text: list[Measured], plot: Path) -> None:
    from unmask.render.frontier import Point, frontier

    floor, *rest = text
    frontier(
        [Point(_line(one), one.calls, one.trigrams or 0.0) for one in rest],
        plot,
        title="Samplers with an exact denoiser",
        cost="network calls a row",
        floor=(floor.sampler, floor.trigrams or 0.0),
    )


def _line(one: Measured) -> str:
    """Return the sampler and those of its settings that stay the same along a line of the plot."""
    parts = [part for part in one.setting.split(", ") if not part.startswith(SWEPT)]
    return ", ".join(
        [one.sampler, *("other eta" if part.startswith("eta ") else part for part in parts)]
    )


def _print(joint: list[Measured], text: list[Measured], as_json: bool) -> None:
    if as_json:
        worlds = {"joint": joint, "text": text}
        content = {key: [one.as_dict() for one in found] for key, found in worlds.items()}
        printing.record(content)
        return
    click.echo(
        "| sampler | setting | calls | KL of text at most | above the entropy | trigrams | "
        "KL of four (calls) | seconds |"
    )
    click.echo("|---|---|---|---|---|---|---|---|")
    floor, *rest = text
    click.echo(
        f"| {floor.sampler} | {floor.setting} | | 0 | {_with_error(floor.error, floor.error_se)} | "
        f"{floor.trigrams:.3f} | 0 | |"
    )
    for one, four in zip(rest, joint, strict=True):
        bound = "" if one.bound is None else _with_error(one.bound, one.bound_se or 0.0)
        click.echo(
            f"| {one.sampler} | {one.setting} | {one.calls:.1f} | {bound} | "
            f"{_with_error(one.error, one.error_se)} | {one.trigrams:.3f} | "
            f"{_with_error(four.error, four.error_se, 4)} ({four.calls:.1f}) | {one.seconds:.1f} |"
        )


def _with_error(value: float, se: float, digits: int = 3) -> str:
    return f"{value:.{digits}f} ± {se:.{digits}f}"
