"""What is drawn of a recording, of texts or pictures (terminal, GIF, web page), image files, plots.

Loaded on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unmask._names.lazy import lazy

if TYPE_CHECKING:
    from unmask.render.gif import write_gif as write_gif
    from unmask.render.html import write_html as write_html
    from unmask.render.jsonl import read_tracks as read_tracks
    from unmask.render.jsonl import write_tracks as write_tracks
    from unmask.render.picture_gif import save_gif as save_gif
    from unmask.render.picture_html import save_html as save_html
    from unmask.render.picture_jsonl import load_frames as load_frames
    from unmask.render.picture_jsonl import save_frames as save_frames
    from unmask.render.picture_terminal import LivePicture as LivePicture
    from unmask.render.picture_terminal import play_pictures as play_pictures
    from unmask.render.pictures import save_grid as save_grid
    from unmask.render.pictures import save_png as save_png
    from unmask.render.pictures import shown as shown
    from unmask.render.pictures import upscaled as upscaled
    from unmask.render.plots import Point as Point
    from unmask.render.plots import exponents as exponents
    from unmask.render.plots import loss_curve as loss_curve
    from unmask.render.plots import sampler_curves as sampler_curves
    from unmask.render.terminal import LiveCanvas as LiveCanvas
    from unmask.render.terminal import play as play

__getattr__, __dir__ = lazy(__name__)
