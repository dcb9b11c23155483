"""``unmask show``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from unmask.cli import options, printing
from unmask.cli.grouped import Command

if TYPE_CHECKING:
    from rich.console import Console


@click.command("show", cls=Command)
@click.argument("file", type=options.PLACE)
@click.option("--speed", default=1.0, show_default=True, help="2 is twice as fast.")
@click.option("--gif", type=options.PLACE, help="Draw an animation.")
@click.option("--html", type=options.PLACE, help="Write a replay page.")
def command(file: Path, speed: float, gif: Path | None, html: Path | None) -> None:
    """Replay FILE, recorded with --frames; a pipe or a file gets the final text or picture."""
    from unmask.render.json_lines import holds_pictures
    from unmask.render.terminal import can_animate

    options.check_pictures(gif=gif, html=html)
    screen = options.console()
    replay = _replay_pictures if holds_pictures(file) else _replay_texts
    results = replay(file, screen, speed, gif, html)
    if not can_animate(screen) or not sys.stdout.isatty():
        for result in results:
            printing.result(result)


def _replay_texts(
    file: Path, screen: Console, speed: float, gif: Path | None, html: Path | None
) -> list[str]:
    """Replay a recording, write its animation and page, and return the final texts."""
    from unmask.render.jsonl import read_tracks
    from unmask.render.terminal import play

    tracks = read_tracks(file)
    play(tracks, screen, speed=speed)
    options.save_pictures(tracks, None, gif, html)
    return ["".join(track.snapshots[-1].pieces) for track in tracks]


def _replay_pictures(
    file: Path, screen: Console, speed: float, gif: Path | None, html: Path | None
) -> list[str]:
    """Replay a recording, write its animation and page, and return the final pictures as text."""
    from unmask.render.picture_jsonl import load_frames
    from unmask.render.picture_terminal import as_text, play_pictures

    tracks = load_frames(file)
    play_pictures(tracks, screen, speed=speed)
    options.save_picture_tracks(tracks, None, gif, html)
    return ["\n\n".join(as_text(track.frames[-1]) for track in tracks)]
