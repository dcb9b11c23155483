"""What a caller asks for: prompts, layout and options, read and checked once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from unmask.data.text import TextCodec
from unmask.errors import UserError, did_you_mean
from unmask.pipelines.guidance_options import ControlOptions
from unmask.pipelines.layout_options import MAX_TEXTS, LayoutOptions
from unmask.sampling.samplers.registry import OPTIONS
from unmask.validation import option, within, words

MAX_ROWS = 1024
"""Texts that are generated in one batch; see ``batches``."""
MAX_LAYOUTS = 4096
"""Rows of one batch: each prompt with each combination of the lengths of its blanks."""
SETTINGS = ("sampler", *OPTIONS, *ControlOptions.options())
"""Names of the options that lie not in the layout."""


@dataclass(frozen=True)
class GenerationRequest(LayoutOptions):
    """What to generate. It is valid by itself; ``generation.resolve`` checks it against a model.

    Args:
        prompts: Texts with or without blanks.
        settings: Options of the sampler and ``ControlOptions``, by name; None means not given.
        first: Number of the first sample of each prompt. Sample i depends on (seed, i) alone.

    Raises:
        UserError: If a value has the wrong type or is out of range, there is no prompt, or there is
            no such option.
    """

    prompts: tuple[str, ...] = option(
        ("",), "Texts to continue or to fill.", lambda name, value: tuple(words("prompt", value))
    )
    settings: Mapping[str, Any] = field(default_factory=dict, kw_only=True)
    first: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.prompts:
            raise UserError(
                "there is nothing to generate: give at least one prompt, which may be empty"
            )
        self._check_texts(MAX_TEXTS)
        _check_known(self.settings, {*SETTINGS, *LayoutOptions.options(), "watch"})

    @classmethod
    def of_batch(cls, prompts: Any, keywords: Mapping[str, Any]) -> GenerationRequest:
        """Return the request of one batch, from the keyword arguments of ``stream``."""
        own = LayoutOptions.options()
        layout = {name: value for name, value in keywords.items() if name in own}
        settings = {name: value for name, value in keywords.items() if name not in own}
        _check_known(settings, {*SETTINGS, *own})
        within("num_samples", layout.get("num_samples", 1), 1, MAX_ROWS)
        return cls(prompts, **layout, settings=settings)

    @property
    def controls(self) -> ControlOptions:
        """Guidance and constraints."""
        return ControlOptions(**self._given(*ControlOptions.options()))

    @property
    def sampling(self) -> dict[str, Any]:
        """The sampler and its options, as for ``sampler_options.resolve_sampler``."""
        return self._given("sampler", *OPTIONS)

    def _given(self, *names: str) -> dict[str, Any]:
        found = self.settings.items()
        return {name: value for name, value in found if name in names and value is not None}

    def in_one_batch(self) -> GenerationRequest:
        """Return the request, or refuse more texts than are generated in one batch."""
        self._check_texts(MAX_ROWS)
        return self

    def _check_texts(self, most: int) -> None:
        count = len(self.prompts) * self.num_samples
        if count > most:
            raise UserError(f"prompts x samples make {count} texts; at most {most} are possible")


def _check_known(names: Iterable[str], choices: set[str]) -> None:
    """Raise a UserError for a name that is no setting, which shows those of a caller."""
    for name in names:
        if name == "watch" or name in LayoutOptions.options():
            raise UserError(f"{name!r} is an option of generate and not taken here; leave it out")
        if name not in SETTINGS:
            raise UserError(f"there is no option {name!r}{did_you_mean(name, choices)}")


def batches(codec: TextCodec, request: GenerationRequest) -> list[GenerationRequest]:
    """Return a request in parts of at most ``MAX_ROWS`` texts, in order.

    A rule for lengths goes only to the parts in which a length is open, if there are any.
    """
    layouts = [codec.count_rows(prompt) for prompt in request.prompts]
    is_open = max(layouts) > 1
    return [
        replace(
            request,
            prompts=request.prompts[begin:end],
            first=first,
            num_samples=min(MAX_ROWS, request.num_samples - first),
            choose_length=None
            if is_open and max(layouts[begin:end]) == 1
            else request.choose_length,
        )
        for begin, end in _spans(layouts, request.num_samples)
        for first in range(0, request.num_samples, MAX_ROWS)
    ]


def _spans(layouts: list[int], num_samples: int) -> list[tuple[int, int]]:
    """Return the first prompt of each batch and the one after its last.

    Args:
        layouts: Rows that each prompt stands for.
        num_samples: Samples of each prompt.
    """
    begin, rows, spans = 0, 0, list[tuple[int, int]]()
    for index, own in enumerate(layouts):
        full = rows + own > MAX_LAYOUTS or (index - begin + 1) * num_samples > MAX_ROWS
        if full and index > begin:
            spans.append((begin, index))
            begin, rows = index, 0
        rows += own
    return [*spans, (begin, len(layouts))]
