"""What a model here has beside its Hugging Face weights: time conditioning, schedule, word counts.

All of it hangs on the model as submodules while it is trained, so that the Trainer optimises, moves
and checkpoints it; a finished checkpoint keeps it apart in ``unmask.safetensors``, and the ordinary
files stay what plain transformers reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from unmask.diffusion.schedules.per_token import LearnedExponents
from unmask.errors import UserError
from unmask.models import ordered_attention
from unmask.models.any_order import check_order
from unmask.models.time_conditioning import NAME, attach, split_state
from unmask.models.traits import traits_of

SCHEDULE = "unmask_schedule"
COUNTS = f"{SCHEDULE}.counts"


def equip(
    model: PreTrainedModel, time: str, schedule: Mapping[str, Any], attention: str = "full"
) -> None:
    """Give a model the time conditioning, schedule and attention that a method needs.

    Args:
        model: A masked language model, bare.
        time: One of ``conditioning.DESIGNS``.
        schedule: Name and parameters; only ``learned`` has weights of its own.
        attention: One of ``diffusion.formulation.ATTENTION``.

    Raises:
        UserError: If the model does not have what the conditioning or the attention needs.
    """
    if attention == "any-order":
        ordered_attention.attach(model)
        check_order(model)
    if attach(model, time) is not None:
        _check_time(model, time)
    if schedule["name"] != "learned":
        return
    parameters = {key: value for key, value in schedule.items() if key != "name"}
    vocab_size = traits_of(model).vocab_size
    try:
        learned = LearnedExponents(vocab_size, **parameters)
    except TypeError as error:
        raise UserError(f"schedule 'learned' does not take {sorted(parameters)}") from error
    model.add_module(SCHEDULE, learned.to(model.device))


def _check_time(model: PreTrainedModel, time: str) -> None:
    """Refuse a time conditioning with which a network does not run, though it has the parts."""
    try:
        traits_of(model)
    except UserError as error:
        raise UserError(
            f"{type(model).__name__} does not run with the time conditioning {time!r}; choose "
            f"another model.time ({error})"
        ) from error


def learned_of(model: PreTrainedModel) -> LearnedExponents | None:
    """Return the trainable schedule of a model, None if it has none."""
    return getattr(model, SCHEDULE, None)


def restore(model: PreTrainedModel, extra: Mapping[str, Tensor], name: str) -> Tensor | None:
    """Load extra weights into an equipped model and return the word counts, if there are any.

    Raises:
        UserError: If a weight is missing or does not fit.
    """
    wanted = split_state(model.state_dict())[1]
    given = {key: value for key, value in extra.items() if key != COUNTS}
    if wanted.keys() != given.keys() or any(wanted[k].shape != given[k].shape for k in wanted):
        raise UserError(
            f"the extra weights of {name} are not those that its card asks for: "
            f"{len(given)} tensors in unmask.safetensors, {len(wanted)} needed; "
            "train or save the model again"
        )
    model.load_state_dict(given, strict=False)
    return extra.get(COUNTS)


def beside(model: PreTrainedModel, counts: Tensor | None) -> dict[str, Tensor]:
    """Return a copy of all extra weights of a model in full precision, with the word counts."""
    own = {key: value.detach().clone() for key, value in split_state(model.state_dict())[1].items()}
    return own if counts is None else own | {COUNTS: counts}


def ordinary_state(model: PreTrainedModel) -> dict[str, Tensor]:
    """Return the weights that plain transformers knows."""
    return split_state(model.state_dict())[0]


def plain(model: PreTrainedModel) -> PreTrainedModel:
    """Take off a model what ``equip`` gave it, once it is trained, and return the model.

    Its hooks stay and refuse to run without a time: this is for saving, not for calling.
    """
    for part in (NAME, SCHEDULE):
        if hasattr(model, part):
            delattr(model, part)
    return model
