"""The palette and the round corners of a GIF against those of Pillow: size of the file and time.

python -m benchmarks.gif_parts
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

from PIL import Image, ImageDraw

from unmask.pipelines.unmasker import Unmasker
from unmask.render import gif, gif_page, gif_panels

_ROUNDS = 5


def _corners_of_pillow(width: int, height: int, radius: int) -> Image.Image:
    mask = Image.new("L", (width, height), 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, width - 1, height - 1), radius, 255)
    return mask


@contextmanager
def _palette_of_pillow() -> Iterator[None]:
    own = Image.Image.quantize

    def quantize(self: Image.Image, **_: Any) -> Image.Image:
        return own(self, 256)

    with patch.object(Image.Image, "quantize", quantize):
        yield


@contextmanager
def _round_corners_of_pillow() -> Iterator[None]:
    with (
        patch.object(gif_page, "rounded", _corners_of_pillow),
        patch.object(gif_panels, "rounded", _corners_of_pillow),
    ):
        yield


def main() -> None:
    """Print a table."""
    result = Unmasker.from_pretrained().generate("The history of the town", length=64, seed=0)
    kinds = {
        "ours": nullcontext,
        "palette of Pillow, one a frame": _palette_of_pillow,
        "round corners of Pillow": _round_corners_of_pillow,
    }
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    sizes = {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(_ROUNDS):
            for name, kind in kinds.items():
                path = Path(folder, "canvas.gif")
                started = time.perf_counter()
                with kind():
                    gif.write_gif(path, result.tracks)
                seconds[name].append(time.perf_counter() - started)
                sizes[name] = path.stat().st_size
    print("| | bytes | ratio | time, ratio |\n|---|---|---|---|")
    for name, size in sizes.items():
        ratios = [a / b for a, b in zip(seconds[name], seconds["ours"], strict=True)]
        print(f"| {name} | {size} | {size / sizes['ours']:.2f} | {median(ratios):.2f} |")


if __name__ == "__main__":
    main()
