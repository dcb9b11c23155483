"""Samplers by name: grid x policy x draw, with the defaults of the paper that proposed each.

The papers are in the docstrings of the policies, and in ``docs/samplers.md``.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from unmask.diffusion.schedules.grids import GRIDS, given_grid, time_grid
from unmask.errors import UserError, did_you_mean
from unmask.sampling.logits_processors import Restriction
from unmask.sampling.policies.base import Policy
from unmask.sampling.policies.confidence import (
    DRAWN,
    EntropyBound,
    Factor,
    MostConfident,
    Threshold,
)
from unmask.sampling.policies.fixed_order import FirstHitting, LeftToRight, RandomOrder, RandomQuota
from unmask.sampling.policies.gibbs import Gibbs
from unmask.sampling.policies.remasking import (
    Capped,
    ForwardBackward,
    LeastSure,
    Loop,
    NextRate,
    Remask,
    Renoise,
    Rescaled,
)
from unmask.sampling.policies.self_correction import Edited, Planned
from unmask.sampling.token_sampling import BurnIn, Draw
from unmask.validation import real, whole, word, words

MAX_STEPS = 100_000
FILTERS: dict[str, Any] = {"top_k": None, "top_p": 1.0, "min_p": 0.0, "top_p_crossing": "keep"}
"""What keeps tokens out of a draw, with the values that let all in."""


def has_filters(said: Mapping[str, Any]) -> bool:
    """Return whether some options, or the fields of a draw, keep tokens out."""
    return any(said.get(key, off) != off for key, off in FILTERS.items())


@dataclass(frozen=True)
class Preset:
    """A named sampler.

    Attributes:
        policy: Which positions.
        draw: Which token.
        steps: Default number of steps; None takes as many as the policy needs.
        grid: ``uniform``, ``cosine``, or the times themselves, of which there are steps + 1.
        burn_in: Steps at the beginning that draw without top-k and top-p.
        restriction: What is not written, or less willingly.
    """

    policy: Policy
    draw: Draw
    steps: int | None
    grid: str | tuple[float, ...] = "uniform"
    burn_in: int = 0
    restriction: Restriction = field(default_factory=Restriction)

    @property
    def drawing(self) -> Draw | BurnIn:
        """Which token, step by step."""
        if not self.burn_in:
            return self.draw
        return BurnIn(self.burn_in, Draw(self.draw.temperature), self.draw)

    def times(self, masks: int) -> Tensor:
        """Return the time grid for a canvas whose fullest row has this many masks."""
        if isinstance(self.grid, tuple):
            return given_grid(self.grid)
        return time_grid(max(self.steps or self.policy.most_steps(masks), 1), self.grid)


_GREEDY = Draw(greedy=True)
_SURE = MostConfident("confidence", tokens_per_step=1, rule=Threshold(0.9))

PRESETS: dict[str, Preset] = {
    "ancestral": Preset(RandomOrder(), Draw(), steps=64, grid="cosine"),
    "random": Preset(RandomQuota(), Draw(), steps=64),
    "first-hitting": Preset(FirstHitting(), Draw(), steps=None),
    "left-to-right": Preset(LeftToRight(), Draw(), steps=None),
    "threshold": Preset(
        MostConfident(tokens_per_step=1, rule=Threshold(0.9)),
        Draw(temperature=0.8, greedy=True),
        steps=None,
    ),
    "maskgit": Preset(MostConfident(), Draw(), steps=32),
    "fast-dllm-factor": Preset(
        MostConfident("confidence", tokens_per_step=1, rule=Factor(1.0)), _GREEDY, steps=None
    ),
    "entropy-bound": Preset(
        MostConfident("entropy", tokens_per_step=1, rule=EntropyBound(0.1)), Draw(), steps=None
    ),
    "refine": Preset(Renoise(), Draw(top_k=50, top_p=0.95), steps=10),
    "remdm-cap": Preset(Remask(Capped(0.008)), Draw(top_p=0.9), steps=128),
    "remdm-rescale": Preset(Remask(Rescaled(0.015)), Draw(top_p=0.9), steps=128),
    "remdm-conf": Preset(Remask(LeastSure()), Draw(top_p=0.9), steps=128),
    "remdm-loop": Preset(Remask(Loop(0.02)), Draw(top_p=0.9), steps=128),
    "remdm-next-rate": Preset(Remask(NextRate()), Draw(top_k=50, top_p=0.95), steps=10),
    "forward-backward": Preset(Remask(ForwardBackward()), Draw(top_p=0.9), steps=128),
    "p2": Preset(Planned(), Draw(), steps=64),
    "threshold-edit": Preset(Edited(_SURE), _GREEDY, steps=None),
    "gibbs": Preset(Gibbs(), Draw(top_k=100), steps=500, burn_in=250),
    "gibbs-sequential": Preset(Gibbs(sequential=True), Draw(top_k=100), steps=500, burn_in=250),
}

# Options of the samplers whose policy, or a part of it, has a field of that name.
POLICY_OPTIONS = (
    "tokens_per_step",
    "confidence_metric",
    "threshold",
    "factor",
    "gamma",
    "eta",
    "edit_threshold",
    "alg_temperature",
)


def option_names() -> set[str]:
    """Return the names of all options of ``make_preset``."""
    return set(_READERS)


def read_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of ``make_preset`` that are not None, in Python's own types.

    Raises:
        UserError: If there is no such option, or one is no number or text where it has to be.
    """
    said = {key: value for key, value in options.items() if value is not None}
    for key in said:
        if key not in _READERS:
            raise UserError(f"there is no sampler option {key!r}{did_you_mean(key, _READERS)}")
    return {key: _READERS[key](key, value) for key, value in said.items()}


