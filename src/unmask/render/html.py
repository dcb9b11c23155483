"""A recording as one web page that replays it; needs no network and no server."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from unmask.files import replacing
from unmask.pipelines.trace import Snapshot, Track
from unmask.render.layout import reserved
from unmask.render.marks import HTML_GENERATOR
from unmask.render.timeline import Moment, timeline

_LEGEND = """\
<ul class="legend" aria-label="Legend">
  <li><span class="token given">prompt</span></li>
  <li><span class="token masked"><span class="last">mask</span></span> masked</li>
  <li><span class="token revealed">word</span> new in this step</li>
  <li><span class="token kept" style="--share: 42%">word</span> low confidence</li>
  <li><span class="token remasked"><span class="last">mask</span></span> masked again</li>
</ul>"""


def write_html(path: str | os.PathLike[str], tracks: Sequence[Track], title: str) -> None:
    """Write a page with play, pause, a slider over the steps, and each token's confidence.

    Args:
        path: The file; replaced whole or not at all.
        tracks: The recordings, side by side on one clock.
        title: The heading of the page.

    Raises:
        UserError: If there is nothing to show, or the file cannot be written.
    """
    data = {
        "moments": instants(timeline(tracks)),
        "tracks": [_track(track) for track in tracks],
    }
    write_page(path, "text", title, _LEGEND, data)


def write_page(
    path: str | os.PathLike[str], kind: str, title: str, legend: str, data: dict[str, Any]
) -> None:
    """Write the page that replays a kind of recording.

    ``replay.html`` has the player and the style that all kinds share, ``replay_KIND.js`` and
    ``replay_KIND.css`` what shows one.

    Args:
        path: The file; replaced whole or not at all.
        kind: "text" or "picture".
        title: The heading of the page.
        legend: A list, as HTML.
        data: What the script of the kind reads, and "moments".
    """
    page = Template(_read("replay.html")).substitute(
        title=escape(title),
        legend=legend,
        style=_read(f"replay_{kind}.css"),
        script=_read(f"replay_{kind}.js").rstrip(),
        data=_script_json(data),
        generator=HTML_GENERATOR,
    )
    # A title may hold half a surrogate pair, which UTF-8 cannot encode; the data is ASCII.
    with replacing(path) as part:
        part.write_text(page, encoding="utf-8", errors="replace")


def instants(moments: Sequence[Moment]) -> list[list[int]]:
    """Return moments as the page reads them: milliseconds, then the index for each track."""
    return [[round(1000 * moment.at), *moment.shown] for moment in moments]


def _read(name: str) -> str:
    return files("unmask.render").joinpath(name).read_text(encoding="utf-8")


def _track(track: Track) -> dict[str, Any]:
    """Return a track as its last pieces and, per snapshot, the tokens that changed."""
    blank = Snapshot(0, 0.0, 0, (), (), ())
    return {
        "label": track.label,
        "last": reserved(track.snapshots),
        "snapshots": [
            {
                "step": after.step,
                "nfe": after.nfe,
                "seconds": after.seconds,
                "length": len(after.pieces),
                "changes": list(_changes(before, after)),
            }
            for before, after in zip([blank, *track.snapshots], track.snapshots, strict=False)
        ],
    }


def _changes(before: Snapshot, after: Snapshot) -> Iterator[list[Any]]:
    """Yield position, piece, status and confidence of the tokens that changed."""
    old = list(zip(before.pieces, before.status, before.confidence, strict=True))
    new = zip(after.pieces, after.status, after.confidence, strict=True)
    for index, (piece, status, confidence) in enumerate(new):
        if index >= len(old) or old[index] != (piece, status, confidence):
            known = None if confidence is None else round(confidence, 4)
            yield [index, piece, status, known]


def _script_json(data: Any) -> str:
    """Return JSON that cannot end the script element around it."""
    text = json.dumps(data, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
