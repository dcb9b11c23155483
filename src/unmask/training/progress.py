"""The log of a training run: a live line in a terminal and JSON lines in a file."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import TrainerCallback

from unmask.errors import UserError

METRICS = "metrics.jsonl"
CURVE = "loss.png"


class ProgressLog(TrainerCallback):
    """Shows loss, validation bound, tokens per second and time left; writes every log as JSON.

    Args:
        folder: Where ``metrics.jsonl`` goes.
        console: Shows the live line; plain lines if it is not a terminal.
        rows_per_step: Rows of one optimiser step, for the speed.
        length: Tokens of a row; 0 for those of the training data.
        minutes: Time budget of the run, 0 if it ends by steps.
    """

    def __init__(
        self,
        folder: Path,
        console: Console,
        rows_per_step: int,
        length: int,
        minutes: float = 0.0,
    ) -> None:
        self._file = folder / METRICS
        self._console = console
        self._rows, self._length = rows_per_step, length
        self._minutes = minutes
        self.started = False
        self._progress: Progress | None = None
        self._latest: dict[str, float] = {}
        self._last = (0, time.monotonic())

    def on_train_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        if not self._length and others.get("train_dataloader") is not None:
            self._length = len(others["train_dataloader"].dataset[0]["input_ids"])
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self.started = True
        # The seconds of a resumed run continue from its checkpoint.
        self._begun = time.monotonic() - seconds_until(self._file, state.global_step)
        self._last = (state.global_step, time.monotonic())
        if not self._console.is_terminal:
            return
        columns = (
            TextColumn("step {task.fields[step]}"),
            BarColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=self._console, transient=False)
        total = 60 * self._minutes if self._minutes else state.max_steps
        self._task = self._progress.add_task("", total=total, step=state.global_step, numbers="")
        self._progress.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._progress:
            done = time.monotonic() - self._begun if self._minutes else state.global_step
            self._progress.update(self._task, completed=done, step=state.global_step)

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        if not logs or "train_runtime" in logs:
            return
        if not self.started:
            # A run that was complete is only validated again.
            self.on_train_begin(args, state, control)
        record: dict[str, Any] = {"step": state.global_step, "seconds": self._seconds(), **logs}
        if "loss" in logs:
            step, then = self._last
            now = time.monotonic()
            elapsed = max(now - then, 1e-9)
            tokens = (state.global_step - step) * self._rows * self._length
            record["tokens_per_second"] = tokens / elapsed
            self._last = (state.global_step, now)
        try:
            with self._file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        except OSError as error:
            raise UserError(
                f"could not write to {self._file}: {error.strerror}; the last checkpoint is intact"
            ) from error
        self._latest |= {key: value for key, value in record.items() if key != "epoch"}
        self._show(state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.close()

    def close(self) -> None:
        """Restore the terminal."""
        if self._progress:
            self._progress.stop()
            self._progress = None

    def _seconds(self) -> float:
        return round(time.monotonic() - self._begun, 3)

    def _show(self, step: int) -> None:
        names = {
            "loss": "loss {:.3f}",
            "eval_nats_per_token": "validation {:.3f} nats/token",
            "eval_perplexity": "ppl {:.1f}",
            "eval_bits_per_char": "{:.3f} bits/char",
            "eval_bits_per_dim": "{:.3f} bits/dim",
            "tokens_per_second": "{:,.0f} tokens/s",
        }

        numbers = " · ".join(
            text.format(self._latest[key]) for key, text in names.items() if key in self._latest
        )
        if self._progress:
            self._progress.update(self._task, numbers=numbers)
        else:
            self._console.print(f"step {step} · {numbers}", highlight=False, soft_wrap=True)


def seconds_until(path: Path, step: int) -> float:
    """Return the seconds of a run at a step, from its ``metrics.jsonl``; 0 if that is missing."""
    if not path.is_file():
        return 0.0
    times = [record["seconds"] for record in read_metrics(path) if record["step"] <= step]
    return float(max(times, default=0.0))


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read ``metrics.jsonl`` without damaged lines, such as one that a kill cut off.

    Of steps that a resumed run repeated, the last lines count.

    Raises:
        UserError: If there is no such file.
    """
    if not path.is_file():
        raise UserError(f"there is no log {path}")
    records: list[dict[str, Any]] = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if not isinstance(record, dict) or not _is_placed(record):
            continue
        while records and records[-1]["step"] > record["step"]:
            records.pop()
        records.append(record)
    return records


def _is_placed(record: dict[str, Any]) -> bool:
    """Return whether a record has its step and its seconds."""
    places = [record.get(key) for key in ("step", "seconds")]
    return all(isinstance(p, int | float) and math.isfinite(p) for p in places)
