"""What the trainer minimises: on a toy whose entropy is known, the bound goes down to it."""

from dataclasses import dataclass, field
from functools import partial

import pytest
import torch
from torch import Tensor
from transformers import BertConfig, BertForMaskedLM, TrainingArguments

from checks import assert_law, chain, draw_rows, generator, random_joint
from enumeration import absorbing_bound
from unmask.diffusion.formulation import MaskedFormulation
from unmask.diffusion.processes.absorbing import AbsorbingProcess
from unmask.diffusion.schedules.continuous import Polynomial
from unmask.diffusion.schedules.grids import stratified_times
from unmask.models.any_order import make_denoiser
from unmask.models.encoder import EncoderDenoiser
from unmask.training.recipe import Recipe
from unmask.training.rows import Batcher, PackedDataset
from unmask.training.trainer import DiffusionTrainer

MASK = 3


def tiny_bert() -> BertForMaskedLM:
    torch.manual_seed(0)
    return BertForMaskedLM(
        BertConfig(
            vocab_size=4,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
            max_position_embeddings=8,
            pad_token_id=None,
            initializer_range=0.1,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
    )


@dataclass(frozen=True)
class Noted(AbsorbingProcess):
    """The real process, which also notes the times that it is asked to noise at."""

    times: list[Tensor] = field(default_factory=list)

    def corrupt(self, x0, t, editable, generator):
        self.times.append(t)
        return super().corrupt(x0, t, editable, generator)


def test_a_batch_keeps_start_and_prefix_clean():
    """Every length of a prefix is as likely as another; false alarms 1e-6 each."""
    rows = {"input_ids": torch.arange(12).expand(20_000, 12)}
    editable = Batcher(1.0, 3, 6, 0.0, start=1)(rows, generator(0)).editable
    size = (~editable).sum(1)
    assert torch.equal(editable, torch.arange(12) >= size[:, None])
    assert_law(size.bincount(minlength=7), torch.tensor([0, 0, 0, 1, 1, 1, 1]) / 4)
    fixed = Batcher(1.0, 5, 5, 0.0, start=1)(rows, generator(1))
    assert torch.equal(fixed.editable, (torch.arange(12) >= 5).expand(20_000, 12))
    half = Batcher(0.5, 5, 5, 0.0, start=1)(rows, generator(2)).editable
    assert_law((~half).sum(1).bincount(minlength=6), torch.tensor([0, 1, 0, 0, 0, 1]) / 2)
    # The longest prefix leaves one token to be written.
    longest = (~Batcher(1.0, 1, 0, 0.0, start=1)(rows, generator(3)).editable).sum(1)
    assert (int(longest.min()), int(longest.max())) == (1, 11)


def trainer(folder, rows: Tensor, process: AbsorbingProcess, **arguments) -> DiffusionTrainer:
    """Make a trainer on rows (N, 4) of the toy."""
    return DiffusionTrainer(
        recipe=Recipe(),
        formulation=MaskedFormulation(process),
        batcher=Batcher(0.0, 1, 0, 0.0, start=0),
        denoiser_of=partial(make_denoiser, not_data=[MASK], mask_token_id=MASK),
        validate=None,
        model=tiny_bert(),
        args=TrainingArguments(
            output_dir=str(folder),
            report_to="none",
            disable_tqdm=True,
            save_strategy="no",
            use_cpu=True,
            dataloader_pin_memory=False,
            logging_steps=1000,
            log_level="error",
            **arguments,
        ),
        train_dataset=PackedDataset(rows.flatten().int(), [], 4),
    )


@pytest.mark.parametrize(("batch", "accumulate"), [(8, 1), (4, 2), (2, 4)])
def test_times_are_stratified_over_accumulated_batches(tmp_path, batch, accumulate):
    process = Noted(Polynomial(), MASK)
    rows = draw_rows(random_joint(), 64, seed=0)
    trainer(
        tmp_path,
        rows,
        process,
        max_steps=3,
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=accumulate,
    ).train()
    times = torch.cat(process.times).view(3, 8)
    # One time in each eighth of the interval, whatever the batch is cut into.
    strata = torch.ceil(times * 8).sort(1).values
    assert torch.equal(strata, torch.arange(1.0, 9.0).expand(3, 8).to(strata))
    assert not torch.allclose(times[0].sort().values, times[1].sort().values)


def test_the_trained_bound_is_the_entropy_of_the_toy(tmp_path):
    joint = chain().joint(4)
    entropy = joint.entropy()
    process = AbsorbingProcess(Polynomial(), MASK)
    run = trainer(
        tmp_path,
        draw_rows(joint, 20_000, seed=1),
        process,
        max_steps=400,
        per_device_train_batch_size=128,
        learning_rate=3e-3,
        lr_scheduler_type="cosine",
        warmup_steps=20,
    )
    before = absorbing_bound(EncoderDenoiser(run.model.eval(), [MASK]), joint)
    run.train()
    bound = absorbing_bound(EncoderDenoiser(run.model.eval(), [MASK]), joint)
    # Enumerated with the true law, so that below the entropy could only be a leak.
    assert entropy <= bound < entropy + 0.1
    assert before > entropy + 0.25
    # And the estimate that a user is shown agrees with the enumeration.
    rows = draw_rows(joint, 20_000, seed=2)
    everything = torch.ones_like(rows, dtype=torch.bool)
    times, rng = stratified_times(len(rows), generator(4)), generator(3)
    batch = {"x0": rows, "t": times, "editable": everything, "generator": rng}
    with torch.no_grad():
        judge = MaskedFormulation(process).bound
        nats = judge(EncoderDenoiser(run.model, [MASK]), **batch).nats.double()
    error = float(nats.std() / len(nats) ** 0.5)
    assert abs(float(nats.mean()) - bound) < 4.5 * error
    assert error < 0.02 * bound
