"""Build a formulation from the names in a recipe or a checkpoint.

The noise schedules are ``SCHEDULES``, in continuous time, which need nothing, and
``NOISE_SCHEDULES``, whose entries state what a schedule on a grid or per token needs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unmask.diffusion.formulation import (
    STEPS,
    AnyOrderFormulation,
    BlockFormulation,
    Formulation,
    GaussianFormulation,
    LearnedFormulation,
    MaskedFormulation,
    PerTokenFormulation,
    UniformFormulation,
)
from unmask.diffusion.processes.absorbing import AbsorbingProcess
from unmask.diffusion.processes.absorbing_per_token import PerTokenProcess
from unmask.diffusion.processes.gaussian import GaussianProcess
from unmask.diffusion.processes.uniform import UniformProcess
from unmask.diffusion.schedules.continuous import SCHEDULES, make_schedule
from unmask.diffusion.schedules.per_token import LearnedExponents, spindle
from unmask.diffusion.schedules.tabulated import LinearBeta, d3pm_cosine, mutual_information
from unmask.errors import UserError, did_you_mean
from unmask.validation import read_options, require

TOKEN_PROCESSES = ("absorbing", "uniform")
"""Forward processes for values without an order, such as tokens."""
PROCESSES = (*TOKEN_PROCESSES, "gaussian")
ATTENTION = ("full", "any-order")


@dataclass(frozen=True)
class Inputs:
    """What a noise schedule may be made from.

    Attributes:
        process: Name of the forward process.
        num_steps: T of the bound; 0 for continuous time.
        vocab_size: Logits per position, V.
        data_ids: The ids that occur in data, shape (V',), int64.
        counts: Occurrences of each id in the training text, shape (V,).
        learned: The exponents of a learned schedule.
    """

    process: str
    num_steps: int
    vocab_size: int
    data_ids: Tensor
    counts: Tensor | None
    learned: LearnedExponents | None

    @property
    def known_counts(self) -> Tensor:
        """The counts.

        Raises:
            UserError: If there are none.
        """
        if self.counts is None:
            raise UserError("this schedule is made from word counts, and this checkpoint has none")
        return self.counts


@dataclass(frozen=True)
class NoiseSchedule:
    """A noise schedule by name, and what it needs.

    Attributes:
        make: Makes it from the inputs and its parameters by name.
        processes: Forward processes that it is defined for.
        steps: True if it is defined on a grid of T steps, False if in continuous time, None if it
            is in both.
        counts: Whether the counts of the training text belong to it.
        per_token: Formulation of a schedule that differs between tokens; None for one schedule for
            all of them.
    """

    make: Callable[..., Any]
    processes: tuple[str, ...] = TOKEN_PROCESSES
    steps: bool | None = None
    counts: bool = False
    per_token: type[PerTokenFormulation | LearnedFormulation] | None = None


def _linear_beta(**parameters: float) -> LinearBeta:
    return LinearBeta(**read_options(LinearBeta.options(), parameters, "linear-beta schedule"))


def _betas(inputs: Inputs, **parameters: float) -> Tensor:
    levels = len(inputs.data_ids)
    if not torch.equal(inputs.data_ids.cpu(), torch.arange(levels)):
        raise UserError("Gaussian noise needs data whose ids are the levels 0, 1, 2, ... in order")
    betas = _linear_beta(**parameters).betas(inputs.num_steps, levels)
    return betas.to(inputs.data_ids.device)


def _spindle(inputs: Inputs, **parameters: Any) -> Any:
    return spindle(inputs.known_counts, inputs.vocab_size, inputs.data_ids, **parameters)


def _learned(inputs: Inputs, **_: Any) -> LearnedExponents:
    if inputs.learned is None or inputs.learned.vocab_size != inputs.vocab_size:
        raise UserError("the exponents of the learned schedule do not fit the tokenizer")
    return inputs.learned


def _mutual_information(inputs: Inputs) -> Any:
    if inputs.process == "absorbing":
        # A mask tells nothing, so the information left is the share of visible tokens, 1 - t.
        return make_schedule("linear")
    return mutual_information(inputs.known_counts[inputs.data_ids], inputs.num_steps)


NOISE_SCHEDULES = {
    "d3pm-cosine": NoiseSchedule(lambda inputs: d3pm_cosine(inputs.num_steps), steps=True),
    "mutual-information": NoiseSchedule(_mutual_information, steps=True, counts=True),
    "linear-beta": NoiseSchedule(_betas, processes=("gaussian",), steps=True),
    "spindle": NoiseSchedule(
        _spindle, processes=("absorbing",), counts=True, per_token=PerTokenFormulation
    ),
    "learned": NoiseSchedule(
        _learned,
        processes=("absorbing",),
        steps=False,
        counts=True,
        per_token=LearnedFormulation,
    ),
}


def noise_schedule(name: str) -> NoiseSchedule:
    """Return what makes a noise schedule, and what it needs."""
    if name in SCHEDULES:
        return NoiseSchedule(lambda _, **parameters: make_schedule(name, **parameters))
    return NOISE_SCHEDULES[name]


def check_names(
    process: str,
    schedule: dict[str, Any],
    num_steps: int,
    cross_entropy_weight: float = 0.0,
    attention: str = "full",
    block_length: int = 0,
    ordered: bool = False,
) -> None:
    """Raise a UserError unless these go together; values that need data are checked later.

    The arguments are those of ``make_formulation``.
    """
    name = str(schedule["name"])
    for what, word, known in (
        ("process", process, PROCESSES if ordered else TOKEN_PROCESSES),
        ("schedule", name, (*SCHEDULES, *NOISE_SCHEDULES)),
        ("attention", attention, ATTENTION),
    ):
        if word not in known:
            no_order = "; a Gaussian needs ordered values, and tokens have no order"
            hint = no_order if word == "gaussian" else did_you_mean(word, known)
            raise UserError(f"unknown {what} {word!r}{hint}")
    if num_steps:
        STEPS("num_steps", num_steps)
    entry = noise_schedule(name)
    masks_alike = process == "absorbing" and not entry.per_token
    continuous = not (num_steps or cross_entropy_weight or entry.steps)
    grid = "a number of steps; set num_steps" if entry.steps else "continuous time: num_steps = 0"
    require(
        (
            "attention 'any-order'",
            attention == "full" or (masks_alike and continuous and not block_length),
            "the absorbing process, one schedule for all tokens and the bound in continuous time",
        ),
        (
            "block_length",
            masks_alike or not block_length,
            "the absorbing process and one schedule for all tokens",
        ),
        (
            f"the schedule {name!r}",
            process in entry.processes,
            f"the {' or '.join(entry.processes)} process",
        ),
        (f"the schedule {name!r}", entry.steps in (None, num_steps > 0), grid),
        (
            f"the hybrid loss with the schedule {name!r}",
            num_steps or not (entry.per_token and cross_entropy_weight),
            "a number of steps; set objective.num_steps",
        ),
    )
    if name in SCHEDULES:
        make_schedule(**schedule)
    if name == "linear-beta":
        _linear_beta(**_parameters(schedule))


def _parameters(schedule: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in schedule.items() if key != "name"}


def make_formulation(
    process: str,
    schedule: dict[str, Any],
    *,
    mask_token_id: int,
    vocab_size: int,
    data_ids: Tensor,
    num_steps: int = 0,
    cross_entropy_weight: float = 0.0,
    counts: Tensor | None = None,
    learned: LearnedExponents | None = None,
    attention: str = "full",
    block_length: int = 0,
    interval: tuple[float, float] = (0.0, 1.0),
    ordered: bool = False,
) -> Formulation:
    """Build a formulation from the names in a recipe or a checkpoint.

    Args:
        process: ``absorbing`` or ``uniform``; ``gaussian`` for ordered values.
        schedule: ``name`` and parameters.
        mask_token_id: The id of [MASK].
        vocab_size: Logits per position, V.
        data_ids: The ids that occur in data, shape (V',), int64.
        num_steps: T of the bound; 0 for continuous time.
        cross_entropy_weight: lambda of the hybrid loss, per step.
        counts: Occurrences of each id in the training text, shape (V,); for the schedules that
            need them.
        learned: The exponents of the schedule ``learned``.
        attention: ``full``, or ``any-order`` where a token attends to those before it in a random
            order.
        block_length: Tokens in a block; 0 for no blocks.
        interval: Times between which training draws those of a block.
        ordered: Whether the data ids are levels in order, such as those of pixels.

    Raises:
        UserError: If a name is unknown, two do not go together, or the counts do not fit.
    """
    check_names(
        process, schedule, num_steps, cross_entropy_weight, attention, block_length, ordered
    )
    # In D3PM's code lambda weights one step of the bound, not all T.
    weight = cross_entropy_weight * max(num_steps, 1)
    entry = noise_schedule(str(schedule["name"]))
    inputs = Inputs(process, num_steps, vocab_size, data_ids, counts, learned)
    own = _made(entry, inputs, schedule)
    if entry.per_token:
        return entry.per_token(PerTokenProcess(own, mask_token_id, counts), num_steps, weight)
    if process == "uniform":
        return UniformFormulation(UniformProcess(own, data_ids), num_steps, weight)
    if process == "gaussian":
        return GaussianFormulation(GaussianProcess(own, len(data_ids)), num_steps, weight)
    masks = AbsorbingProcess(own, mask_token_id)
    if attention == "any-order":
        return AnyOrderFormulation(masks)
    if block_length:
        return BlockFormulation(masks, num_steps, weight, block_length, interval)
    return MaskedFormulation(masks, num_steps, weight)


def _made(entry: NoiseSchedule, inputs: Inputs, schedule: dict[str, Any]) -> Any:
    """Return a noise schedule with its parameters."""
    parameters = _parameters(schedule)
    try:
        return entry.make(inputs, **parameters)
    except TypeError as error:
        raise UserError(
            f"schedule {schedule['name']!r} does not take {sorted(parameters)}"
        ) from error
