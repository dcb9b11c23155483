"""Options that several verbs share, and what they turn into."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from unmask.cli import printing
from unmask.errors import UserError, is_unicode

if TYPE_CHECKING:
    from rich.console import Console

    from unmask.pipelines.autoregressor import Autoregressor
    from unmask.pipelines.output import Generated
    from unmask.pipelines.unmasker import Unmasker

Function = TypeVar("Function", bound=Callable[..., Any])
NAMES = (
    "ancestral, random, first-hitting, left-to-right, threshold, maskgit, "
    "fast-dllm-factor, entropy-bound, refine, remdm-cap, remdm-rescale, remdm-conf, "
    "remdm-loop, remdm-next-rate, forward-backward, p2, threshold-edit, "
    "gibbs, gibbs-sequential"
)

PICTURES = {
    "frames": (".jsonl",),
    "gif": (".gif",),
    "html": (".html", ".htm"),
    "plot": (".png",),
}
"""The options that name a file to draw or record to, and how that name may end."""


class Place(click.Path):
    """The name of a file or folder, which an unset variable of a shell does not give."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path, or raise click's error for an empty or unreadable name."""
        if not is_unicode(os.fspath(value)):
            self.fail(f"{value!r} is not UTF-8", param, ctx)
        return super().convert(value, param, ctx) if value else self.fail("it is empty", param, ctx)


