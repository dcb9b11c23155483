"""What ``generate`` and ``infill`` share: generate with a live canvas, print, record."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unmask.cli import options, printing

if TYPE_CHECKING:
    from unmask.cli.rows import Files
    from unmask.pipelines.output import Generated
    from unmask.pipelines.unmasker import Unmasker
    from unmask.sampling.canvas import Frame


def write(
    pipeline: Unmasker,
    work: Callable[..., Generated],
    *,
    as_json: bool,
    frames: Path | None,
    gif: Path | None,
    html: Path | None,
    no_animate: bool,
    **values: Any,
) -> Generated:
    """Generate, with the canvas shown live if standard error is a terminal.

    Args:
        pipeline: The model.
        work: One of its methods, with the first argument bound.
        as_json: Print one JSON object.
        frames: Where to record; ``gif`` and ``html`` likewise.
        no_animate: Show no live canvas.
        values: Options of ``work``.
    """
    console = options.console()
    if no_animate or not console.is_terminal:
        result = work(**values)
    else:
        result = watched(pipeline, work, console, **values)
    for note in result.notes:
        printing.note(f"note: {note}")
    printing.detail(f"generated in {result.seconds:.2f} s, {result.nfe} network calls")
    options.print_texts(result, as_json)
    options.save_pictures(result.tracks, frames, gif, html)
    return result


def write_file(
    files: Files,
    pipeline: Unmasker,
    text: str,
    work: Callable[..., Generated],
    name: str,
    blanks: bool = False,
    **values: Any,
) -> None:
    """Generate for every text of a file; each generated text becomes a row.

    Args:
        files: What to read and write.
        pipeline: The model.
        text: The only text, if there is no file of them.
        work: Method for several texts: ``generate`` or ``transform`` of the model.
        name: Key of the given text in a row.
        blanks: Fill blanks only: a text without any stays as it is.
        values: Options of ``work``.
    """
    from unmask.cli.marks import Marks
    from unmask.cli.rows import write_rows
    from unmask.pipelines.prompts import has_blank

    samples, noted = int(values.get("num_samples", 1)), set[str]()

    def asks(text: str) -> bool:
        return not blanks or has_blank(pipeline.codec, text)

    def written(texts: list[str]) -> Iterator[dict[str, Any]]:
        result = work(texts, **values)
        for note in dict.fromkeys(result.notes):
            if note not in noted:
                printing.note(f"note: {note}")
        noted.update(result.notes)
        for text, row in zip_longest(result.texts, result.fillings):
            fillings = {} if row is None else {"fillings": [filling.as_dict() for filling in row]}
            yield {"text": text, **fillings}

    def rows(texts: list[str]) -> list[dict[str, Any]]:
        to_fill = [text for text in texts if asks(text)]
        found = written(to_fill) if to_fill else iter(())
        return [
            ({"sample": i} if samples > 1 else {})
            | (next(found) if asks(text) else {"text": text, "fillings": []})
            for text in texts
            for i in range(samples)
        ]

    write_rows(
        files,
        text,
        rows,
        name=name,
        adds=("text", "fillings", *(("sample",) if samples > 1 else ())),
        marks=Marks(pipeline, {"work": name, **values}),
        each=max(samples, 1),
        asks=asks,
        demand=lambda text: pipeline.require_blank([text]),
    )


def write_top(pipeline: Unmasker, template: str, k: int, as_json: bool) -> None:
    """Print the k most likely tokens of every masked position of a template."""
    found = pipeline.top(template, k)
    for note in pipeline.notes([template]):
        printing.note(f"note: {note}")
    if as_json:
        facts = {"template": template, "top": [[c.as_dict() for c in row] for row in found]}
        printing.record(facts)
        return
    for number, row in enumerate(found, 1):
        printing.result(f"masked token {number}")
        for candidate in row:
            printing.result(f"{candidate.probability:9.4f}  {candidate.text!r}")


def watched(
    pipeline: Unmasker,
    work: Callable[..., Generated],
    console: Any,
    linger: float = 0.0,
    **values: Any,
) -> Generated:
    """Generate while showing the first row, every step for at least ``linger`` seconds."""
    from unmask.pipelines import recorder
    from unmask.render.terminal import LiveCanvas

    label = str(values.get("sampler") or pipeline.card.sampler.get("name", ""))
    with LiveCanvas(console, [label]) as canvas:

        def watch(frame: Frame, seconds: float) -> None:
            canvas.update(0, recorder.snapshot(pipeline.codec, frame, seconds, 0))
            time.sleep(linger)

        return work(watch=watch, **values)
