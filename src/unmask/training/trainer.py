"""The Trainer of transformers with a diffusion loss.

Data loading, optimisation, mixed precision, accumulation, checkpoints and logging come from the
library. Added are the times and masks of a batch, the loss, the validation bound, the average of
the weights, and checkpoints that appear under their name only when complete.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import default_collate
from transformers import PreTrainedModel, PrinterCallback, Trainer, TrainerState

from unmask.diffusion.formulation import Formulation
from unmask.diffusion.schedules.grids import stratified_times
from unmask.errors import UserError
from unmask.evaluation.scores import Score
from unmask.files import replacing_folder, write_failure
from unmask.models import compat
from unmask.models.extra_weights import learned_of
from unmask.training import rates
from unmask.training.average import WeightAverage
from unmask.training.checkpoints import checkpoints, seal
from unmask.training.loss import Loss
from unmask.training.optimizer import muon, with_own_rate
from unmask.training.recipe import Recipe
from unmask.training.rows import Batch, MakeBatch
from unmask.training.stopping import Clock, Pace

LOGGED = ("nats_per_token", "perplexity", "bits_per_char", "bits_per_dim")
"""Properties of a score that validation logs, where they are known."""


class DiffusionTrainer(Trainer):
    """Trains any masked (or, for the baseline, causal) language model by a recipe.

    Args:
        recipe: Objective, optimiser and learning rates.
        formulation: Forward process and bound.
        batcher: Chooses what is noised in stacked items; see ``rows.Batcher``.
        denoiser_of: Makes a denoiser of the network.
        validate: Scores a model on a number of rows of the validation text, or None.
        pace: When to validate and to save; None for a run without a time budget.
        arguments: Those of ``transformers.Trainer``.

    Raises:
        UserError: From ``train``, if the loss is not finite.
    """

    def __init__(
        self,
        recipe: Recipe,
        formulation: Formulation,
        batcher: MakeBatch,
        denoiser_of: Callable[[nn.Module], Any],
        validate: Callable[[nn.Module, int], Score] | None,
        pace: Pace | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments, data_collator=default_collate)
        self.remove_callback(PrinterCallback)
        self.recipe = recipe
        self.formulation = formulation
        self.batcher = batcher
        self.loss = Loss(recipe, formulation, denoiser_of)
        self.validate = validate
        self.pace = pace or Pace(Clock(), recipe.training)
        # The loss is divided by the tokens of the whole step, so the Trainer must not average.
        self.model_accepts_loss_kwargs = True
        self.score: Score | None = None
        self.scored_at = -1
        self.average: WeightAverage | None = None
        if recipe.training.ema:
            self.average = WeightAverage(cast(nn.Module, self.model), recipe.training.ema)
            self.add_callback(self.average)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Tensor]:
        """Return the batches of the next step, each with its randomness, and all their tokens.

        The noised positions are chosen here, since the loss of every batch is divided by the tokens
        of all of them.
        """
        samples, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        prepared: list[Any] = []
        for place, items in enumerate(samples):
            items = self._prepare_inputs(items)
            generator, times = self._randomness(items["input_ids"], place)
            batch = self.batcher(items, generator)
            prepared.append(
                {
                    "input_ids": batch.rows,
                    "editable": batch.editable,
                    "tokens": batch.tokens,
                    "valid": batch.valid,
                    "times": times,
                    "generator": generator,
                }
            )
        # There are none left if an epoch ends early.
        none = torch.zeros((), dtype=torch.int64, device=device)
        tokens = sum((batch["tokens"].sum() for batch in prepared), none)
        if self.args.world_size > 1:
            tokens = self.accelerator.gather(tokens).sum()
        return prepared, tokens.clamp_min(1)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Any,
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Return what a batch adds to the loss of its step, in nats per token, a scalar tensor.

        The nats per token are weighted by the batch's share of the tokens of the step, so that the
        loss of a step is the sum of all nats over the sum of all tokens. The mean of
        ``masked-mean`` counts for all tokens that could be masked: every rate weighs the same.
        """
        batch = Batch(inputs["input_ids"], inputs["editable"], inputs["tokens"], inputs["valid"])
        per_token = self.loss(model, batch, inputs["times"], inputs["generator"])
        # Gradients are averaged over devices, but the tokens are summed over them.
        loss = per_token * batch.tokens.sum() / num_items_in_batch * self.args.world_size
        if not torch.isfinite(loss):
            raise UserError(
                f"the loss is {loss.item()} at step {self.state.global_step + 1}; training "
                "stopped, the last checkpoint is intact; lower the learning rate or switch bf16 off"
            )
        return loss

    def _randomness(self, rows: Tensor, number: int) -> tuple[torch.Generator, Tensor]:
        """Return the generator of a batch of this step on this device and its times, (B,).

        Both follow from (seed, step, batch of the step, device), so a resumed run repeats itself.
        The times are stratified over all devices and accumulated batches of the step.
        """
        accumulate, world = self.args.gradient_accumulation_steps, self.args.world_size
        seed = (self.args.seed * 1_000_003 + self.state.global_step) * 2 + 1
        shared = torch.Generator(rows.device).manual_seed(seed)
        times = stratified_times(len(rows) * accumulate * world, shared)
        place = number * world + self.args.process_index
        own = torch.Generator(rows.device).manual_seed(seed * 4_099 + place)
        return own, times[place * len(rows) : (place + 1) * len(rows)]

    def evaluate(self, *_args: Any, **_kwargs: Any) -> dict[str, float]:
        """Score the validation text and log its bound, in nats per token and other units."""
        if self.validate is None or self.scored_at == self.state.global_step:
            return {}
        model: Any = self.model
        averaged = nullcontext() if self.average is None else self.average.applied()
        with self.pace.validating.timed(), averaged:
            score = self.score = self.validate(model.eval(), self.pace.validation_rows())
        self.scored_at = self.state.global_step
        metrics = {f"eval_{unit}": getattr(score, unit) for unit in LOGGED if unit in score.known}
        self.log(dict(metrics))
        return metrics

    def create_optimizer(self, model: nn.Module | None = None) -> Optimizer:
        """Return the recipe's optimiser: Muon, or one that transformers knows by name."""
        training, own = self.recipe.training, cast(PreTrainedModel, self.model)
        if training.optimizer == "muon":
            self.optimizer = muon(
                own, training.learning_rate, training.weight_decay, training.beta2
            )
        else:
            super().create_optimizer(model)
        optimizer = cast(Optimizer, self.optimizer)
        rate, learned = self.recipe.schedule.learning_rate, learned_of(own)
        if rate and learned is not None:
            with_own_rate(optimizer, learned.param, rate)
        return optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Return the recipe's learning-rate schedule, over the steps or over the time budget."""
        training, clock = self.recipe.training, self.pace.clock
        if not clock.budget:
            self.args.warmup_steps = rates.warmup_steps(
                training.warmup_steps, training.warmup_share, num_training_steps
            )
            self.args.lr_scheduler_kwargs = rates.options(training.lr_schedule, num_training_steps)
            return super().create_scheduler(num_training_steps, optimizer)
        shape = rates.shape(training.lr_schedule, training.learning_rate)

        def factor(step: int) -> float:
            # The run ends at the first of two limits.
            gone = max(clock.progress, step / training.steps if training.steps else 0.0)
            warm = rates.ramp(step, gone, training.warmup_steps, training.warmup_share)
            return warm * shape(gone)

        self.lr_scheduler = LambdaLR(cast(Optimizer, optimizer or self.optimizer), factor)
        return self.lr_scheduler

    def take_up(self, folder: Path) -> None:
        """Load the weights and the state of a checkpoint, without training any further."""
        compat.load_weights(self, folder)
        self.state = TrainerState.load_from_json(str(folder / "trainer_state.json"))

    def check_weights(self) -> None:
        """Raise a UserError if a weight is not finite, before the model replaces a good one."""
        own = cast(PreTrainedModel, self.model)
        if not all(bool(torch.isfinite(p).all()) for p in own.parameters()):
            raise UserError(
                f"the weights are no longer finite after step {self.state.global_step}; training "
                "stopped, the last checkpoint is intact; lower the learning rate or switch bf16 off"
            )

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        # The Trainer writes straight into checkpoint-N. Here it writes into a staging folder,
        # renamed when complete, so that every checkpoint-N that exists can be resumed from.
        final = Path(str(self.args.output_dir))
        self.check_weights()
        try:
            with (
                replacing_folder(final / f"checkpoint-{self.state.global_step}") as stage,
                self.pace.saving.timed(),
            ):
                self.args.output_dir = str(stage.parent)
                super()._save_checkpoint(model, trial)
                if self.average is not None:
                    self.average.save(stage)
                seal(stage, self.pace.clock.elapsed)
        except Exception as error:
            reason = write_failure(error)
            if reason is None:
                raise
            raise UserError(
                f"could not save a checkpoint to {final}: {reason}; the previous one is intact"
            ) from error
        finally:
            self.args.output_dir = str(final)
        for old in checkpoints(final)[: -(self.args.save_total_limit or 1)]:
            shutil.rmtree(old)
