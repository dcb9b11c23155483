"""When a run validates and saves, and how it ends: by itself, by the clock, by Ctrl-C or by a kill.

Under a time budget, validation takes at most ``SHARE`` of the time that has passed, and saving as
much, whatever the recipe sets in steps. What is affordable is spread evenly.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from transformers import Trainer, TrainerCallback

from unmask.training.sections import TrainingSection

SHARE = 0.05
"""Largest share of a time budget for validation before the end, and for saving."""

TIMES = 10
"""Validations, and checkpoints, in a time budget whose steps are too slow for the recipe's."""


class Clock:
    """The time of a run since its first step.

    Args:
        seconds: Time budget; 0 for none.
        spent: Seconds that the run took before this process continued it.
        now: The present time in seconds.
    """

    def __init__(
        self,
        seconds: float = 0.0,
        spent: float = 0.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.budget = seconds
        self._now = now
        self._begun = now() - spent

    @property
    def elapsed(self) -> float:
        """Seconds since the run began, those before it was resumed included."""
        return self._now() - self._begun

    @property
    def progress(self) -> float:
        """Share of the budget that has passed, at most 1; 0 without a budget."""
        return min(self.elapsed / self.budget, 1.0) if self.budget else 0.0


class Allowance:
    """Decides when something that takes time may be done again under a time budget.

    Args:
        clock: The time of the run.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._begun = self._last = clock.elapsed
        self._cost = 0.0
        self._taken = 0.0

    def due(self, step: int, every: int) -> bool:
        """Return whether it is due, by steps or by the clock, and affordable.

        Args:
            step: Optimiser steps taken.
            every: Steps between two of them; 0 for never.
        """
        now = self._clock.elapsed
        wanted = every and (step % every == 0 or now - self._last >= self._clock.budget / TIMES)
        # A resumed run does not know what was spent before.
        return bool(wanted) and self._taken + self._cost <= SHARE * (now - self._begun)

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Count the time of the body."""
        begun = self._clock.elapsed
        try:
            yield
        finally:
            self._last = self._clock.elapsed
            self._cost = self._last - begun
            self._taken += self._cost


class Pace(TrainerCallback):
    """Tells the Trainer when to validate, to save, and to stop: on request, or when time is up.

    Args:
        clock: The time of the run and its budget.
        training: The recipe's section: steps between validations and between checkpoints.
    """

    def __init__(self, clock: Clock, training: TrainingSection) -> None:
        self.stop_requested = False
        self.clock = clock
        self.validating = Allowance(clock)
        self.saving = Allowance(clock)
        self._training = training
        self._rows: int | None = None
        self._steps = 0
        self._begun = clock.elapsed

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        training, step = self._training, state.global_step
        self._steps += 1
        if self.clock.budget:
            control.should_evaluate = self.validating.due(step, training.evaluate_every)
            control.should_save = self.saving.due(step, training.save_every)
        else:
            every = training.evaluate_every
            control.should_evaluate = bool(every) and step % every == 0
        if self.clock.budget and self.clock.progress >= 1:
            control.should_training_stop = True
        if self.stop_requested or control.should_training_stop:
            # First of all a checkpoint, from which the run can continue or be finished again.
            control.should_save = control.should_training_stop = True
            control.should_evaluate = False
        return control

    def validation_rows(self) -> int:
        """Return the number of validation rows, the same in all validations of a process.

        Under a time budget it is what ``SHARE`` of it pays for, and at least two. A row is assumed
        to cost as much as in training, which is an upper limit.
        """
        most = self._training.evaluation_rows
        if self._rows is None:
            self._rows = most
            if self.clock.budget and self._steps:
                trained = self._steps * self._training.batch_size
                trained *= self._training.gradient_accumulation
                seconds = (self.clock.elapsed - self._begun) / trained
                affordable = int(SHARE * self.clock.budget / max(seconds, 1e-9))
                self._rows = min(most, max(affordable, 2))
        return self._rows


@contextmanager
def stop_on_interrupt(trainer: Trainer, pace: Pace) -> Iterator[None]:
    """Turn Ctrl-C, SIGTERM or SIGHUP into a checkpoint and an orderly end.

    SIGTERM comes from a machine that shuts down or a job at its time limit, SIGHUP from a terminal
    that is closed; both may come more than once. A second Ctrl-C interrupts.
    """
    trainer.add_callback(pace)

    def request_stop(number: int, _frame: Any) -> None:
        if pace.stop_requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        pace.stop_requested = True

    before = {}
    # Only the main thread can handle signals; in others training runs without.
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, request_stop) for number in _polite()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _polite() -> list[signal.Signals]:
    """Return the signals that ask for an end, except a SIGHUP that ``nohup`` ignores."""
    numbers = [signal.SIGINT, signal.SIGTERM]
    hang_up = getattr(signal, "SIGHUP", None)
    if hang_up is not None and signal.getsignal(hang_up) != signal.SIG_IGN:
        numbers.append(hang_up)
    return numbers
