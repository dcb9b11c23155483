"""When a run validates, and how it ends: by itself, by the clock or by Ctrl-C."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from transformers import Trainer, TrainerCallback


class Pace(TrainerCallback):
    """Says when to validate, and when to end: when asked to, or when the time is up.

    Args:
        minutes: Time budget; 0 for none.
        evaluate_every: Steps between two validations; 0 for none.
    """

    def __init__(self, minutes: float, evaluate_every: int) -> None:
        self.asked = False
        self._every = evaluate_every
        self._deadline = time.monotonic() + 60 * minutes if minutes else math.inf

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        control.should_evaluate = bool(self._every) and state.global_step % self._every == 0
        if self.asked:
            control.should_save = True
            control.should_training_stop = True
        elif time.monotonic() > self._deadline:
            control.should_training_stop = True
        return control


@contextmanager
def stop_on_interrupt(trainer: Trainer, pace: Pace) -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C into a checkpoint and an orderly end; a second one interrupts."""
    trainer.add_callback(pace)

    def ask(_number: int, _frame: Any) -> None:
        if pace.asked:
            raise KeyboardInterrupt
        pace.asked = True

    try:
        before = signal.signal(signal.SIGINT, ask)
    except ValueError:
        # Not the main thread: signals go elsewhere, training itself is unaffected.
        yield lambda: False
        return
    try:
        yield lambda: pace.asked
    finally:
        signal.signal(signal.SIGINT, before)
