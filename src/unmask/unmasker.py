"""The composition root: a model, its tokenizer and its card as one thing that writes and scores.

writer = Unmasker.from_pretrained("roberta-base")
writer.generate("Following their victory", length=100, steps=10).texts
writer.infill("The [MASK] sat on [MASK:3-8].").texts
writer.transform("How do I learn to swim?", candidates=3).texts  # if it was trained on pairs
writer.score("Some text").bits_per_char
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unmask import checkpoint, judge, mbr, recording
from unmask.adapters import backends, exporting, extras, loading
from unmask.adapters.decoder import DecoderDenoiser
from unmask.adapters.encoder import EncoderDenoiser, not_data_ids, position_limit
from unmask.adapters.exported import ExportedDenoiser
from unmask.block_sampler import sample_blocks
from unmask.canvas import Canvas, Frame
from unmask.checkpoint import Card
from unmask.codec.pairs import PairCodec
from unmask.codec.text import Blank, TextCodec
from unmask.denoiser import Denoiser
from unmask.errors import UserError
from unmask.generated import Generated
from unmask.likelihood import Score, Text, bound_of_rows, score_text
from unmask.method import make_method
from unmask.noise import Noise
from unmask.plan import Plan, check_left_to_right, make_pair_plan, make_plan
from unmask.presets import Preset, choose_preset
from unmask.sampler import sample

Watch = Callable[[Frame, float], None]
"""Called with every frame and the seconds spent so far."""


class Unmasker:
    """A masked language model that writes, fills in and scores text.

    Args:
        model: Any ``*ForMaskedLM``, or any ``*ForCausalLM`` if its card names a block length.
        codec: Its tokenizer as a codec.
        card: Process, schedule, default sampler and history.
        counts: How often each token occurs in the training text, shape (V,), for the schedules
            that are made from it.
        backend: What computes the network; see ``adapters.backends``. Never ``auto``.
        network: What ``backends.prepare`` returned.
    """

    def __init__(
        self,
        model: Any,
        codec: TextCodec,
        card: Card,
        counts: Tensor | None = None,
        backend: str = "torch",
        network: Any = None,
    ) -> None:
        if codec.tokenizer.mask_token_id is None:
            raise UserError("the tokenizer has no mask token, which diffusion needs")
        self.model = model.eval()
        self.codec = codec
        self.card = card
        self.backend = backend
        self._positions = self.limit = position_limit(model)
        not_data = not_data_ids(codec.tokenizer, model.get_output_embeddings().out_features)
        self.denoiser: Any
        if card.block_length:
            self.denoiser = DecoderDenoiser(
                model,
                not_data,
                codec.mask_token_id,
                card.block_length,
                start=len(codec.start),
                window=self.row_length,
            )
            self.limit = None if self.denoiser.window_blocks else self.row_length
        else:
            original = EncoderDenoiser(model, not_data)
            self.denoiser = original if network is None else ExportedDenoiser(network, original)
        self.method = make_method(
            card.process,
            card.schedule,
            mask_token_id=codec.mask_token_id,
            vocab_size=self.denoiser.vocab_size,
            data_ids=self.denoiser.data_ids,
            num_steps=card.num_steps,
            counts=counts,
            learned=extras.learned_of(model),
            block_length=card.block_length,
        )
        self._counts = counts

    @classmethod
    def from_pretrained(
        cls, name: str | None = None, device: str | None = None, backend: str = "auto"
    ) -> Unmasker:
        """Open a model.

        Args:
            name: A directory, a hub id, or None for the small model in the package.
            device: Such as ``cpu`` or ``cuda``; None takes cuda if there is one.
            backend: What computes the network; see ``adapters.backends``.

        Raises:
            UserError: If there is no such model, it is no masked language model, it is damaged, or
                the backend cannot compute it.
        """
        name = loading.BUNDLED if name is None else str(name)
        backend, device = backends.choose(backend, name, device)
        card = loading.load_card(name) or Card()
        if card.kind == "causal":
            raise UserError(f"{name} was trained as a causal model, not as a masked one")
        if backend == "openvino":
            backends.check_exportable(card)
        model, counts = loading.load_equipped(name, card)
        model = loading.place(model, device)
        counts = None if counts is None else counts.to(model.device)
        codec = TextCodec(loading.load_tokenizer(name))
        return cls(model, codec, card, counts, backend, backends.prepare(backend, name, model))

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
                ``threshold``, ``burn_in``; what is left out comes from the model's card, then from
                the preset.

        Raises:
            UserError: If an option is out of range or a row does not fit the model.
        """
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        preset, settings = choose_preset(self.card.sampler, sampler)
        plan = self._plan(prompts, length, num_samples, seed)
        settings |= {"length": plan.length, "num_samples": num_samples, **self._computed_by}
        frames, clock = self._watched(plan, preset, watch)
        started = self._now()
        kept, extra_nfe = judge.likeliest(
            plan, frames[-1].canvas, self.codec, self.denoiser, self.method
        )
        label = f"{settings['sampler']}"
        return Generated(
            texts=tuple(recording.text(self.codec, frames[-1].canvas, row) for row in kept),
            nfe=frames[-1].nfe + extra_nfe,
            seconds=clock[-1] + self._now() - started,
            seed=seed,
            settings=settings,
            tracks=tuple(recording.track(self.codec, label, frames, clock, row) for row in kept),
        )

    def transform(
        self,
        source: str | Sequence[str],
        *,
        candidates: int = 1,
        seed: int = 0,
        watch: Watch | None = None,
        **sampler: Any,
    ) -> Generated:
        """Write the target for a source, with a model that was trained on pairs.

        Args:
            source: One text or several.
            candidates: Targets to write for each source, all in one batch; the one that agrees most
                with the others is kept (see ``mbr``). Candidate i depends on (seed, i) alone.
            seed: Of the random numbers.
            watch: Called with every frame; see ``Watch``.
            sampler: As in ``generate``.

        Returns:
            One target per source, without the source.

        Raises:
            UserError: If the model was not trained on pairs, an option is out of range, a source is
                empty or too long, or NLTK is missing for a choice among candidates.
        """
        sources = [source] if isinstance(source, str) else list(source)
        preset, settings = choose_preset(self.card.sampler, sampler)
        plan = make_pair_plan(self.pairs, sources, candidates, seed).to(self.model.device)
        bleu = mbr.bleu() if candidates > 1 else None
        frames, clock = self._watched(plan, preset, watch)
        canvas = frames[-1].canvas
        texts = [recording.target(self.codec, canvas, row) for row in range(len(canvas.ids))]
        kept = [
            group[0] if bleu is None else group[mbr.choose([texts[row] for row in group], bleu)]
            for group in plan.groups
        ]
        label = f"{settings['sampler']}"
        return Generated(
            texts=tuple(texts[row] for row in kept),
            nfe=frames[-1].nfe,
            seconds=clock[-1],
            seed=seed,
            settings=settings
            | {"length": plan.length, "candidates": candidates, **self._computed_by},
            tracks=tuple(recording.track(self.codec, label, frames, clock, row) for row in kept),
        )

    @property
    def pairs(self) -> PairCodec:
        """How the model was trained to see a source and its target.

        Raises:
            UserError: If it was not trained on pairs.
        """
        if not self.card.pairs:
            raise UserError(
                "this model was not trained on pairs of source and target; train one with the "
                "recipe diffusionbert-conditional"
            )
        return PairCodec(self.codec, length=self.card.length or self.row_length, **self.card.pairs)

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
        preset, _ = choose_preset(self.card.sampler, sampler)
        plan = self._plan(prompts, length, num_samples, seed)
        return (frame for frame, _ in self._run(plan, preset))

    def score(
        self,
        text: str | Text,
        *,
        draws: int = 16,
        seed: int = 0,
        batch_size: int = 32,
        num_steps: int = 0,
        advance: Callable[[int], None] = lambda rows: None,
    ) -> Score:
        """Return an upper bound on -log p(text).

        Args:
            text: Cut into rows of the length that the model was trained on, unless they are rows
                already.
            draws: Mask patterns per row; more make the estimate less noisy.
            seed: Of the masks.
            batch_size: Rows at a time.
            num_steps: T for the bound of a sampler with T steps; 0 for the method's own bound,
                which for masks and one schedule is that of continuous time.
            advance: Called with the number of rows done.

        Raises:
            UserError: If the text is empty, a number is below 1, or the steps do not divide those
                that the model was trained in.
        """
        if draws < 1 or batch_size < 1:
            raise UserError("draws and batch size must be at least 1")
        if num_steps:
            self.method.check_strides(num_steps)
        bound = self.method.in_steps(num_steps) if num_steps else self.method.bound
        return score_text(
            text if isinstance(text, Text) else self.rows(text),
            bound_of_rows(self.denoiser, bound, draws),
            exact=False,
            draws=draws,
            batch_size=batch_size,
            seed=seed,
            device=self.model.device,
            advance=advance,
        )

    def rows(self, text: str) -> Text:
        """Return a text in the rows that ``score`` cuts it into."""
        return Text.from_string(text, self.codec, self.row_length)

    @property
    def row_length(self) -> int:
        """Tokens in a row of text to be scored: what the model was trained on, at most 512."""
        return min(self.card.length or 512, self._positions or 512)

    def save_pretrained(self, directory: str | Path, *, overwrite: bool = False) -> None:
        """Save as an ordinary Hugging Face directory with ``unmask.json`` beside it.

        Raises:
            UserError: If the directory holds something and ``overwrite`` is False, or the disk is
                full; what was there stays as it was. If the weights are in eight bits.
        """
        self._check_saving(Path(directory), overwrite)
        with checkpoint.staged(Path(directory)) as stage:
            self._write(stage)

    def export(
        self, directory: str | Path, *, weights: str = "float32", overwrite: bool = False
    ) -> None:
        """Save as ``save_pretrained`` does, with a copy of the network for OpenVINO beside it.

        Args:
            directory: Where to.
            weights: Of the copy: ``float32``, or ``int8`` for a smaller and faster one.
            overwrite: Replace the model in the directory.

        Raises:
            UserError: As ``save_pretrained``; if OpenVINO is missing, the model is told the time,
                was trained on pairs or writes blocks, or it cannot be exported.
        """
        exporting.check_weights(weights)
        self._check_saving(Path(directory), overwrite)
        backends.check_exportable(self.card)
        graph = exporting.convert(self.model, weights)
        with checkpoint.staged(Path(directory)) as stage:
            self._write(stage)
            exporting.write(graph, weights, stage)

    def _check_saving(self, directory: Path, overwrite: bool) -> None:
        if self.backend == "torch-int8":
            raise UserError("weights in eight bits are not saved; open the model with torch")
        checkpoint.claim(directory, overwrite)

    def _write(self, stage: Path) -> None:
        with loading.no_bars():
            self.model.save_pretrained(stage, state_dict=extras.ordinary_state(self.model))
            self.codec.tokenizer.save_pretrained(stage)
        checkpoint.write_extra(stage, extras.beside(self.model, self._counts))
        self.card.write(stage)

    @property
    def _computed_by(self) -> dict[str, str]:
        """What the settings say of the backend: nothing of the usual one."""
        return {} if self.backend == "torch" else {"backend": self.backend}

    def _plan(
        self, prompts: Sequence[str], length: int | None, num_samples: int, seed: int
    ) -> Plan:
        plan = make_plan(self.codec, prompts, length, num_samples, seed, self.limit)
        if self.card.block_length:
            check_left_to_right(plan)
        return plan.to(self.model.device)

    def _run(self, plan: Plan, preset: Preset) -> Iterator[tuple[Frame, float]]:
        noise, size = Noise(plan.seeds), self.card.block_length
        policy, process = self.method.reverse(preset.policy)
        # A row must not be paced by the masks of its neighbours, so a block counts as all masks.
        grid = preset.times(size or plan.length)

        def write(denoiser: Denoiser, canvas: Canvas, noise: Noise) -> Iterator[Frame]:
            return sample(denoiser, process, canvas, policy, preset.drawing, grid, noise)

        canvas = self.method.start(plan.canvas, noise)
        frames = (
            sample_blocks(self.denoiser, canvas, noise, size, write, self.codec.end)
            if size
            else write(self.method.posterior_denoiser(self.denoiser), canvas, noise)
        )
        spent, begun = 0.0, self._now()
        for frame in frames:
            spent += self._now() - begun
            yield frame, spent
            begun = self._now()

    def _watched(
        self, plan: Plan, preset: Preset, watch: Watch | None
    ) -> tuple[list[Frame], list[float]]:
        """Return all frames, and the seconds spent until each."""
        frames, clock = [], []
        for frame, seconds in self._run(plan, preset):
            frames.append(frame)
            clock.append(seconds)
            if watch is not None:
                watch(frame, seconds)
        return frames, clock

    def _now(self) -> float:
        """Return the time in seconds, when all work handed to the device is done."""
        if self.model.device.type == "cuda":
            torch.cuda.synchronize(self.model.device)
        return time.perf_counter()
