"""The checkpoints of a run: which folders they are, and whether they are complete.

``checkpoint-<step>`` holds what the Trainer saved and ``files.json``, which is written last: the
SHA-256 of every other file, so that a damaged one is never loaded, and the seconds of the run.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from unmask.errors import UserError
from unmask.files import write_text
from unmask.models.checkpoint import read_json

FILES = "files.json"
_NAME = re.compile(r"checkpoint-(0|[1-9][0-9]*)")


def numbered(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, oldest first; one with another name is a user's copy."""
    steps = {path: _NAME.fullmatch(path.name) for path in folder.glob("checkpoint-*")}
    found = {path: int(match[1]) for path, match in steps.items() if match and path.is_dir()}
    return sorted(found, key=lambda path: found[path])


def checkpoints(folder: Path) -> list[Path]:
    """Return the complete checkpoints in a folder, oldest first."""
    return [p for p in numbered(folder) if (p / "trainer_state.json").is_file()]


def seal(folder: Path, seconds: float) -> None:
    """Write the hashes of the files of a checkpoint, after all of them.

    Args:
        folder: The checkpoint.
        seconds: Duration of the run so far.
    """
    content = {
        "seconds": seconds,
        "sha256": {name: _hash(folder / name) for name in _files(folder)},
    }
    write_text(folder / FILES, json.dumps(content, indent=2) + "\n")


def check_whole(folder: Path) -> float:
    """Check the files of a checkpoint and return the seconds that the run had taken.

    Raises:
        UserError: If a file is missing, damaged or added.
    """
    remedy = f"remove {folder.name} to resume from the checkpoint before it, or start anew"
    known = read_json(folder / FILES, remedy)
    hashes, seconds = known.get("sha256"), known.get("seconds")
    if not isinstance(hashes, dict) or not isinstance(seconds, int | float):
        raise UserError(f"{folder / FILES} is damaged; {remedy}")
    for name in sorted({*hashes, *_files(folder)}):
        if not _is_same(folder, name, hashes.get(name)):
            raise UserError(f"{folder / name} is missing or damaged; {remedy}")
    return float(seconds)


def _is_same(folder: Path, name: str, known: Any) -> bool:
    try:
        return bool(_hash(folder / name) == known)
    except (OSError, ValueError):
        return False


def _files(folder: Path) -> list[str]:
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return [name for name in found if name != FILES]


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
