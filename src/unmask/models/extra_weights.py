"""Weights of a model beyond its Hugging Face checkpoint: time conditioning, schedule, token counts.

During training they are submodules of the model, so that the Trainer optimises, moves and
checkpoints them. A finished checkpoint has them in ``unmask.safetensors``; the ordinary files stay
readable by plain transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from unmask.data.pixels import PixelCodec
from unmask.diffusion.capabilities import TIMED, Kind
from unmask.diffusion.formulation import LearnedFormulation
from unmask.diffusion.schedules.per_token import LearnedExponents
from unmask.errors import UserError, explained
from unmask.models import ordered_attention, pixel_positions, pixel_unet
from unmask.models.any_order import check_order
from unmask.models.time_conditioning import NAME, attach, conditioning_of, split_state
from unmask.models.traits import traits_of

SCHEDULE = "unmask_schedule"
COUNTS = f"{SCHEDULE}.counts"


def equip(
    model: PreTrainedModel,
    time: str,
    schedule: Mapping[str, Any],
    attention: str = "full",
    images: Mapping[str, Any] | None = None,
) -> None:
    """Add the time conditioning, schedule, attention and positions in a picture to a model.

    Args:
        model: A masked language model, bare.
        time: One of ``time_conditioning.DESIGNS``.
        schedule: Name and parameters; only ``learned`` has weights.
        attention: One of ``diffusion.formulation.ATTENTION``.
        images: The images that it is for, see ``checkpoint.Card``; empty or None for texts.

    Raises:
        UserError: If the model lacks what the conditioning or the attention needs.
    """
    if images and model.config.model_type != pixel_unet.TYPE:
        pixel_positions.attach(model, PixelCodec(**images))
    if attention == "any-order":
        ordered_attention.attach(model)
        check_order(model)
    if attach(model, time) is not None:
        what = f"{type(model).__name__} does not run with the time conditioning {time!r}"
        with explained(what, "choose another model.time", (UserError,), keep=()):
            traits_of(model)
    if schedule["name"] != "learned":
        return
    parameters = {key: value for key, value in schedule.items() if key != "name"}
    vocab_size = traits_of(model).vocab_size
    with explained("the schedule 'learned' does not take its parameters", kinds=(TypeError,)):
        learned = LearnedExponents(vocab_size, **parameters)
    model.add_module(SCHEDULE, learned.to(model.device))


def kinds_of(model: PreTrainedModel) -> list[Kind]:
    """Return the kinds that a model is of by its extra weights; see ``diffusion.capabilities``."""
    own = ((conditioning_of(model), TIMED), (learned_of(model), LearnedFormulation))
    return [kind for part, kind in own if part is not None]


def learned_of(model: PreTrainedModel) -> LearnedExponents | None:
    """Return the trainable schedule of a model, None if it has none."""
    return getattr(model, SCHEDULE, None)


def restore(model: PreTrainedModel, extra: Mapping[str, Tensor], name: str) -> Tensor | None:
    """Load extra weights into an equipped model; return the token counts, if there are any.

    Raises:
        UserError: If a weight is missing or does not fit.
    """
    wanted = split_state(model.state_dict())[1]
    given = {key: value for key, value in extra.items() if key != COUNTS}
    if wanted.keys() != given.keys() or any(wanted[k].shape != given[k].shape for k in wanted):
        raise UserError(
            f"the extra weights of {name} do not match its card: "
            f"{len(given)} tensors in unmask.safetensors, {len(wanted)} needed; "
            "train or save the model again"
        )
    model.load_state_dict(given, strict=False)
    return extra.get(COUNTS)


def extra_state(model: PreTrainedModel, counts: Tensor | None) -> dict[str, Tensor]:
    """Return a copy of all extra weights of a model in full precision, and the token counts."""
    own = {key: value.detach().clone() for key, value in split_state(model.state_dict())[1].items()}
    return own if counts is None else own | {COUNTS: counts}


def ordinary_state(model: PreTrainedModel) -> dict[str, Tensor]:
    """Return the weights of the plain Hugging Face checkpoint."""
    return split_state(model.state_dict())[0]


def plain(model: PreTrainedModel) -> PreTrainedModel:
    """Remove the modules added by ``equip``, so the model saves as a plain checkpoint; return it.

    The hooks stay and refuse to run without a time, so the model can no longer be called.
    """
    for part in (NAME, SCHEDULE, pixel_positions.NAME):
        if hasattr(model, part):
            delattr(model, part)
    return model
