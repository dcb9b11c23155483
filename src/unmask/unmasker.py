"""The composition root: a model, its tokenizer and its card as one thing that writes and scores.

writer = Unmasker.from_pretrained("roberta-base")
writer.generate("Following their victory", length=100, steps=10).texts
writer.infill("The [MASK] sat on [MASK:3-8].").texts
writer.score("Some text").bits_per_char
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from unmask import checkpoint, recording
from unmask.adapters import loading
from unmask.adapters.encoder import EncoderDenoiser, not_data_ids, position_limit
from unmask.canvas import Canvas, Frame
from unmask.checkpoint import Card
from unmask.codec.text import Blank, TextCodec
from unmask.denoiser import masked_cross_entropy
from unmask.errors import UserError
from unmask.generated import Generated
from unmask.likelihood import Score, Text, bound_of_rows, score_text
from unmask.noise import Noise
from unmask.plan import Plan, make_plan
from unmask.policy import MostConfident
from unmask.presets import Preset, make_preset
from unmask.process import AbsorbingProcess
from unmask.sampler import sample
from unmask.schedule import make_schedule

JUDGE_DRAWS = 16

Watch = Callable[[Frame, float], None]
"""Called with every frame and the seconds spent so far."""


class Unmasker:
    """A masked language model that writes, fills in and scores text.

    Args:
        model: Any ``*ForMaskedLM``.
        codec: Its tokenizer as a codec.
        card: Process, schedule, default sampler and history.
    """

    def __init__(self, model: Any, codec: TextCodec, card: Card) -> None:
        if codec.tokenizer.mask_token_id is None:
            raise UserError("the tokenizer has no mask token, which diffusion needs")
        self.model = model.eval()
        self.codec = codec
        self.card = card
        schedule = make_schedule(**card.schedule)
        self.process = AbsorbingProcess(schedule, codec.mask_token_id)
        self.denoiser = EncoderDenoiser(
            model, not_data_ids(codec.tokenizer, model.get_output_embeddings().out_features)
        )
        self.limit = position_limit(model)

    @classmethod
    def from_pretrained(cls, name: str | None = None, device: str | None = None) -> Unmasker:
        """Open a model.

        Args:
            name: A directory, a hub id, or None for the small model in the package.
            device: Such as ``cpu`` or ``cuda``; None takes cuda if there is one.

        Raises:
            UserError: If there is no such model, it is no masked language model, or it is damaged.
        """
        name = loading.BUNDLED if name is None else str(name)
        card = loading.load_card(name) or Card()
        if card.kind != "masked" or card.process != "absorbing":
            raise UserError(
                f"{name} was trained as {card.kind}/{card.process}, not masked/absorbing"
            )
        model = loading.place(loading.load_model(name, "masked"), device)
        return cls(model, TextCodec(loading.load_tokenizer(name)), card)

    def generate(
        self,
        prompt: str | Sequence[str] = "",
        *,
        length: int | None = None,
        num_samples: int = 1,
        seed: int = 0,
        watch: Watch | None = None,
        **sampler: Any,
    ) -> Generated:
        """Write after a prompt, or on the blanks that it holds.

        Args:
            prompt: One prompt or several; ``[MASK]``, ``[MASK:5]`` or ``[MASK:3-8]`` in it are
                blanks.
            length: Tokens to write after a prompt without blanks; 100 if None, or as many as fit.
            num_samples: Samples of each prompt. Sample i of a prompt depends on (seed, i) alone,
                whatever else is in the batch.
            seed: Of the random numbers.
            watch: Called with every frame; see ``Watch``.
            sampler: ``sampler`` (a name), ``steps``, ``temperature``, ``top_k``, ``top_p``,
                ``threshold``; what is left out comes from the model's card, then from the preset.

        Raises:
            UserError: If an option is out of range or a row does not fit the model.
        """
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        preset, settings = self._preset(sampler)
        plan = self._plan(prompts, length, num_samples, seed)
        settings |= {"length": plan.length, "num_samples": num_samples}
        frames, clock = [], []
        for frame, seconds in self._run(plan, preset):
            frames.append(frame)
            clock.append(seconds)
            if watch is not None:
                watch(frame, seconds)
        started = self._now()
        kept, extra_nfe = self._keep_best(plan, frames[-1].canvas)
        label = f"{settings['sampler']}"
        return Generated(
            texts=tuple(recording.text(self.codec, frames[-1].canvas, row) for row in kept),
            nfe=frames[-1].nfe + extra_nfe,
            seconds=clock[-1] + self._now() - started,
            seed=seed,
            settings=settings,
            tracks=tuple(recording.track(self.codec, label, frames, clock, row) for row in kept),
        )

    def infill(self, template: str | Sequence[str], **options: Any) -> Generated:
        """Write on the blanks of a template: ``generate`` for texts that hold at least one.

        For a blank of unknown length every length is written, and the row whose whole text has the
        lowest bound per token is kept.

        Raises:
            UserError: If there is no blank in a template, or as ``generate`` does.
        """
        templates = [template] if isinstance(template, str) else list(template)
        self.require_blank(templates)
        return self.generate(templates, **options)

    def require_blank(self, templates: Sequence[str]) -> None:
        """Raise a UserError unless every template holds a blank."""
        for text in templates:
            if not any(isinstance(part, Blank) for part in self.codec.template(text)):
                raise UserError("there is no blank; mark one as [MASK], [MASK:5] or [MASK:3-8]")

    def stream(
        self,
        prompt: str | Sequence[str] = "",
        *,
        length: int | None = None,
        num_samples: int = 1,
        seed: int = 0,
        **sampler: Any,
    ) -> Iterator[Frame]:
        """Yield frames while writing; arguments as in ``generate``.

        With a blank of unknown length the rows of a frame are all its lengths, none chosen yet.
        """
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        preset, _ = self._preset(sampler)
        plan = self._plan(prompts, length, num_samples, seed)
        return (frame for frame, _ in self._run(plan, preset))

    def score(
        self,
        text: str,
        *,
        draws: int = 16,
        seed: int = 0,
        batch_size: int = 32,
        advance: Callable[[int], None] = lambda rows: None,
    ) -> Score:
        """Return an upper bound on -log p(text).

        Args:
            text: Cut into rows of the length that the model was trained on.
            draws: Mask patterns per row; more make the estimate less noisy.
            seed: Of the masks.
            batch_size: Rows at a time.
            advance: Called with the number of rows done.
        """
        if draws < 1 or batch_size < 1:
            raise UserError("draws and batch size must be at least 1")
        return score_text(
            Text.from_string(text, self.codec, self.row_length),
            bound_of_rows(self.denoiser, self.process, draws),
            exact=False,
            draws=draws,
            batch_size=batch_size,
            seed=seed,
            device=self.model.device,
            advance=advance,
        )

    @property
    def row_length(self) -> int:
        """Tokens in a row of text to be scored: what the model was trained on, at most 512."""
        return min(self.card.length or 512, self.limit or 512)

    def save_pretrained(self, directory: str | Path, *, overwrite: bool = False) -> None:
        """Save as an ordinary Hugging Face directory with ``unmask.json`` beside it.

        Raises:
            UserError: If the directory holds something and ``overwrite`` is False, or the disk is
                full; what was there stays as it was.
        """
        checkpoint.claim(Path(directory), overwrite)
        with checkpoint.staged(Path(directory)) as stage, loading.no_bars():
            self.model.save_pretrained(stage)
            self.codec.tokenizer.save_pretrained(stage)
            self.card.write(stage)

    def _preset(self, options: dict[str, Any]) -> tuple[Preset, dict[str, Any]]:
        wished = {key: value for key, value in options.items() if value is not None}
        saved = dict(self.card.sampler)
        name = wished.pop("sampler", None) or saved.get("name", "ancestral")
        # Saved numbers belong to the saved sampler only.
        numbers = {k: v for k, v in saved.items() if k != "name" and name == saved.get("name")}
        if wished.get("temperature") == 0:
            numbers = {k: v for k, v in numbers.items() if k not in ("top_k", "top_p")}
        try:
            preset = make_preset(name, **(numbers | wished))
        except TypeError as error:
            unknown = str(error).rpartition(" ")[2]
            raise UserError(f"there is no sampler option {unknown}") from error
        settings = {
            "sampler": name,
            "steps": preset.steps,
            "temperature": preset.draw.temperature,
            "top_k": preset.draw.top_k,
            "top_p": preset.draw.top_p,
        }
        if isinstance(preset.policy, MostConfident) and preset.policy.threshold is not None:
            settings["threshold"] = preset.policy.threshold
        return preset, settings

    def _plan(
        self, prompts: Sequence[str], length: int | None, num_samples: int, seed: int
    ) -> Plan:
        plan = make_plan(self.codec, prompts, length, num_samples, seed, self.limit)
        return plan.to(self.model.device)

    def _run(self, plan: Plan, preset: Preset) -> Iterator[tuple[Frame, float]]:
        grid = preset.times(plan.length)
        frames = sample(
            self.denoiser,
            self.process,
            plan.canvas,
            preset.policy,
            preset.draw,
            grid,
            Noise(plan.seeds),
        )
        spent, begun = 0.0, self._now()
        for frame in frames:
            spent += self._now() - begun
            yield frame, spent
            begun = self._now()

    def _now(self) -> float:
        """Return the time in seconds, when all work handed to the device is done."""
        if self.model.device.type == "cuda":
            torch.cuda.synchronize(self.model.device)
        return time.perf_counter()

    @torch.no_grad()
    def _keep_best(self, plan: Plan, canvas: Canvas) -> tuple[list[int], int]:
        """Return the row of each group with the lowest bound per token, and the calls it took."""
        if all(len(group) == 1 for group in plan.groups):
            return [group[0] for group in plan.groups], 0
        editable = canvas.valid.clone()
        editable[:, : len(self.codec.start)] = False
        tokens = editable.sum(1)
        noise, length = Noise(plan.seeds), canvas.ids.shape[1]
        total = torch.zeros(len(tokens), dtype=torch.float64, device=tokens.device)
        for draw in range(JUDGE_DRAWS):
            # Every length is judged at the same shares of hidden tokens, and every row by its own
            # seed, so that the choice does not depend on what else is in the batch.
            count = torch.ceil((draw + 0.5) / JUDGE_DRAWS * tokens).long()
            order = noise.uniform("judge", draw, length)
            hidden = self.process.hide_first(canvas.ids, order, count, editable)
            time = self.process.time_of(hidden.masked, editable)
            nats = masked_cross_entropy(
                self.denoiser, hidden.ids, time, canvas.ids, hidden.masked, canvas.valid
            )
            total += nats.double() / count
        scores = total.tolist()
        return [min(group, key=scores.__getitem__) for group in plan.groups], JUDGE_DRAWS
