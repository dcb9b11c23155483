"""``unmask compare``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unmask.cli import options, printing
from unmask.cli.declared import declared
from unmask.cli.grouped import GroupedCommand
from unmask.pipelines.layout_options import LayoutOptions
from unmask.sampling.samplers.registry import OPTIONS
from unmask.validation import exclude

if TYPE_CHECKING:
    from unmask.pipelines.output import Generated


@click.command("compare", cls=GroupedCommand)
@click.argument("prompt", default="")
@click.option(
    "--models", nargs=2, required=True, metavar="A B", help='"bundled" is the package\'s.'
)
@declared(LayoutOptions, ["length"])
@options.sampler
@options.output
@options.device
def command(
    prompt: str,
    models: tuple[str, str],
    as_json: bool,
    frames: Path | None,
    gif: Path | None,
    html: Path | None,
    no_animate: bool,
    device: str | None,
    **values: Any,
) -> None:
    """Race two models, diffusion or autoregressive, on the same PROMPT.

    Each generates alone and is timed alone; then both are shown side by side on one clock.
    """
    prompt = options.read_text(prompt)
    options.check_pictures(frames=frames, gif=gif, html=html)
    results = race(models, prompt, device, values)
    tracks = [result.tracks[0] for result in results.values()]
    console = options.console()
    if not no_animate and console.is_terminal:
        from unmask.render.terminal import play

        play(tracks, console)
    if as_json:
        printing.record({name: result.as_dict() for name, result in results.items()})
    else:
        _print(results)
    options.save_pictures(tracks, frames, gif, html)


def race(
    models: tuple[str, str], prompt: str, device: str | None, values: dict[str, Any]
) -> dict[str, Generated]:
    """Let each model generate and return the results by label, in order."""
    from unmask.pipelines.unmasker import Unmasker

    options.check_of_texts(*models)
    # Open both before either generates, so that a wrong name costs no waiting.
    pipelines = [options.open_pipeline(name, device) for name in models]
    diffusion_only = {"sampler", *OPTIONS} - options.CAUSAL_TOO
    requested = [key for key in values if key in diffusion_only and values[key] is not None]
    causal = not any(isinstance(pipeline, Unmasker) for pipeline in pipelines)
    exclude(*((f"--{key.replace('_', '-')}", causal, "two causal models") for key in requested))
    if values.get("length") is None:
        from unmask.pipelines.prompts import what_fits

        rooms = (what_fits(w.limit, len(w.codec.start + w.codec.encode(prompt))) for w in pipelines)
        values = values | {"length": min(rooms)}
    results: dict[str, Generated] = {}
    for name, pipeline in zip(models, pipelines, strict=True):
        mine = dict(values)
        if not isinstance(pipeline, Unmasker):
            mine = {key: value for key, value in values.items() if key not in diffusion_only}
        # The first call of a process pays for thread pools and caches: not part of the race.
        pipeline.generate(prompt, length=2)
        result = pipeline.generate(prompt, **mine)
        label = f"{Path(name).name} · {result.settings['sampler']}"
        label = label if label not in results else f"{label} (2)"
        tracks = tuple(replace(track, label=label) for track in result.tracks)
        results[label] = replace(result, tracks=tracks)
    return results


def _print(results: dict[str, Generated]) -> None:
    for label, result in results.items():
        printing.result(f"{label}: {result.seconds:.2f} s, {result.nfe} network calls")
        printing.result("\n\n".join(result.texts) + "\n")
    (_, first), (_, second) = results.items()
    fast, slow = sorted((first.seconds, second.seconds))
    faster = next(label for label, result in results.items() if result.seconds == fast)
    printing.result(f"{faster} was {slow / max(fast, 1e-9):.1f} times faster")
