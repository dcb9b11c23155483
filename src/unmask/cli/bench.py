"""``unmask bench``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unmask.cli import options
from unmask.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from unmask.truth import Measured

JOINT_ROWS = 300
"""Rows of four tokens for each row of letters."""
Settings = list[tuple[str, dict[str, Any]]]


@click.group("bench")
def command() -> None:
    """Measure what samplers cost."""


@command.command("samplers")
@click.option("--data", default="pydoc", show_default=True, help="Text to estimate the chain from.")
@click.option("--length", default=64, show_default=True, help="Letters in a row.")
@click.option("--rows", default=64, show_default=True, help="Rows that each sampler writes.")
@click.option("--steps", default="1,2,4,8,16,32,64", show_default=True, help="Numbers of steps.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw error against calls, as a PNG.")
@options.seed
@options.as_json
def samplers(
    data: str, length: int, rows: int, steps: str, plot: Path | None, seed: int, as_json: bool
) -> None:
    """Compare all samplers with the truth, without any network.

    The denoiser is exact, so that every error is the sampler's: of four tokens whose joint law is
    enumerated, and of letters of a Markov chain of order 2 estimated from --data.
    """
    counts = _numbers(steps)
    if length < 3 or rows < 1:
        raise UserError("--length must be at least 3 and --rows at least 1")
    options.check_pictures(plot=plot)
    from unmask.training.data import joined, read_documents
    from unmask.truth import letters, settings

    ids = letters(joined(read_documents(data)))
    if len(ids) < 1000:
        raise UserError(f"{data} has only {len(ids)} letters; a chain needs at least 1000")
    joint, chain = _measured(ids, list(settings(counts, length)), length, rows, seed)
    if plot is not None:
        _draw(chain, plot)
    _print(joint, chain, as_json)


def _numbers(text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.strip().isdecimal() and int(part) for part in parts):
        raise UserError(f"--steps takes whole numbers from 1 with commas between, not {text!r}")
    return sorted({int(part) for part in parts})


def _measured(
    ids: Tensor, chosen: Settings, length: int, rows: int, seed: int
) -> tuple[list[Measured], list[Measured]]:
    """Return the measures in the enumerated world and in that of letters, with a progress bar."""
    from rich.progress import Progress

    from unmask.oracle_chain import SecondOrderOracle
    from unmask.truth import ALPHABET, against_joint, against_text, exactly, small_joint, true_text

    chain = SecondOrderOracle.from_ids(ids, len(ALPHABET))
    small = small_joint()
    joint, letters = [], [true_text(chain, rows, length, seed)]
    console = options.console()
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        for name, changed in progress.track(chosen, description="measuring"):
            label = ", ".join(f"{k.replace('_', ' ')} {v:g}" for k, v in changed.items())
            preset = exactly(name, **changed)
            joint.append(against_joint(small, name, label, preset, JOINT_ROWS * rows, seed))
            letters.append(against_text(chain, name, label, preset, rows, length, seed))
    return joint, letters


def _draw(letters: list[Measured], plot: Path) -> None:
    from unmask.render.frontier import Point, frontier

    floor, *rest = letters
    frontier(
        [Point(one.sampler, one.calls, one.trigrams or 0.0) for one in rest],
        plot,
        title="Samplers with an exact denoiser",
        cost="network calls",
        floor=(floor.sampler, floor.trigrams or 0.0),
    )


def _print(joint: list[Measured], letters: list[Measured], as_json: bool) -> None:
    if as_json:
        import json

        worlds = {"joint": joint, "letters": letters}
        content = {key: [one.as_dict() for one in found] for key, found in worlds.items()}
        click.echo(json.dumps(content))
        return
    click.echo("| sampler | setting | calls | above the entropy | trigrams | KL of four (calls) |")
    click.echo("|---|---|---|---|---|---|")
    floor, *rest = letters
    click.echo(f"| {floor.sampler} | | | {floor.error:+.3f} | {floor.trigrams:.3f} | |")
    for one, four in zip(rest, joint, strict=True):
        click.echo(
            f"| {one.sampler} | {one.setting} | {one.calls} | {one.error:+.3f} | "
            f"{one.trigrams:.3f} | {four.error:.4f} ({four.calls}) |"
        )
