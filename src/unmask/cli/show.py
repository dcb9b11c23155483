"""``unmask show``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from unmask.cli import options, printing
from unmask.cli.grouped import Command


@click.command("show", cls=Command)
@click.argument("file", type=options.PLACE)
@click.option("--speed", default=1.0, show_default=True, help="2 is twice as fast.")
@click.option("--gif", type=options.PLACE, help="Draw an animation.")
@click.option("--html", type=options.PLACE, help="Write a replay page.")
def command(file: Path, speed: float, gif: Path | None, html: Path | None) -> None:
    """Replay FILE, recorded with --frames; a pipe or a file gets the final text."""
    from unmask.render.jsonl import read_tracks
    from unmask.render.terminal import can_animate, play

    options.check_pictures(gif=gif, html=html)
    tracks = read_tracks(file)
    console = options.console()
    play(tracks, console, speed=speed)
    options.save_pictures(tracks, None, gif, html)
    if not can_animate(console) or not sys.stdout.isatty():
        for track in tracks:
            printing.result("".join(track.snapshots[-1].pieces))
