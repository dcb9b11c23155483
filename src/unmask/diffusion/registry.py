"""A method from the names by which a recipe and a checkpoint know it."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from unmask.diffusion.formulation import (
    MAX_STEPS,
    AnyOrderFormulation,
    BlockFormulation,
    Formulation,
    LearnedFormulation,
    MaskedFormulation,
    PerTokenFormulation,
    UniformFormulation,
)
from unmask.diffusion.processes.absorbing import AbsorbingProcess
from unmask.diffusion.processes.absorbing_per_token import PerTokenProcess
from unmask.diffusion.processes.uniform import UniformProcess
from unmask.diffusion.schedules.continuous import SCHEDULES, make_schedule
from unmask.diffusion.schedules.per_token import LearnedExponents, spindle
from unmask.diffusion.schedules.tabulated import d3pm_cosine, mutual_information
from unmask.errors import UserError, did_you_mean

PROCESSES = ("absorbing", "uniform")
BY_TOKEN = ("spindle", "learned")
ON_GRID = ("d3pm-cosine", "mutual-information")
ATTENTION = ("full", "any-order")


def check_names(
    process: str,
    schedule: dict[str, Any],
    num_steps: int,
    cross_entropy_weight: float = 0.0,
    attention: str = "full",
    block_length: int = 0,
) -> None:
    """Raise a UserError unless these go together; values that need data are checked later."""
    _check_attention(attention, process, schedule, num_steps or cross_entropy_weight, block_length)
    if process not in PROCESSES:
        hint = (
            "; a Gaussian needs ordered values, and tokens have no order"
            if process == "gaussian"
            else did_you_mean(process, PROCESSES)
        )
        raise UserError(f"unknown process {process!r}{hint}")
    if not 0 <= num_steps <= MAX_STEPS:
        raise UserError(
            f"the bound needs 1 to {MAX_STEPS} steps, or 0 for continuous time: {num_steps}"
        )
    name = str(schedule["name"])
    if block_length and (process != "absorbing" or name in BY_TOKEN):
        raise UserError("blocks are for masks with one schedule for all tokens")
    if name in BY_TOKEN and process != "absorbing":
        raise UserError(f"the schedule {name!r} is for the absorbing process, not {process!r}")
    if name == "learned" and num_steps:
        raise UserError("a learned schedule is trained in continuous time; set num_steps to 0")
    if name in BY_TOKEN and not num_steps and cross_entropy_weight:
        raise UserError(
            f"with the schedule {name!r} the hybrid loss is one of steps; set objective.num_steps"
        )
    if name in ON_GRID and not num_steps:
        raise UserError(f"the schedule {name!r} belongs to a number of steps; set num_steps")
    known = (*SCHEDULES, *BY_TOKEN, *ON_GRID)
    if name not in known:
        raise UserError(f"unknown schedule {name!r}{did_you_mean(name, known)}")
    if name in SCHEDULES:
        make_schedule(**schedule)


def _check_attention(
    attention: str, process: str, schedule: dict[str, Any], terms: float, block_length: int
) -> None:
    if attention not in ATTENTION:
        raise UserError(f"unknown attention {attention!r}{did_you_mean(attention, ATTENTION)}")
    special = process != "absorbing" or schedule["name"] in (*BY_TOKEN, *ON_GRID)
    if attention == "any-order" and (special or terms or block_length):
        raise UserError(
            "attention 'any-order' goes with the absorbing process, one schedule for all tokens "
            "and the bound in continuous time"
        )


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
) -> Formulation:
    """Build a method from the names in a recipe or a checkpoint.

    Args:
        process: ``absorbing`` or ``uniform``.
        schedule: ``name`` and parameters.
        mask_token_id: The id of [MASK].
        vocab_size: Logits per position, V.
        data_ids: The ids that occur in data, shape (V',), int64.
        num_steps: T of the bound; 0 for continuous time.
        cross_entropy_weight: lambda of the hybrid loss, per step.
        counts: How often each id occurs in the training text, shape (V,); for the schedules that
            are made from it.
        learned: The exponents of the schedule ``learned``.
        attention: ``full``, or ``any-order`` for a network that sees what was written before.
        block_length: Tokens in a block; 0 for no blocks.
        interval: Of blocks, the times that training draws from.

    Raises:
        UserError: If a name is unknown, two do not go together, or the counts do not fit.
    """
    check_names(process, schedule, num_steps, cross_entropy_weight, attention, block_length)
    # In D3PM's code lambda stands beside one step of the bound, not beside all T.
    weight = cross_entropy_weight * max(num_steps, 1)
    parameters = {key: value for key, value in schedule.items() if key != "name"}
    name = str(schedule["name"])
    if name in BY_TOKEN:
        if name == "learned":
            if learned is None or learned.vocab_size != vocab_size:
                raise UserError("the exponents of the learned schedule do not fit the tokenizer")
            own: Any = learned
        else:
            own = _from_counts(counts, vocab_size, data_ids, parameters)
        by_token = PerTokenProcess(own, mask_token_id, counts)
        by = LearnedFormulation if name == "learned" else PerTokenFormulation
        return by(by_token, num_steps, weight)
    if name in ON_GRID:
        if parameters:
            raise UserError(f"schedule {name!r} takes no parameters but the number of steps")
        shared: Any = _on_grid(name, process, num_steps, counts, data_ids)
    else:
        shared = make_schedule(**schedule)
    if process == "uniform":
        return UniformFormulation(UniformProcess(shared, data_ids), num_steps, weight)
    masks = AbsorbingProcess(shared, mask_token_id)
    if attention == "any-order":
        return AnyOrderFormulation(masks)
    if block_length:
        return BlockFormulation(masks, num_steps, weight, block_length, interval)
    return MaskedFormulation(masks, num_steps, weight)


def _from_counts(
    counts: Tensor | None, vocab_size: int, data_ids: Tensor, parameters: dict[str, Any]
) -> Any:
    if counts is None:
        raise UserError("a spindle is made from word counts, and this checkpoint has none")
    try:
        return spindle(counts, vocab_size, data_ids, **parameters)
    except TypeError as error:
        raise UserError(f"schedule 'spindle' does not take {sorted(parameters)}") from error


def _on_grid(
    name: str, process: str, num_steps: int, counts: Tensor | None, data_ids: Tensor
) -> Any:
    if name == "d3pm-cosine":
        return d3pm_cosine(num_steps)
    if process == "absorbing":
        # A mask tells nothing, so the information left is the share still visible, 1 - t.
        return make_schedule("linear")
    if counts is None:
        raise UserError("this schedule is made from word counts, and this checkpoint has none")
    return mutual_information(counts[data_ids], num_steps)