def make_preset(
    name: str,
    *,
    steps: int | None = None,
    grid: str | Sequence[float] | None = None,
    tokens_per_step: int | None = None,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    top_p_crossing: str | None = None,
    min_p: float | None = None,
    confidence_metric: str | None = None,
    threshold: float | None = None,
    factor: float | None = None,
    gamma: float | None = None,
    eta: float | None = None,
    edit_threshold: float | None = None,
    alg_temperature: float | None = None,
    burn_in: int | None = None,
    repetition_penalty: float | None = None,
    ban: str | Sequence[str] | None = None,
    unban: str | Sequence[str] | None = None,
) -> Preset:
    """Return a named sampler with some of its numbers changed.

    Args:
        name: A key of ``PRESETS``.
        steps: Number of steps. A sampler that by itself takes as many as there are masks takes at
            most so many: each of them writes at least what is needed to finish in time.
        grid: ``uniform``, ``cosine``, or times from 1 down to 0, as numbers or as in "1,0.5,0";
            a list of times has steps of its own.
        tokens_per_step: How many tokens a step writes, or at least writes, instead of ``steps``.
        temperature: Divides the logits; 0 takes the most likely token.
        top_k: Draw among the k most likely tokens.
        top_p: Draw among the likeliest tokens that together hold this much probability.
        top_p_crossing: ``keep`` or ``drop``, what top-p does with the token that crosses p.
        min_p: Draw among the tokens at least this many times as likely as the likeliest.
        confidence_metric: What orders by confidence go by: ``drawn``, ``confidence``,
            ``margin`` or ``entropy``; see ``MostConfident``.
        threshold: The probability at which a token is revealed at once; see ``Threshold``.
        factor: How many tokens at once, by how sure they are together; see ``Factor``.
        gamma: The entropy that a step may write, in nats; see ``EntropyBound``.
        eta: How much is hidden again; see ``Capped``, ``Rescaled``, ``Loop`` and ``Planned``.
        edit_threshold: The probability below which a written token is hidden again; see ``Edited``.
        alg_temperature: How random ``maskgit``'s order is; see ``MostConfident``.
        burn_in: For ``gibbs``, how many steps draw among all tokens at first; half of the steps if
            only these are given.
        repetition_penalty: Above 1, tokens that the row shows already become less likely.
        ban: Texts that are never written.
        unban: Names of symbols that may be written, such as ``<unk>``: by itself no sampler writes
            an unknown, padding, start, separator or other special symbol, and the end symbol only
            where it ends the text of a model that was trained to end texts.

    Raises:
        UserError: If the name is unknown, a number is out of range, two options contradict each
            other, or one has no effect on this sampler.
    """
    if not isinstance(name, str) or name not in PRESETS:
        raise UserError(f"unknown sampler {name!r}{did_you_mean(name, PRESETS)}")
    preset = PRESETS[name]
    own = (
        tokens_per_step,
        confidence_metric,
        threshold,
        factor,
        gamma,
        eta,
        edit_threshold,
        alg_temperature,
    )
    for option, value in zip(POLICY_OPTIONS, own, strict=True):
        if value is not None:
            preset = _with_option(name, preset, option, value)
    if tokens_per_step is not None and (steps is not None or grid is not None):
        said = "steps" if steps is not None else "a grid"
        raise UserError(f"{said} and tokens per step both set the pace; leave one out")
    if steps is not None:
        preset = _with_steps(preset, steps)
    if grid is not None:
        preset = _with_grid(name, preset, _read_grid(grid), steps)
    preset = _with_burn_in(name, preset, burn_in)
    preset = replace(preset, restriction=Restriction.of(repetition_penalty, ban, unban))
    draw = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}
    return _with_draw(name, preset, burn_in, **draw, top_p_crossing=top_p_crossing)