PLACE = Place()


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
cache = click.option(
    "--cache",
    default="exact",
    show_default=True,
    help="What is kept from call to call: exact, off, or frozen (fast, approximate).",
)
device = click.option(
    "--device", default=None, help="cpu, cuda, ...; an accelerator if there is one."
)
backend = click.option(
    "--backend",
    default="auto",
    show_default=True,
    help="torch, torch-packed, torch-bf16, torch-int8, openvino; auto: on a CPU what the model was "
    "exported for, else the fastest exact one.",
)
seed = click.option("--seed", default=0, show_default=True, help="Same seed, same result.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
field = click.option(
    "--field", default="text", show_default=True, help="Column of the text, for tables."
)
choose_length = click.option(
    "--choose-length",
    default=None,
    help="Of a length such as [MASK:3-8]: sample (the default) or likeliest.",
)
top = click.option(
    "--top",
    type=int,
    default=None,
    metavar="K",
    help="Write nothing; print the K likeliest tokens of every masked position.",
)
sampler = _together(
    click.option("--sampler", default=None, help=f"{NAMES}; else the model's own."),
    click.option(
        "--steps",
        type=int,
        default=None,
        help="Steps of the sampler, at most so many if it takes what is sure enough; for each "
        "block if the model writes in blocks.",
    ),
    click.option(
        "--grid", default=None, metavar="NAME|TIMES", help="uniform, cosine, or such as 1,0.5,0."
    ),
    click.option(
        "--tokens-per-step", type=int, default=None, help="Tokens of a step, in place of --steps."
    ),
    click.option("--temperature", type=float, default=None, help="0 takes the likeliest token."),
    click.option("--top-k", type=int, default=None, help="Draw among the k likeliest tokens."),
    click.option("--top-p", type=float, default=None, help="Draw within this much probability."),
    click.option(
        "--top-p-crossing",
        default=None,
        metavar="keep|drop",
        help="What becomes of the token that crosses --top-p.",
    ),
    click.option(
        "--min-p", type=float, default=None, help="Draw above this share of the likeliest token."
    ),
    click.option(
        "--confidence-metric",
        default=None,
        help="Of being sure: drawn, confidence, margin or entropy.",
    ),
    click.option(
        "--threshold", type=float, default=None, help="Reveal at once above this confidence."
    ),
    click.option(
        "--factor", type=float, default=None, help="How much fast-dllm-factor reveals at once."
    ),
    click.option(
        "--gamma", type=float, default=None, help="Nats that entropy-bound reveals at once."
    ),
    click.option("--eta", type=float, default=None, help="How much remask-... or p2 hides again."),
    click.option(
        "--edit-threshold", type=float, default=None, help="Below it threshold-edit hides a token."
    ),
    click.option(
        "--alg-temperature",
        type=float,
        default=None,
        help="Above 0, maskgit takes the surest not always but more often.",
    ),
    click.option(
        "--burn-in", type=int, default=None, help="Steps of gibbs that draw among all tokens."
    ),
    click.option(
        "--repetition-penalty",
        type=float,
        default=None,
        help="Above 1, tokens that are there already become less likely.",
    ),
    click.option(
        "--ban",
        multiple=True,
        metavar="TEXT",
        callback=lambda _context, _option, texts: texts or None,
        help="Never write this; may be given again.",
    ),
    click.option(
        "--unban",
        multiple=True,
        metavar="SYMBOL",
        callback=lambda _context, _option, texts: texts or None,
        help="Let a symbol such as <unk> or [SEP] be written, which by itself none is.",
    ),
)
# What an autoregressive model has no use for.
DIFFUSION_ONLY = (
    *(
        "sampler",
        "steps",
        "grid",
        "tokens_per_step",
        "top_p_crossing",
        "confidence_metric",
        "threshold",
    ),
    *("factor", "gamma", "eta", "edit_threshold", "alg_temperature", "burn_in", "unban"),
)
steering = _together(
    click.option(
        "--guidance-scale",
        type=float,
        default=None,
        help="Weigh what is given: 1 is the model as it is, above 1 exaggerates.",
    ),
    click.option(
        "--classifier",
        default=None,
        metavar="DIR|HUB_ID",
        help="Guide by a classifier with the same tokenizer.",
    ),
    click.option("--label", default=None, help="What the classifier should find: name or number."),
    click.option("--classifier-scale", type=float, default=None, help="How much that counts; 1."),
    click.option(
        "--classifier-top-k",
        type=int,
        default=None,
        help="Ask it about the k likeliest tokens one by one; else about all at first order.",
    ),
    click.option(
        "--match",
        "matching",
        multiple=True,
        metavar="REGEX",
        help="What is written must match; give it several times for several blanks.",
    ),
)
output = _together(
    click.option("--num-samples", default=1, show_default=True, help="Texts per prompt."),
    seed,
    as_json,
    click.option("--frames", type=PLACE, help="Record as JSON lines."),
    click.option("--gif", type=PLACE, help="Draw an animation."),
    click.option("--html", type=PLACE, help="Write a replay page."),
    click.option("--no-animate", is_flag=True, help="No live canvas in the terminal."),
)

files = _together(
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
    """Return the console for everything that is not the result: standard error."""
    from unmask.render.console import stderr_console

    return stderr_console()


@contextmanager
def loading() -> Iterator[None]:
    """Show on a terminal that libraries and a model are being loaded; the line is removed again."""
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


def refuse_beside(reason: str, *allowed: str) -> None:
    """Raise a UserError for an option of the running command that was given and has no meaning.

    Args:
        reason: Why it has none.
        allowed: Names of the parameters that have one.
    """
    context = click.get_current_context()
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        if name not in allowed and source is click.core.ParameterSource.COMMANDLINE:
            raise UserError(f"{reason}, so {parameter.opts[0]} has no meaning; leave it out")


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
    """Show a line on what becomes of the data, on standard error."""
    printing.say(console(), line)


def quiet_libraries() -> None:
    """Switch the loading bars of transformers off."""
    from unmask.models.compat import quiet_transformers

    quiet_transformers()


def open_unmasker(
    name: str | None, device: str | None, backend: str = "auto", cache: str = "exact"
) -> Unmasker:
    """Open a diffusion model; None is the one in the package, as is ``bundled``."""
    with loading():
        quiet_libraries()
        from unmask.pipelines.unmasker import Unmasker

        writer = Unmasker.from_pretrained(name, device, backend, cache)
    if backend == "auto" and writer.backend == "openvino int8":
        said = "computed in int8, as this model was exported, which gives another text than float32"
        printing.note(said)
    return writer


def open_writer(
    name: str | None, device: str | None, backend: str = "auto"
) -> Unmasker | Autoregressor:
    """Open a model of either kind."""
    with loading():
        from unmask.models.runtimes.select import check_backend

        check_backend(backend)
    if name is not None and is_causal(name):
        with loading():
            from unmask.pipelines.autoregressor import Autoregressor

            return Autoregressor.from_pretrained(name, device, backend)
    return open_unmasker(name, device, backend)


def is_causal(name: str) -> bool:
    """Return whether a model writes token after token, by its configuration and its card."""
    with loading():
        quiet_libraries()
        from unmask.models.loading import load_card, load_config, model_kinds

        if "causal" not in model_kinds(load_config(name)):
            return False
        card = load_card(name)
    return card is None or card.kind != "block"


def check_pictures(**paths: Path | None) -> None:
    """Raise a UserError for a path that cannot be written, before any work is done for it.

    A name that ends like another kind of file is refused as well, and one of a file that is not
    ours: it is most likely a slip, and would cost the user that file.

    Args:
        paths: By the name of the option.
    """
    from unmask.files import check_writable
    from unmask.render import jsonl, marks

    for option, path in paths.items():
        if path is None:
            continue
        check_writable(path)
        endings = PICTURES[option]
        if path.suffix.lower() not in endings:
            raise UserError(
                f"--{option} takes a file name that ends in {' or '.join(endings)}, not {path}"
            )
        (jsonl if option == "frames" else marks).check_replaceable(path)


def save_pictures(tracks: Any, frames: Path | None, gif: Path | None, html: Path | None) -> None:
    """Write the recordings that were asked for."""
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


def print_texts(result: Generated, as_json: bool) -> None:
    """Print the texts, or one JSON object."""
    if as_json:
        printing.record(result.as_dict())
        return
    for index, text in enumerate(result.texts):
        if index:
            printing.result("\n" + "-" * 40 + "\n")
        printing.result(text)
