"""Everything stays on the device of the network: run on a pretend one, and equal to the CPU's.

The device is registered for a whole process, so each test has one of its own.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

CASES = ("samplers", "steering", "kinds", "losses")


@pytest.mark.parametrize("case", CASES)
def test_nothing_is_left_on_the_cpu(zoo, case):
    pytest.importorskip("torch.utils.backend_registration")
    command = [sys.executable, __file__, case, str(zoo)]
    path = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=path)
    assert done.returncode == 0, done.stderr


def test_what_is_left_on_the_cpu_is_found():
    code = "import torch, elsewhere\nwith elsewhere.there() as far: torch.ones(2, device=far) + {}"
    for other, fails in (("torch.ones(2)", True), ("torch.ones(2, device=far)", False)):
        command = [sys.executable, "-c", code.format(other)]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1]
        )
        assert ("1 tensors elsewhere and 1 of the CPU" in done.stderr) is fails
        assert (done.returncode != 0) is fails


Results = tuple[Sequence[str], Sequence[float]]


def _equal_on(device: str, run: Callable[[str], Results]) -> None:
    """Compare texts and numbers; these to rounding, for attention adds up in another order."""
    import torch

    (texts, numbers), (far_texts, far_numbers) = run("cpu"), run(device)
    assert texts == far_texts, f"{texts} on the CPU, {far_texts} elsewhere"
    torch.testing.assert_close(far_numbers, numbers, rtol=1e-4, atol=1e-5)


def _samplers(zoo: Path, device: str) -> None:
    from unmask import Unmasker
    from unmask.sampling.samplers.registry import SAMPLERS

    for name in SAMPLERS:

        def run(where: str, name: str = name) -> Results:
            writer = Unmasker.from_pretrained(str(zoo / "roberta"), where, "torch")
            options = {"length": 12, "steps": 6, "num_samples": 2, "ban": ["dog"]}
            return writer.generate("The cat", sampler=name, **options).texts, ()

        _equal_on(device, run)


def _steering(zoo: Path, device: str) -> None:
    from unmask import Unmasker

    def run(where: str, cache: str = "exact") -> Results:
        writer = Unmasker.from_pretrained(str(zoo / "bert"), where, "torch", cache)
        infilled = writer.infill("the [MASK:1-4] sat on [MASK].", steps=3, repetition_penalty=1.5)
        ended = writer.generate("the cat", length=12, stop_at_end=True, top_k=9, top_p=0.9)
        slid = writer.generate("the cat", length=80, window=30, stride=10, steps=4)
        rows = writer.top("the [MASK:2] sat on [MASK].", 3)
        tokens = tuple(candidate.token for row in rows for candidate in row)
        chances = [candidate.probability for row in rows for candidate in row]
        return infilled.texts + ended.texts + slid.texts + tokens, chances

    def steered(where: str) -> Results:
        writer = Unmasker.from_pretrained(str(zoo / "bert"), where, "torch")
        guided = writer.generate("the cat", length=9, steps=3, guidance_scale=1.5)
        matched = writer.generate("the cat", length=9, steps=3, matching="[a-z ]*")
        return guided.texts + matched.texts, ()

    _equal_on(device, run)
    _equal_on(device, lambda where: run(where, "frozen"))
    _equal_on(device, steered)


def _kinds(zoo: Path, device: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

    from unmask import Unmasker
    from unmask.data.text import TextCodec
    from unmask.models.checkpoint import Card
    from unmask.models.extra_weights import equip
    from unmask.models.ordered_attention import attach
    from unmask.pipelines.autoregressor import Autoregressor

    spindle = {"name": "spindle", "strength": 0.3}
    kinds = {
        "any order": Card(attention="any-order"),
        "blocks": Card(kind="block", block_length=4),
        "uniform": Card(process="uniform", num_steps=50),
        "spindle": Card(schedule=spindle),
        "GenMD4": Card(schedule={"name": "learned"}, time="adaln"),
    }
    for name, card in kinds.items():

        def run(where: str, name: str = name, card: Card = card) -> Results:
            auto = AutoModelForCausalLM if name == "blocks" else AutoModelForMaskedLM
            model = auto.from_pretrained(zoo / ("llama" if name == "blocks" else "roberta"))
            torch.manual_seed(0)
            equip(model, card.time, card.schedule)
            if name == "any order":
                attach(model)
            codec = TextCodec(AutoTokenizer.from_pretrained(zoo / "roberta"))
            counts = torch.arange(model.config.vocab_size)
            writer = Unmasker(model.to(where), codec, card, counts)
            texts = writer.generate("The cat", length=10, steps=5, num_samples=2).texts
            return texts, [writer.score("The cat sat on the mat.", draws=2).nats]

        _equal_on(device, run)

    def autoregressive(where: str) -> Results:
        writer = Autoregressor.from_pretrained(str(zoo / "gpt2"), where, "torch")
        return (), [writer.score("The cat sat on the mat.").nats]

    _equal_on(device, autoregressive)


def _losses(_zoo: Path, device: str) -> None:
    import torch

    from test_learning import METHODS, encoder
    from unmask.diffusion.formulation import TransitionFormulation
    from unmask.diffusion.objectives.chain_rule import left_to_right_ranks, pseudo_token_nats
    from unmask.diffusion.registry import make_formulation
    from unmask.diffusion.schedules.grids import time_grid
    from unmask.models.encoder import EncoderDenoiser
    from unmask.models.extra_weights import equip, learned_of

    for process, schedule, num_steps, weight, time in METHODS.values():

        def run(
            where: str, process=process, schedule=schedule, steps=num_steps, w=weight, time=time
        ) -> Results:
            model = encoder()
            equip(model, time, schedule)
            model.to(where).tie_weights()
            denoiser = EncoderDenoiser(model, [2])
            formulation = make_formulation(
                process,
                schedule,
                mask_token_id=2,
                vocab_size=3,
                data_ids=denoiser.data_ids,
                num_steps=steps,
                cross_entropy_weight=w,
                counts=torch.tensor([11_000, 9_000, 0], device=where),
                learned=learned_of(model),
                ordered=True,
            )
            x0 = torch.tensor([[0, 1], [1, 1], [0, 0]], device=where)
            times = torch.tensor([0.2, 0.5, 0.9], device=where)
            rng = torch.Generator(where).manual_seed(0)
            everywhere = torch.ones_like(x0, dtype=torch.bool)
            _, nats = formulation.objective(
                denoiser, x0=x0, t=times, editable=everywhere, generator=rng
            )
            nats.sum().backward()
            with torch.no_grad():
                batch = {"x0": x0, "t": times, "editable": everywhere, "generator": rng}
                judged = [formulation.bound(denoiser, **batch).nats]
                if not formulation.num_steps:
                    grid = time_grid(4, "cosine")
                    judged += [formulation.in_steps(4, grid)(denoiser, **batch).nats]
                if not isinstance(formulation, TransitionFormulation):
                    order = {"rank": left_to_right_ranks(everywhere), "editable": everywhere}
                    judged += [formulation.token_nats(denoiser, x0=x0, **order).sum(1)]
                    judged += [
                        pseudo_token_nats(denoiser, formulation.process, x0, everywhere).sum(1)
                    ]
            slopes = [p.grad.norm().item() for p in model.parameters() if p.grad is not None]
            return (), [*nats.tolist(), *torch.cat(judged).tolist(), *slopes]

        _equal_on(device, run)


if __name__ == "__main__":
    os.environ["HF_HUB_OFFLINE"] = "1"
    import elsewhere

    with elsewhere.there() as far:
        globals()[f"_{sys.argv[1]}"](Path(sys.argv[2]), far)
    # Torch's thread for the gradients of a pretend device now and then aborts at a usual exit.
    os._exit(0)
