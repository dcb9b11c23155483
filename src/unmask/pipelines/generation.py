"""One run of a sampler: rows, network and options put together, checked, and timed.

What a network remembers while it writes belongs to one stretch of text: every stretch has a
denoiser of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import torch

from unmask.data.text import TextCodec
from unmask.diffusion.denoiser import BlockContext, Denoiser, uses_time
from unmask.diffusion.formulation import Formulation, PerTokenFormulation, UniformFormulation
from unmask.diffusion.rng import RowRng
from unmask.errors import UserError
from unmask.models.approximate_cache import FrozenDenoiser
from unmask.pipelines import rerank
from unmask.pipelines.control_options import Steered, Steering
from unmask.pipelines.prompts import Plan
from unmask.pipelines.recorder import Film
from unmask.sampling.blocks import sample_blocks
from unmask.sampling.canvas import Canvas, Frame
from unmask.sampling.logits_processors import Banned, Restriction
from unmask.sampling.memoize import Reused
from unmask.sampling.reverse import posterior_denoiser, reverse, start
from unmask.sampling.sampler import sample
from unmask.sampling.samplers.base import Sampler
from unmask.sampling.sliding_window import slide

CACHES = ("exact", "off", "frozen")

Watch = Callable[[Frame, float], None]
"""Called with every frame and the seconds spent so far."""


@dataclass(frozen=True)
class Network:
    """What writes.

    Attributes:
        denoiser: The network.
        formulation: What it was trained by.
        codec: Its tokenizer.
        cache: One of ``CACHES``; see ``Unmasker``.
        block_length: Tokens in a block, of a model that writes block by block; else 0.
        ends: Whether the network was trained on texts with the end symbol behind them.
    """

    denoiser: Denoiser
    formulation: Formulation
    codec: TextCodec
    cache: str = "exact"
    block_length: int = 0
    ends: bool = False

    def restricted(self, restriction: Restriction, ends: bool) -> Restriction:
        """Return a restriction that also keeps symbols from being written.

        Args:
            restriction: What is asked for.
            ends: Whether an end symbol is asked for.

        Raises:
            UserError: If it asks for a symbol that there is none of.
        """
        possible = self.denoiser.data_ids.tolist()
        restriction = restriction.without(self.codec.symbols, possible)
        ends, end = ends or self.ends, self.codec.end
        kept = (i for i in restriction.symbols if not (ends and i == end))
        return replace(restriction, symbols=tuple(kept))

    @property
    def tokenwise(self) -> bool:
        """Whether every token has its own schedule, and the network is told the time."""
        return isinstance(self.formulation, PerTokenFormulation) and uses_time(self.denoiser)

    def writing(self) -> Denoiser:
        """Return the denoiser of one run, with its cache.

        Raises:
            UserError: If a model of this kind has no such cache.
        """
        if self.cache != "frozen":
            return posterior_denoiser(self.formulation, self.denoiser, self.cache == "exact")
        if isinstance(self.formulation, UniformFormulation) or self.block_length:
            raise UserError(
                "a frozen cache is for models that write anywhere, on masks; choose another cache"
            )
        return FrozenDenoiser(self.denoiser)


@dataclass(frozen=True)
class Run:
    """A network with the rows that it is to write and how; made by ``Run.of``.

    Attributes:
        network: What writes.
        sampler: Which positions and which tokens.
        restriction: Which tokens are never generated, special symbols included.
        steered: The rows, and what else their text has to be.
        nfe: Network calls before the first step.
        seconds: Time that they took.
    """

    network: Network
    sampler: Sampler
    restriction: Restriction
    steered: Steered
    nfe: int = 0
    seconds: float = 0.0

    @classmethod
    def of(cls, network: Network, plan: Plan, sampler: Sampler, steering: Steering) -> Run:
        """Return a run of options that go together.

        Args:
            network: What writes.
            plan: The rows, on the network's device.
            sampler: Which positions and which tokens.
            steering: What else the text has to be.

        Raises:
            UserError: If two of the options contradict each other, or one has no effect here.
        """
        formulation = network.formulation
        restriction = network.restricted(sampler.restriction, ends=plan.end is not None)
        if restriction.repetition_penalty != 1 and isinstance(formulation, UniformFormulation):
            raise UserError(
                "a model of the uniform process starts from a row full of random tokens, so there "
                "is no telling what is repeated; leave repetition_penalty out"
            )
        if network.block_length:
            _check_blocks(network, restriction, plan, steering)
        _check_seam(network, restriction, plan)
        policy, _ = reverse(formulation, sampler.policy)
        denoiser = restriction.around(network.writing(), network.codec.spellings)
        if plan.end is not None and (policy.revises or plan.end not in denoiser.data_ids):
            reason = "may change the end again" if policy.revises else "never writes an end symbol"
            raise UserError(f"this sampler {reason}, so stop_at_end has no effect; leave it out")
        phrases = restriction.phrases(network.codec.spellings)
        return cls(
            network,
            sampler,
            restriction,
            steering.steer(plan, network.codec, denoiser, formulation, phrases),
        )

    @property
    def plan(self) -> Plan:
        """The rows that can be written; one for each text after ``with_lengths``."""
        return self.steered.plan

    def with_lengths(self, rule: str | None = None) -> Run:
        """Return the run in which every blank has one length; see ``pipelines.rerank``.

        Args:
            rule: ``sample`` or ``likeliest``; None for the first of them.

        Raises:
            UserError: If a rule is given where no length is open, or the model cannot choose.
        """
        network, plan, begun = self.network, self.plan, self.now()
        rerank.check_choice(plan, network.formulation, rule)
        nats, nfe = rerank.given_nats(
            plan, len(network.codec.start), network.denoiser, network.formulation
        )
        kept = rerank.choose_rows(plan, nats, rule or "sample")
        return replace(self, steered=self.steered.chosen(kept), nfe=nfe, seconds=self.now() - begun)

    def denoiser(self, canvas: Canvas) -> Denoiser:
        """Return a denoiser to write on a canvas with, guided first and restricted then."""
        spell, restriction = self.network.codec.spellings, self.restriction
        writing = self.network.writing()
        if self.steered.picks:
            # What is banned is no candidate. The penalty, which is a matter of degree, comes later.
            writing = replace(restriction, repetition_penalty=1.0).around(writing, spell)
        # Within a blank that has to match, the automaton knows the banned phrases as well.
        watched = canvas.masked if self.steered.automata else None
        guided = self.steered.guided(writing, canvas, self.network.tokenwise)
        restricted = restriction.around(guided, spell, watched)
        early = canvas.editable & canvas.before_given()
        if bool(early.any()) and (ends := self._ends) is not None:
            restricted = Banned(restricted, torch.tensor([ends]), early)
        return self.steered.within(restricted)

    @property
    def _ends(self) -> int | None:
        """The end symbol if it may only be written where no given text follows, else None."""
        codec, unban = self.network.codec, self.restriction.unban
        return None if codec.end is None or codec.symbols.get(codec.end) in unban else codec.end

    def frames(self) -> Iterator[Frame]:
        """Yield the canvas as it is given, and then as every step leaves it."""
        plan, rng = self.plan, RowRng(self.plan.seeds)
        if not self.network.block_length:
            return slide(self._write, plan.canvas, rng, plan.window, plan.end)
        return self._blocks(plan.canvas, rng)

    def _blocks(self, canvas: Canvas, rng: RowRng) -> Iterator[Frame]:
        network, context = self.network, self.network.writing()
        restricted = self.restriction.around(context, network.codec.spellings)
        # A row must not be paced by the masks of its neighbours, so a block counts as all masks.
        write = partial(self._sample, restricted, network.block_length)
        return sample_blocks(
            cast(BlockContext, context),
            canvas,
            rng,
            network.block_length,
            write,
            network.codec.end,
        )

    def _write(self, canvas: Canvas, rng: RowRng) -> Iterator[Frame]:
        return self._sample(
            self.denoiser(canvas),
            int(canvas.masked.sum(1).max()),
            canvas,
            rng,
            end=self.plan.end,
            matching=self.steered.matching(canvas),
        )

    def _sample(
        self, denoiser: Denoiser, masks: int, canvas: Canvas, rng: RowRng, **options: Any
    ) -> Iterator[Frame]:
        policy, process = reverse(self.network.formulation, self.sampler.policy)
        if policy.asks_again and self.network.cache == "exact" and not uses_time(denoiser):
            denoiser = Reused(denoiser)
        return sample(
            denoiser,
            process,
            start(self.network.formulation, canvas, rng),
            policy,
            self.sampler.drawing,
            self.sampler.times(masks),
            rng,
            **options,
        )

    def film(self, watch: Watch | None = None) -> Film:
        """Write, and return the frames with the seconds spent until each, ``seconds`` included.

        Args:
            watch: Called with every frame; what it takes is not counted.
        """
        film, spent = Film(), self.seconds
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


def _check_seam(network: Network, restriction: Restriction, plan: Plan) -> None:
    """Raise a UserError for a ban that is too long to be seen where one stretch meets the next."""
    if plan.window is None or not plan.slides:
        return
    seen = plan.window.size - plan.window.start - plan.window.stride
    for text in restriction.ban:
        longest = max(map(len, network.codec.spellings(text)))
        if longest > seen + 1:
            raise UserError(
                f"the ban of {text!r} is {longest} tokens, but a stretch sees only {seen} of those "
                "before it, so that it could be written across two; set a smaller stride"
            )


def _check_blocks(
    network: Network, restriction: Restriction, plan: Plan, steering: Steering
) -> None:
    """Raise a UserError for what needs a view of the whole row, or is done in any case."""
    where = "a model of blocks"
    if plan.end is not None:
        raise UserError(f"{where} always stops at an end symbol; leave stop_at_end out")
    if steering.settings:
        raise UserError(f"{where} cannot be steered; leave {next(iter(steering.settings))} out")
    spelled = (ids for text in restriction.ban for ids in network.codec.spellings(text))
    if restriction.repetition_penalty != 1 or any(len(ids) > 1 for ids in spelled):
        raise UserError(
            f"{where} is restricted block by block, so that it can be banned from single tokens "
            "only; leave the repetition penalty and longer bans out"
        )