def _grid_of(name: str, value: Any) -> str | tuple[float, ...]:
    """Return the name of a grid, or its times."""
    return _read_grid(value)


_READERS: dict[str, Callable[[str, Any], Any]] = {
    **dict.fromkeys(("steps", "tokens_per_step", "top_k", "burn_in"), whole),
    **dict.fromkeys(("temperature", "top_p", "min_p", "repetition_penalty"), real),
    **dict.fromkeys(("threshold", "factor", "gamma", "eta", "edit_threshold"), real),
    "alg_temperature": real,
    **dict.fromkeys(("confidence_metric", "top_p_crossing"), word),
    "grid": _grid_of,
    "ban": words,
    "unban": words,
}


def _path(part: Any, field: str) -> tuple[str, ...]:
    """Return the names that lead from a policy to a field of it or of a part; () if none does."""
    for own in dataclasses.fields(part):
        if own.name == field:
            return (field,)
        inner = getattr(part, own.name)
        rest = _path(inner, field) if dataclasses.is_dataclass(inner) else ()
        if rest:
            return (own.name, *rest)
    return ()


def option_of(policy: Policy, field: str) -> Any:
    """Return the value of a field of a policy or of one of its parts; None if there is none."""
    path = _path(policy, field)
    return functools.reduce(getattr, path, policy) if path else None


def _replaced(part: Any, path: tuple[str, ...], value: Any) -> Any:
    """Return the policy with another value at the end of a path."""
    if not path:
        return value
    return replace(part, **{path[0]: _replaced(getattr(part, path[0]), path[1:], value)})


def _takes(policy: Policy, option: str, value: Any) -> bool:
    """Return whether a policy has an option that goes with the rest of it, and with a value."""
    path = _path(policy, option)
    try:
        return bool(path) and bool(_replaced(policy, path, value))
    except UserError:
        return False


def _with_option(name: str, preset: Preset, option: str, value: Any) -> Preset:
    path = _path(preset.policy, option)
    if not path:
        said = option.replace("_", "-")
        others = ", ".join(other for other, p in PRESETS.items() if _takes(p.policy, option, value))
        raise UserError(f"sampler {name!r} has no {said}; these have: {others}")
    preset = replace(preset, policy=_replaced(preset.policy, path, value))
    return replace(preset, steps=None) if option == "tokens_per_step" else preset


