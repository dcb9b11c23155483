"""What ``generate`` and ``infill`` share: write with a live canvas, print, record."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unmask.cli import options

if TYPE_CHECKING:
    from unmask.canvas import Frame
    from unmask.generated import Generated
    from unmask.unmasker import Unmasker


def write(
    writer: Unmasker,
    work: Callable[..., Generated],
    *,
    as_json: bool,
    frames: Path | None,
    gif: Path | None,
    html: Path | None,
    no_animate: bool,
    **wishes: Any,
) -> Generated:
    """Write, with the canvas shown live if standard error is a terminal.

    Args:
        writer: Who writes.
        work: What it does: one of its methods, given its first argument.
        as_json: Print one JSON object.
        frames: Where to record; ``gif`` and ``html`` likewise.
        no_animate: Show no live canvas.
        wishes: Options of ``work``.
    """
    console = options.console()
    if no_animate or not console.is_terminal:
        result = work(**wishes)
    else:
        result = watched(writer, work, console, **wishes)
    for note in result.notes:
        click.echo(f"note: {note}", err=True)
    options.print_texts(result, as_json)
    options.save_pictures(result.tracks, frames, gif, html)
    return result


def write_top(writer: Unmasker, template: str, k: int, as_json: bool) -> None:
    """Print the k likeliest tokens of every masked position of a template."""
    found = writer.top(template, k)
    for note in writer.notes([template]):
        click.echo(f"note: {note}", err=True)
    if as_json:
        facts = {"template": template, "top": [[c.as_dict() for c in row] for row in found]}
        click.echo(json.dumps(facts, ensure_ascii=False))
        return
    for number, row in enumerate(found, 1):
        click.echo(f"masked token {number}")
        for candidate in row:
            click.echo(f"{candidate.probability:9.4f}  {candidate.text!r}")


def watched(
    writer: Unmasker,
    work: Callable[..., Generated],
    console: Any,
    linger: float = 0.0,
    **wishes: Any,
) -> Generated:
    """Write while showing the first row, every step for at least ``linger`` seconds."""
    from unmask import recording
    from unmask.render.terminal import LiveCanvas

    label = str(wishes.get("sampler") or writer.card.sampler.get("name", ""))
    with LiveCanvas(console, [label]) as canvas:

        def watch(frame: Frame, seconds: float) -> None:
            canvas.update(0, recording.snapshot(writer.codec, frame, seconds, 0))
            time.sleep(linger)

        return work(watch=watch, **wishes)
