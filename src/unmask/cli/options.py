"""Options that several verbs share, and what is made of them: consoles, models, pictures."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unmask.cli import printing
from unmask.cli.declared import Choice, declared, sampler_options, together
from unmask.errors import UserError, is_unicode
from unmask.pipelines.guidance_options import ControlOptions
from unmask.pipelines.layout_options import SampleOptions
from unmask.sampling.samplers.base import TokenOptions

if TYPE_CHECKING:
    from rich.console import Console

    from unmask.pipelines.output import Generated
    from unmask.pipelines.picture_trace import PictureTrack
    from unmask.pipelines.unmasker import Unmasker

PICTURES = {
    "frames": (".jsonl",),
    "gif": (".gif",),
    "html": (".html", ".htm"),
    "plot": (".png",),
    "grid": (".png",),
}
"""Suffixes that the file of an option may have."""


class Place(click.Path):
    """A ``click.Path`` that refuses an empty name (an unset variable of the shell)."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path, or raise click's error for an empty or unreadable name."""
        if not is_unicode(os.fspath(value)):
            self.fail(f"{value!r} is not UTF-8", param, ctx)
        return super().convert(value, param, ctx) if value else self.fail("it is empty", param, ctx)


PLACE = Place()


model = click.option(
    "--model",
    default=None,
    metavar="DIR|HUB_ID",
    help="Model to use; the small one in the package if left out.",
)
cache = click.option(
    "--cache",
    default="exact",
    show_default=True,
    type=Choice(("exact", "off", "frozen")),
    help="What is cached between network calls: what cannot change (exact), nothing (off), or what "
    "hardly changes (frozen: fast, approximate).",
)
device = click.option(
    "--device", default=None, help="cpu, cuda, ...; an accelerator if there is one."
)
backend = click.option(
    "--backend",
    default="auto",
    show_default=True,
    type=Choice(("auto", "torch", "torch-packed", "torch-bf16", "torch-int8", "openvino")),
    help="What computes the network; auto takes on a CPU what the model was exported for, else the "
    "fastest exact one.",
)
seed = declared(SampleOptions, ["seed"])
as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
field = click.option(
    "--field", default="text", show_default=True, help="Column of the text, for tables."
)
top = click.option(
    "--top",
    type=int,
    default=None,
    metavar="K",
    help="Generate nothing; print the K most likely tokens of every masked position.",
)
sampler = sampler_options()
CAUSAL_TOO = frozenset(TokenOptions.options())
"""Options of samplers that an autoregressive model takes as well."""
steering = declared(
    ControlOptions,
    [name for name in ControlOptions.options() if name != "allowed"],
    {"matching": "--match"},
)
output = together(
    declared(SampleOptions),
    as_json,
    click.option("--frames", type=PLACE, help="Record as JSON lines."),
    click.option("--gif", type=PLACE, help="Draw an animation."),
    click.option("--html", type=PLACE, help="Write a replay page."),
    click.option("--no-animate", is_flag=True, help="No live canvas in the terminal."),
)
"""Options of what comes out."""
generating = together(sampler, steering, output, cache, device, backend)
"""All options of a command that generates by a diffusion model, but for its input."""
files = together(
    click.option(
        "--data",
        metavar="FILE",
        help="Texts: the lines of a .txt, a column of a table, a FASTA file.",
    ),
    field,
    click.option(
        "--out", type=PLACE, help="File for the rows of --data with the results: .jsonl or .fasta."
    ),
    click.option(
        "--resume",
        is_flag=True,
        help="Go on after the last whole line of --out, with the same options.",
    ),
    click.option("--overwrite", is_flag=True, help="Replace --out."),
)


def console() -> Console:
    """Return the console for everything that is not the result: standard error, unless quiet."""
    from rich.console import Console

    from unmask.render.console import stderr_console

    return Console(file=io.StringIO(), quiet=True) if printing.is_quiet() else stderr_console()


@contextmanager
def loading() -> Iterator[None]:
    """Show on a terminal that libraries and a model are being loaded; the line is removed again."""
    begun = time.perf_counter()
    with _spinner():
        yield
    printing.detail(f"loaded in {time.perf_counter() - begun:.1f} s")


@contextmanager
def _spinner() -> Iterator[None]:
    from rich.live import Live
    from rich.spinner import Spinner

    from unmask.render.terminal import can_animate

    screen = console()
    if not can_animate(screen):
        yield
        return
    line = Spinner("dots", "loading the model", style="dim")
    with Live(line, console=screen, transient=True, redirect_stdout=False, redirect_stderr=False):
        yield


def is_given(name: str) -> bool:
    """Return whether an option of the running command was given on the command line."""
    source = click.get_current_context().get_parameter_source(name)
    return source is click.core.ParameterSource.COMMANDLINE


def refuse_beside(reason: str, *allowed: str) -> None:
    """Raise a UserError for an option that was given and has no effect.

    Args:
        reason: Why it has none.
        allowed: Names of the parameters that have an effect.
    """
    for parameter in click.get_current_context().command.params:
        name = parameter.name or ""
        if name not in allowed and is_given(name):
            raise UserError(f"{reason}, so {parameter.opts[0]} has no effect; leave it out")


