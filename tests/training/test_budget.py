"""A run under a time budget, the loss of an accumulated step, and the average of the weights."""

import math
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, TrainerCallback, TrainingArguments

from unmask.data.pairs import PairRows
from unmask.data.tally import Tally
from unmask.data.text_rows import Text
from unmask.diffusion.formulation import MaskedFormulation
from unmask.diffusion.processes.absorbing import AbsorbingProcess
from unmask.diffusion.schedules.continuous import Polynomial
from unmask.errors import UserError
from unmask.evaluation.likelihood import score_text
from unmask.models.any_order import make_denoiser
from unmask.training import rates
from unmask.training import recipe_file as recipes
from unmask.training.average import FILE, WeightAverage
from unmask.training.pair_dataset import PairBatcher, PairDataset
from unmask.training.stopping import SHARE, Allowance, Clock, Pace
from unmask.training.trainer import DiffusionTrainer

MASK, A, B, REST, END = range(5)
ROW = torch.full((1, 2), A)
TEXT = Text(
    rows=ROW,
    editable=ROW > 0,
    valid=ROW > 0,
    documents=torch.tensor([0]),
    row_units={"tokens": torch.tensor([2]), "characters": torch.ones(1), "words": torch.ones(1)},
    num_documents=1,
    units={"tokens": 2, "characters": 1, "words": 1},
    unknown=0,
    lossy=False,
)
SCORE = score_text(TEXT, lambda part: torch.ones(len(part.rows)))


class Hand:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


def pair_rows(*rows: tuple[int, int], length: int = 256) -> PairRows:
    """Make rows whose targets are so many times the same token: (token, count)."""
    ids = torch.full((len(rows), length), REST, dtype=torch.int32)
    for row, (token, count) in zip(ids, rows, strict=True):
        row[length - count :] = token
    tokens = torch.tensor([count for _, count in rows])
    return PairRows(ids, length - tokens, tokens, (), Tally("pairs", length, len(rows), 0, 0))


def network() -> BertForMaskedLM:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=5,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=256,
        pad_token_id=None,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return BertForMaskedLM(config)


def trainer(folder, rows: PairRows, *settings: str, pace=None, validate=None, **arguments):
    """Make a trainer that hides every target, so that nothing is left to chance."""
    everything = (
        *("objective.name=masked-mean", "objective.mask_rates=[1.0]"),
        "objective.cross_entropy_weight=0.0",
    )
    options = {"max_steps": 1, "lr_scheduler_type": "constant", "optim": "sgd"} | arguments
    return DiffusionTrainer(
        recipe=recipes.load("diffuse", [*everything, *settings]),
        formulation=MaskedFormulation(AbsorbingProcess(Polynomial(), MASK)),
        batcher=PairBatcher(),
        denoiser_of=partial(make_denoiser, not_data=[MASK], mask_token_id=MASK),
        validate=validate,
        pace=pace,
        model=network(),
        args=TrainingArguments(
            output_dir=str(folder),
            report_to="none",
            disable_tqdm=True,
            save_strategy="no",
            use_cpu=True,
            remove_unused_columns=False,
            dataloader_pin_memory=False,
            log_level="error",
            **options,
        ),
        train_dataset=PairDataset(rows),
    )


def test_the_loss_of_an_accumulated_step_is_that_of_all_its_tokens(tmp_path):
    run = trainer(
        tmp_path,
        pair_rows((A, 16), (B, 240)),
        per_device_train_batch_size=1,
        gradient_accumulation_steps=2,
        learning_rate=1e-3,
    )
    # A network that says the same everywhere: 6 nats for one token, 4 for the other.
    chances = torch.tensor([0.0, math.exp(-6), math.exp(-4), 1.0, 0.0])
    chances[REST] = 1 - chances.sum() + 1.0
    with torch.no_grad():
        run.model.cls.predictions.decoder.weight.zero_()
        run.model.cls.predictions.decoder.bias.copy_(chances.clamp_min(1e-12).log())
    assert run.train().training_loss == pytest.approx((16 * 6 + 240 * 4) / 256, abs=1e-4)


