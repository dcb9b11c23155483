"""The report of ``unmask evaluate``: ``report.md`` and ``report.json`` in a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from unmask.errors import UserError

TITLE = "# Likelihood on"


def check_report(folder: Path) -> None:
    """Raise a UserError for a file that would be replaced and is no report."""
    for file in (folder / "report.md", folder / "report.json"):
        if file.exists() and not _is_report(file):
            raise UserError(
                f"{file} was not written by unmask evaluate, so it is not overwritten; choose "
                "another folder"
            )


def _is_report(file: Path) -> bool:
    try:
        text = file.read_text(encoding="utf-8")
        if file.suffix == ".md":
            return text.startswith(TITLE)
        return all("nats_per_token" in scores for scores in json.loads(text).values())
    except (OSError, ValueError, AttributeError, TypeError):
        return False


def write_report(folder: Path, data: str, text: str, facts: dict[str, dict[str, Any]]) -> None:
    """Write both files, each whole or not at all."""
    from unmask.files import replacing

    with replacing(folder / "report.md") as path:
        path.write_text(f"{TITLE} {Path(data).name}\n\n{text}\n", encoding="utf-8")
    with replacing(folder / "report.json") as path:
        path.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
