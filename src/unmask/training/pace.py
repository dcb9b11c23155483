"""When a run validates, and how it ends: by itself, by the clock, by Ctrl-C or by a kill."""

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
        seconds: Time budget; 0 for none.
        evaluate_every: Steps between two validations; 0 for none.
        begun: When the run began, on the monotonic clock.
    """

    def __init__(self, seconds: float, evaluate_every: int, begun: float) -> None:
        self.asked = False
        self._every = evaluate_every
        self._deadline = begun + seconds if seconds else math.inf

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
    """Turn Ctrl-C or a polite kill into a checkpoint and an orderly end; a second one interrupts.

    A machine that is shut down or a job that runs out of its time sends the latter, SIGTERM.
    """
    trainer.add_callback(pace)

    def ask(_number: int, _frame: Any) -> None:
        if pace.asked:
            raise KeyboardInterrupt
        pace.asked = True

    before = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, ask)
    except ValueError:
        # Not the main thread: signals go elsewhere, training itself is unaffected.
        yield lambda: False
        return
    try:
        yield lambda: pace.asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