@pytest.mark.parametrize(("batch", "accumulate"), [(2, 2), (1, 4)])
def test_a_step_is_the_same_whatever_it_is_cut_into(tmp_path, batch, accumulate):
    """Weights and loss after two steps of plain gradient descent, without any random choice."""
    rows = pair_rows((A, 3), (B, 11), (END, 40), (A, 200))

    def trained(batch: int, accumulate: int):
        run = trainer(
            tmp_path,
            rows,
            max_steps=2,
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=accumulate,
            learning_rate=0.1,
            max_grad_norm=0.0,
        )
        return run.train().training_loss, run.model.state_dict()

    loss, weights = trained(4, 1)
    other_loss, other_weights = trained(batch, accumulate)
    assert other_loss == pytest.approx(loss, rel=1e-5)
    for name, weight in weights.items():
        torch.testing.assert_close(other_weights[name], weight, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("linear", lambda gone: 1 - gone),
        ("cosine", lambda gone: (1 + math.cos(math.pi * gone)) / 2),
        ("constant", lambda gone: 1.0),
        ("warmup_stable_decay", lambda gone: min(1.0, (1 - gone) / 0.3)),
    ],
)
def test_the_named_schedule_follows_the_clock(tmp_path, name, expected):
    hand = Hand()
    settings = (f"training.lr_schedule={name}", "training.minutes=2", "training.warmup_steps=0")
    recipe = recipes.load("diffuse", settings).training
    pace = Pace(Clock(120, now=hand), recipe)
    run = trainer(tmp_path, pair_rows((A, 3)), *settings, pace=pace)
    optimizer = torch.optim.SGD(run.model.parameters(), lr=2.0)
    schedule = run.create_scheduler(1_000_000, optimizer)
    for seconds in (6, 30, 60, 119, 120, 130):
        hand.time = 1000 + seconds
        optimizer.step()
        schedule.step()
        gone = min(seconds / 120, 1)
        assert schedule.get_last_lr() == [pytest.approx(2 * expected(gone), abs=1e-5)]


def test_of_steps_and_minutes_the_rate_follows_what_ends_first(tmp_path):
    hand = Hand()
    settings = ("training.lr_schedule=linear", "training.minutes=2", "training.steps=4")
    recipe = recipes.load("diffuse", (*settings, "training.warmup_steps=0")).training
    run = trainer(
        tmp_path,
        pair_rows((A, 3)),
        *settings,
        "training.warmup_steps=0",
        pace=Pace(Clock(120, now=hand), recipe),
    )
    optimizer = torch.optim.SGD(run.model.parameters(), lr=1.0)
    schedule = run.create_scheduler(4, optimizer)
    for seconds, gone in ((1, 1 / 4), (90, 3 / 4), (91, 91 / 120)):
        hand.time = 1000 + seconds
        optimizer.step()
        schedule.step()
        schedule.last_epoch -= seconds == 90
        assert schedule.get_last_lr()[0] == pytest.approx(1 - gone, abs=1e-5)


def test_warm_up_ends_by_steps_or_by_its_share_of_the_time():
    # 65 steps in the whole budget, 100 steps of warm-up: the time ends it.
    slow = [rates.ramp(step, step / 65, steps=100, share=0.1) for step in range(65)]
    assert slow == sorted(slow)
    assert [factor == 1 for factor in slow] == [step / 65 >= 0.1 for step in range(65)]
    # 10,000 steps: the steps end it, after a hundredth of the time.
    assert rates.ramp(49, 49e-4, steps=100, share=0.1) == pytest.approx(0.5)
    assert rates.ramp(99, 99e-4, steps=100, share=0.1) == 1
    assert rates.ramp(0, 0.0, steps=0, share=0.1) == 1
    assert rates.ramp(0, 0.0, steps=100, share=0.0) == 1


@pytest.mark.parametrize(("steps", "share", "expected"), [(100, 0.1, 6), (5, 0.1, 5), (100, 1, 65)])
def test_warm_up_takes_at_most_its_share_of_the_steps(tmp_path, steps, share, expected):
    settings = (f"training.warmup_steps={steps}", f"training.warmup_share={share}")
    run = trainer(tmp_path, pair_rows((A, 3)), *settings, lr_scheduler_type="constant_with_warmup")
    optimizer = torch.optim.SGD(run.model.parameters(), lr=1.0)
    schedule = run.create_scheduler(65, optimizer)
    seen = []
    for _ in range(65):
        seen += schedule.get_last_lr()
        optimizer.step()
        schedule.step()
    assert sum(rate < 1 for rate in seen) == expected


@pytest.mark.parametrize("name", ["inverse_sqrt", "cosine_with_min_lr"])
def test_a_schedule_without_a_clock_is_refused(zoo, text_file, tmp_path, capsys, name):
    from unmask.cli import main

    line = ["train", "--data", str(text_file), "--model", str(zoo / "bert")]
    line += ["--out", str(tmp_path / "out"), "--set", "training.minutes=1"]
    assert main([*line, "--set", f"training.lr_schedule={name}", "--set", "data.length=24"]) == 2
    assert "cannot follow a time budget" in capsys.readouterr().err


