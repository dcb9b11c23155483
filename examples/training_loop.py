"""Train by hand: the bound of a small model falls on a few hundred sequences of one text.

python examples/training_loop.py

``unmask train`` adds what a long run needs: data of any size, validation, checkpoints, precision.
"""

import torch
from torch import Tensor

from unmask import Unmasker
from unmask.diffusion import continuous_nelbo, stratified_times

TEXT = "The river runs through the town and into the sea . "
LENGTH, BATCH, STEPS = 32, 16, 20


def train(unmasker: Unmasker, x0: Tensor, steps: int = STEPS, lr: float = 1e-4) -> list[float]:
    """Minimise the continuous-time bound and return it for every step, in nats per token.

    Args:
        unmasker: The model, which is changed in place.
        x0: Token ids, shape (N, L), int64.
        steps: Optimiser steps.
        lr: Learning rate.
    """
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(unmasker.model.parameters(), lr=lr)
    process = unmasker.formulation.process
    losses = []
    unmasker.model.train()
    for _ in range(steps):
        batch = x0[torch.randint(len(x0), (BATCH,), generator=generator)]
        # Every position is modelled; a prompt or padding would be False here.
        editable = torch.ones_like(batch, dtype=torch.bool)
        # Times that cover (0, 1] evenly reduce the variance of the batch mean.
        t = stratified_times(len(batch), generator)
        loss = continuous_nelbo(unmasker.denoiser, process, batch, t, editable, generator).per_token
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    unmasker.model.eval()
    return losses


def main() -> None:
    unmasker = Unmasker.from_pretrained(device="cpu", backend="torch")
    ids = torch.tensor(unmasker.codec.encode(TEXT * 200))
    losses = train(unmasker, ids[: len(ids) // LENGTH * LENGTH].view(-1, LENGTH))
    for step, loss in enumerate(losses):
        print(f"step {step:2}: at most {loss:.3f} nats per token")
    print(unmasker.generate("The river", length=9, steps=9, seed=0).texts[0])


if __name__ == "__main__":
    main()
