"""One run of a sampler: rows, network and options put together, checked, and timed.

What a network remembers while it writes belongs to one stretch of text: every stretch has a
denoiser of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from unmask.adapters.frozen import FrozenDenoiser
from unmask.canvas import Canvas, Frame
from unmask.codec.text import TextCodec
from unmask.denoiser import Denoiser
from unmask.errors import UserError
from unmask.method import Method, UniformMethod
from unmask.noise import Noise
from unmask.plan import Plan
from unmask.presets import Preset
from unmask.recording import Film
from unmask.sampler import sample
from unmask.sliding import slide
from unmask.steering import Steered, Steering

CACHES = ("exact", "off", "frozen")

Watch = Callable[[Frame, float], None]
"""Called with every frame and the seconds spent so far."""


@dataclass(frozen=True)
class Network:
    """What writes.

    Attributes:
        denoiser: The network.
        method: What it was trained by.
        codec: Its tokenizer.
        cache: One of ``CACHES``; see ``Unmasker``.
    """

    denoiser: Denoiser
    method: Method
    codec: TextCodec
    cache: str = "exact"

    def writing(self) -> Denoiser:
        """Return the denoiser of one run, with its cache.

        Raises:
            UserError: If a model of this kind has no such cache.
        """
        if self.cache != "frozen":
            return self.method.posterior_denoiser(self.denoiser, self.cache == "exact")
        if isinstance(self.method, UniformMethod):
            raise UserError("a frozen cache is for models that write on masks")
        return FrozenDenoiser(self.denoiser)


@dataclass(frozen=True)
class Run:
    """A network with the rows that it is to write and how; made by ``Run.of``.

    Attributes:
        network: What writes.
        preset: The sampler.
        steered: The rows, and what else their text has to be.
    """

    network: Network
    preset: Preset
    steered: Steered

    @classmethod
    def of(cls, network: Network, plan: Plan, preset: Preset, steering: Steering) -> Run:
        """Return a run of options that go together.

        Args:
            network: What writes.
            plan: The rows, on the network's device.
            preset: The sampler.
            steering: What else the text has to be.

        Raises:
            UserError: If two of the options contradict each other, or one has no effect here.
        """
        restriction, method = preset.restriction, network.method
        if restriction.repetition_penalty != 1 and isinstance(method, UniformMethod):
            raise UserError(
                "a model of the uniform process starts from a row full of random tokens, so there "
                "is no telling what is repeated; leave repetition_penalty out"
            )
        policy, _ = method.reverse(preset.policy)
        denoiser = restriction.around(network.writing(), network.codec.spellings)
        if plan.end is not None and (policy.revises or plan.end not in denoiser.data_ids):
            reason = "may change the end again" if policy.revises else "never writes an end symbol"
            raise UserError(f"this sampler {reason}, so stop_at_end has no effect; leave it out")
        return cls(network, preset, steering.steer(plan, network.codec, denoiser, method))

    @property
    def plan(self) -> Plan:
        """The rows that are written; of some lengths of a blank nothing may be possible."""
        return self.steered.plan

    def denoiser(self, canvas: Canvas) -> Denoiser:
        """Return a denoiser to write on a canvas with, guided first and restricted then."""
        guided = self.steered.guided(self.network.writing(), canvas)
        spell = self.network.codec.spellings
        return self.steered.within(self.preset.restriction.around(guided, spell))

    def frames(self) -> Iterator[Frame]:
        """Yield the canvas as it is given, and then as every step leaves it."""
        plan = self.plan
        return slide(self._write, plan.canvas, Noise(plan.seeds), plan.window, plan.end)

    def _write(self, canvas: Canvas, noise: Noise) -> Iterator[Frame]:
        policy, process = self.network.method.reverse(self.preset.policy)
        return sample(
            self.denoiser(canvas),
            process,
            self.network.method.start(canvas, noise),
            policy,
            self.preset.drawing,
            self.preset.times(int(canvas.masked.sum(1).max())),
            noise,
            end=self.plan.end,
            matching=self.steered.matching(canvas),
        )

    def film(self, watch: Watch | None = None) -> Film:
        """Write, and return the frames with the seconds spent until each.

        Args:
            watch: Called with every frame; what it takes is not counted.
        """
        film, spent = Film(), 0.0
        frames, begun = self.frames(), self.now()
        for frame in frames:
            spent += self.now() - begun
            film.add(frame, spent)
            if watch is not None:
                watch(frame, spent)
            begun = self.now()
        return film

    def now(self) -> float:
        """Return the time in seconds, when all work handed to the device is done."""
        device = self.plan.seeds.device
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()