@pytest.mark.parametrize("cost", [0.01, 1.0, 4.0, 30.0])
def test_what_takes_time_takes_a_share_of_a_budget_and_is_spread(cost):
    hand = Hand()
    clock = Clock(600, now=hand)
    allowance, begun = Allowance(clock), []
    for step in range(1, 301):
        hand.time += 2.0
        if allowance.due(step, every=1000):
            begun.append(clock.elapsed)
            with allowance.timed():
                hand.time += cost
    # The first of unknown cost comes after a tenth of the time at the earliest.
    assert begun[0] >= 60
    assert len(begun) * cost <= max(SHARE * clock.elapsed, cost)
    # It is no use to be stingy: what a share of the time pays for is done, ten times at most.
    assert len(begun) >= min(9, int(SHARE * 600 / cost), 10 if cost < 1 else 9) - 1
    assert not Allowance(Clock(600, now=hand)).due(1000, every=0)


def test_a_validation_costs_a_share_of_the_budget(tmp_path):
    settings = ("training.minutes=2", "training.batch_size=64", "training.gradient_accumulation=4")
    hand = Hand()
    pace = Pace(
        Clock(120, now=hand), recipes.load("diffuse", (*settings, "data.length=8")).training
    )
    # 40 seconds for a step of 256 rows.
    hand.time += 40
    state = SimpleNamespace(global_step=1)
    control = SimpleNamespace(should_training_stop=False)
    pace.on_step_end(None, state, control)
    assert pace.validation_rows() == int(SHARE * 120 * 256 / 40)
    hand.time += 400
    assert pace.validation_rows() == int(SHARE * 120 * 256 / 40), "one curve, the same rows"
    fast = Pace(Clock(120, now=hand), recipes.load("diffuse", ["training.minutes=2"]).training)
    hand.time += 0.01
    fast.on_step_end(None, state, control)
    assert fast.validation_rows() == recipes.load("diffuse").training.evaluation_rows


class Weights(TrainerCallback):
    """Keeps the weights after every step, as one vector."""

    def __init__(self) -> None:
        self.after: list[torch.Tensor] = []

    def on_step_end(self, args, state, control, model=None, **_):
        self.after.append(vector(model))


def vector(model) -> torch.Tensor:
    return torch.cat([p.detach().double().flatten() for p in model.parameters()])


@pytest.mark.parametrize("decay", [0.9999, 0.5])
def test_the_average_is_what_is_validated(tmp_path, decay):
    """The recursion a <- d a + (1 - d) w with d = min(decay, (1 + n) / (10 + n)), in float64."""
    judged: list[torch.Tensor] = []

    def validate(model, rows: int):
        judged.append(vector(model))
        return SCORE

    run = trainer(
        tmp_path,
        pair_rows((A, 3), (B, 30)),
        f"training.ema={decay}",
        validate=validate,
        max_steps=12,
        learning_rate=0.5,
    )
    weights, expected = Weights(), vector(run.model)
    run.add_callback(weights)
    run.train()
    for n, after in enumerate(weights.after):
        share = min(decay, (1 + n) / (10 + n))
        expected = share * expected + (1 - share) * after
    run.evaluate()
    torch.testing.assert_close(judged[-1], expected, rtol=1e-5, atol=1e-6)
    assert float((expected - weights.after[-1]).abs().max()) > 1e-3, "nothing to tell apart"
    assert torch.equal(vector(run.model), weights.after[-1]), "training goes on with its own"
    run.average.apply()
    torch.testing.assert_close(vector(run.model), expected, rtol=1e-5, atol=1e-6)


def test_a_short_run_is_not_averaged_with_its_first_weights():
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    average = WeightAverage(model, 0.9999)
    torch.nn.init.ones_(model.weight)
    for step in range(100):
        average.on_optimizer_step(None, SimpleNamespace(global_step=step), None)
    average.apply()
    # Of the first weights prod (1 + n) / (10 + n) is left, which is about 9! / 100^9 * 10.
    assert model.weight.item() == pytest.approx(1, abs=1e-6)


def test_the_average_of_another_network_is_refused(tmp_path):
    WeightAverage(torch.nn.Linear(1, 1), 0.9).save(tmp_path)
    other = WeightAverage(torch.nn.Linear(2, 1), 0.9)
    with pytest.raises(UserError, match=FILE):
        other.load(tmp_path)
    (tmp_path / FILE).write_bytes(b"garbage")
    with pytest.raises(UserError, match=FILE):
        other.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "ema"),
    [
        ("md4", 0.9999),
        ("genmd4", 0.9999),
        ("mdlm", 0.9999),
        ("d3pm-absorbing", 0.9999),
        ("d3pm-uniform", 0.9999),
        ("block-diffusion", 0.9999),
        ("roberta-diffusion", 0.0),
        ("mlm", 0.0),
        ("diffusionbert", 0.0),
    ],
)
def test_recipes_average_where_their_papers_do(name, ema):
    assert recipes.load(name).training.ema == ema