def _with_steps(preset: Preset, steps: int) -> Preset:
    if not 1 <= steps <= MAX_STEPS:
        raise UserError(f"steps must be from 1 to {MAX_STEPS}, not {steps}")
    path = _path(preset.policy, "tokens_per_step")
    policy = _replaced(preset.policy, path, None) if path else preset.policy
    return replace(preset, steps=steps, policy=policy)


def _with_grid(
    name: str, preset: Preset, grid: str | tuple[float, ...], steps: int | None
) -> Preset:
    """Return a sampler on another grid; a list of times has steps of its own."""
    if isinstance(preset.policy, Gibbs):
        raise UserError(f"sampler {name!r} writes one position a step and has no grid; use steps")
    if isinstance(grid, tuple):
        if steps is not None:
            raise UserError("a grid of times has steps of its own, so leave steps out")
        preset = _with_steps(preset, len(grid) - 1)
    elif preset.steps is None:
        raise UserError(f"sampler {name!r} follows a grid only if it is given steps")
    return replace(preset, grid=grid)


def _read_grid(grid: str | Sequence[float]) -> str | tuple[float, ...]:
    """Return the name of a grid as it is, and times as numbers that make a grid."""
    if isinstance(grid, str) and "," not in grid:
        if grid not in GRIDS:
            raise UserError(
                f"unknown grid {grid!r}; choose uniform or cosine, or list its times, as in 1,0.5,0"
            )
        return grid
    try:
        times = tuple(float(x) for x in (grid.split(",") if isinstance(grid, str) else grid))
    except (TypeError, ValueError) as error:
        raise UserError(
            f"cannot read the grid {grid!r}; list its times from 1 down to 0, as in 1,0.5,0"
        ) from error
    given_grid(times)
    return times


def _with_burn_in(name: str, preset: Preset, burn_in: int | None) -> Preset:
    if not isinstance(preset.policy, Gibbs):
        if burn_in is not None:
            raise UserError(f"sampler {name!r} has no burn-in; use 'gibbs'")
        return preset
    steps = preset.steps or 0
    burn_in = steps // 2 if burn_in is None else burn_in
    if not 0 <= burn_in <= steps:
        raise UserError(f"burn-in must be from 0 to the {steps} steps, not {burn_in}")
    return replace(preset, burn_in=burn_in)


def _with_draw(name: str, preset: Preset, burn_in: int | None, **changes: Any) -> Preset:
    changes = {key: value for key, value in changes.items() if value is not None}
    temperature = changes.get("temperature")
    if (
        temperature
        and preset.draw.greedy
        and option_of(preset.policy, "confidence_metric") != DRAWN
    ):
        raise UserError(
            f"sampler {name!r} takes the likeliest token and judges it at temperature 1 here, so "
            "temperature would have no effect; leave it out"
        )
    # Filters that the user did not ask for must not stand in the way of the most likely token.
    own = FILTERS if temperature == 0 else {}
    draw = replace(preset.draw, **(own | changes))
    if "top_p_crossing" in changes and draw.top_p == 1:
        raise UserError("there is no token that crosses p without top-p; set it below 1")
    preset = replace(preset, draw=draw)
    return _burnt_in(preset, burn_in, changes) if preset.burn_in else preset


def _burnt_in(preset: Preset, burn_in: int | None, changes: Mapping[str, Any]) -> Preset:
    """Return a sampler with a burn-in, which draws among all tokens, and with filters after it."""
    if not has_filters(vars(preset.draw)):
        if burn_in:
            raise UserError(
                "burn-in would have no effect, as the steps after it have no top-k, top-p or min-p "
                "either (temperature 0 drops them); leave it out"
            )
        return replace(preset, burn_in=0)
    if preset.burn_in < (preset.steps or 0):
        return preset
    if has_filters(changes):
        raise UserError(
            "all steps are burn-in, which draws among all tokens; leave top-k, top-p and min-p "
            "out, or set burn-in lower"
        )
    return replace(preset, draw=replace(preset.draw, **FILTERS))
