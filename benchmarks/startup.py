"""Time from the start of the process to the first output, against an empty Python process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from importlib import resources
from pathlib import Path

from benchmarks.measure import Comparison, Run, Variant

_FRAMES = """
from unmask.pipelines.unmasker import Unmasker
frames = iter(Unmasker.from_pretrained().stream("The", length=32))
for _ in range({count}):
    next(frames)
"""


def comparisons(quick: bool) -> Iterator[Comparison]:
    """Yield one comparison; variants that cannot run are left out with a note."""
    variants = [
        _python("python -c pass", "pass"),
        _python("import unmask", "import unmask"),
        _python("import torch", "import torch"),
    ]
    notes = []
    script = Path(sys.executable).with_name("unmask")
    command = [str(script), "--help"]
    if (
        script.exists()
        and subprocess.run(command, capture_output=True, check=False).returncode == 0
    ):
        variants.append(Variant("unmask --help", partial(_build, command)))
    else:
        notes.append("Left out: unmask --help does not run in this environment.")
    if (Path(str(resources.files("unmask"))) / "bundled" / "config.json").is_file():
        variants.append(_python("first frame, blank", _FRAMES.format(count=1)))
        variants.append(_python("first frame, written", _FRAMES.format(count=2)))
    else:
        notes.append("Left out: first frame, as there is no bundled model in src/unmask/bundled.")
    yield Comparison(
        "startup",
        "from the start of the process",
        tuple(variants),
        repeats=2 if quick else 5,
        peak=False,
        notes=tuple(notes),
    )


def _python(name: str, code: str) -> Variant:
    return Variant(name, partial(_build, [sys.executable, "-c", code]))


def _build(command: list[str]) -> Run:
    run = partial(subprocess.run, command, capture_output=True, check=True)
    run()
    return run
