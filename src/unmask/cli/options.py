"""Options that several verbs share, and what they turn into."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from unmask.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from unmask.autoregressor import Autoregressor
    from unmask.generated import Generated
    from unmask.unmasker import Unmasker

Function = TypeVar("Function", bound=Callable[..., Any])
NAMES = "ancestral, refine, confidence, schedule-confidence, gibbs, gibbs-sequential"


def _together(*options: Callable[[Function], Function]) -> Callable[[Function], Function]:
    def decorate(function: Function) -> Function:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


model = click.option(
    "--model",
    default=None,
    metavar="DIR|HUB_ID",
    help="Model to use; the small one in the package if left out.",
)
device = click.option(
    "--device", default=None, help="cpu, cuda, ...; an accelerator if there is one."
)
backend = click.option(
    "--backend",
    default="auto",
    show_default=True,
    help="torch, torch-int8, openvino; auto takes the exported network if there is one.",
)
seed = click.option("--seed", default=0, show_default=True, help="Same seed, same result.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
field = click.option(
    "--field", default="text", show_default=True, help="Column of the text, for tables."
)
sampler = _together(
    click.option("--sampler", default=None, help=f"{NAMES}; else the model's own."),
    click.option(
        "--steps",
        type=int,
        default=None,
        help="Steps of the sampler, for each block if the model writes in blocks.",
    ),
    click.option("--temperature", type=float, default=None, help="0 takes the likeliest token."),
    click.option("--top-k", type=int, default=None, help="Draw among the k likeliest tokens."),
    click.option("--top-p", type=float, default=None, help="Draw within this much probability."),
    click.option(
        "--threshold", type=float, default=None, help="Reveal at once above this confidence."
    ),
    click.option(
        "--burn-in", type=int, default=None, help="Steps of gibbs that draw among all tokens."
    ),
)
output = _together(
    click.option("--num-samples", default=1, show_default=True, help="Texts per prompt."),
    seed,
    as_json,
    click.option("--frames", type=click.Path(path_type=Path), help="Record as JSON lines."),
    click.option("--gif", type=click.Path(path_type=Path), help="Draw an animation."),
    click.option("--html", type=click.Path(path_type=Path), help="Write a replay page."),
    click.option("--no-animate", is_flag=True, help="No live canvas in the terminal."),
)


def console() -> Console:
    """Return the console for everything that is not the result: standard error."""
    from rich.console import Console

    return Console(stderr=True)


def read_text(text: str) -> str:
    """Return the text itself, or standard input for ``-``."""
    if text != "-":
        return text
    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"standard input is not UTF-8 text (byte {error.start})") from error


def quiet_libraries() -> None:
    """Switch the loading bars of transformers off."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()


def open_unmasker(name: str | None, device: str | None, backend: str = "auto") -> Unmasker:
    """Open a diffusion model; None is the one in the package, as is ``bundled``."""
    quiet_libraries()
    from unmask.unmasker import Unmasker

    return Unmasker.from_pretrained(name, device, backend)


def open_writer(
    name: str | None, device: str | None, backend: str = "auto"
) -> Unmasker | Autoregressor:
    """Open a model of either kind."""
    quiet_libraries()
    from unmask.adapters.backends import check_backend
    from unmask.adapters.loading import load_card, load_config, model_kinds

    check_backend(backend)
    if name is not None and "causal" in model_kinds(load_config(name)):
        from unmask.autoregressor import Autoregressor

        card = load_card(name)
        if card is None or card.kind != "block":
            if backend not in ("auto", "torch"):
                raise UserError(
                    f"{name} is autoregressive, and --backend {backend} is for diffusion models"
                )
            return Autoregressor.from_pretrained(name, device)
    return open_unmasker(name, device, backend)


def check_pictures(*paths: Path | None) -> None:
    """Raise a UserError for a path that cannot be written, before any work is done for it."""
    from unmask.render.files import check_writable

    for path in paths:
        if path is not None:
            check_writable(path)


def save_pictures(tracks: Any, frames: Path | None, gif: Path | None, html: Path | None) -> None:
    """Write the recordings that were asked for."""
    title = " against ".join(track.label for track in tracks[:2])
    if frames is not None:
        from unmask.render.record import write_tracks

        write_tracks(frames, tracks)
    if gif is not None:
        from unmask.render.gif import write_gif

        write_gif(gif, tracks)
    if html is not None:
        from unmask.render.html import write_html

        write_html(html, tracks, title)


def print_texts(result: Generated, as_json: bool) -> None:
    """Print the texts, or one JSON object."""
    if as_json:
        import json

        click.echo(json.dumps(result.as_dict(), ensure_ascii=False))
        return
    for index, text in enumerate(result.texts):
        if index:
            click.echo("\n" + "-" * 40 + "\n")
        click.echo(text)