def read_text(text: str) -> str:
    """Return the text itself, or standard input for ``-``."""
    if text != "-":
        return text
    if sys.stdin is None:
        raise UserError("standard input is closed; write the text in place of -, or pipe it in")
    try:
        # A byte order mark is no part of the text.
        return sys.stdin.buffer.read().decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise UserError(f"standard input is not UTF-8 text (byte {error.start})") from error


def note(line: str) -> None:
    """Print a line about the data to standard error."""
    printing.say(console(), line)


def quiet_libraries() -> None:
    """Switch the loading bars of transformers off, unless ``-v`` asks for them."""
    from unmask.models.compat import quiet_transformers

    if not printing.is_verbose():
        quiet_transformers()


def open_unmasker(
    name: str | None, device: str | None, backend: str = "auto", cache: str = "exact"
) -> Unmasker:
    """Open a diffusion model; None and ``bundled`` are the one in the package."""
    with loading():
        quiet_libraries()
        from unmask.pipelines.unmasker import Unmasker

        pipeline = Unmasker.from_pretrained(name, device, backend, cache)
    if backend == "auto" and pipeline.backend == "openvino int8":
        printing.note("computed in int8, as the model was exported; float32 gives another text")
    return pipeline


def open_pipeline(name: str | None, device: str | None, backend: str = "auto") -> Any:
    """Open a model of any kind, of texts or of images."""
    with loading():
        from unmask.models.runtimes.select import BACKEND

        BACKEND("backend", backend)
    if name is not None and is_of_images(name):
        from unmask.cli.pictures import open_pictures

        return open_pictures(name, device, backend)
    if name is not None and is_causal(name):
        with loading():
            from unmask.pipelines.autoregressor import Autoregressor

            return Autoregressor.from_pretrained(name, device, backend)
    return open_unmasker(name, device, backend)


def is_of_images(name: str) -> bool:
    """Return whether a model was trained on images, by its card."""
    with loading():
        quiet_libraries()
        from unmask.models.loading import load_card

        card = load_card(name)
    return card is not None and bool(card.images)


def check_of_texts(*names: str | None) -> None:
    """Raise a UserError for a model of images, for a command that is for texts."""
    with loading():
        quiet_libraries()
        from unmask.models.loading import load_text_card

        for name in names:
            if name is not None:
                load_text_card(name)


def is_causal(name: str) -> bool:
    """Return whether a model is autoregressive, by its configuration and its card."""
    with loading():
        quiet_libraries()
        from unmask.models.loading import load_card, load_config, model_kinds

        if "causal" not in model_kinds(load_config(name)):
            return False
        card = load_card(name)
    return card is None or card.kind != "block"


def check_pictures(**paths: Path | None) -> None:
    """Raise a UserError for a path that cannot be written, before any work is done.

    A name that ends like another kind of file is refused as well, and one of a file that is not
    ours: it is most likely a slip, and would cost the user that file.

    Args:
        paths: By the name of the option.
    """
    from unmask.files import check_writable
    from unmask.render import json_lines, marks

    for option, path in paths.items():
        if path is None:
            continue
        check_writable(path)
        check_ending(option, path, PICTURES[option])
        (json_lines if option == "frames" else marks).check_replaceable(path)


def check_ending(
    option: str, path: Path, endings: Sequence[str], named: Sequence[str] = ()
) -> None:
    """Raise a UserError for a file name with another ending; ``named`` are those that it names."""
    if path.suffix.lower() not in endings:
        raise UserError(
            f"--{option} takes a file name that ends in {' or '.join(named or endings)}, not {path}"
        )


def save_pictures(tracks: Any, frames: Path | None, gif: Path | None, html: Path | None) -> None:
    """Write recordings of texts to the files that are given."""
    title = " against ".join(track.label for track in tracks[:2])
    if frames is not None:
        from unmask.render.jsonl import write_tracks

        write_tracks(frames, tracks)
    if gif is not None:
        from unmask.render.gif import write_gif

        write_gif(gif, tracks)
    if html is not None:
        from unmask.render.html import write_html

        write_html(html, tracks, title)


def save_picture_tracks(
    tracks: Sequence[PictureTrack], frames: Path | None, gif: Path | None, html: Path | None
) -> None:
    """Write recordings of pictures to the files that are given."""
    title = " against ".join(list(dict.fromkeys(track.label for track in tracks))[:2])
    if frames is not None:
        from unmask.render.picture_jsonl import save_frames

        save_frames(tracks, frames)
    if gif is not None:
        from unmask.render.picture_gif import save_gif

        save_gif(tracks, gif)
    if html is not None:
        from unmask.render.picture_html import save_html

        save_html(tracks, html, title)


def print_texts(result: Generated, as_json: bool) -> None:
    """Print the texts, or one JSON object."""
    if as_json:
        printing.record(result.as_dict())
        return
    for index, text in enumerate(result.texts):
        if index:
            printing.result("\n" + "-" * 40 + "\n")
        printing.result(text)
