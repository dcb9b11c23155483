"""Weights and operations of the networks of images, and what the published runs take.

    python -m benchmarks.image_sizes

Prints a Markdown table. Operations are those of one forward pass of one image, counted by torch on
the meta device; a multiplication and an addition are two. A training step takes three such passes.
"""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForMaskedLM

from unmask.models import pixel_unet
from unmask.training import recipe_file as recipes

SIZES = {
    "digits": (8, 8, 1),
    "mnist": (28, 28, 1),
    "md4-pixels": (32, 32, 3),
    "cifar10": (32, 32, 3),
    "imagenet64-small": (64, 64, 3),
    "imagenet64": (64, 64, 3),
}
SPEED = 4e14
"""Operations per second of an accelerator: 40 % of what an H100 does in bfloat16."""


def main() -> None:
    """Print the table."""
    pixel_unet.register()
    print("| recipe | weights | images seen | GFLOP an image | FLOP of the run | hours |")
    print("|---|---|---|---|---|---|")
    for name, (height, width, channels) in SIZES.items():
        recipe = recipes.load(name)
        shape = (height, width, channels, recipe.images.levels, 10 * recipe.images.classes)
        about = dict(zip(pixel_unet.SHAPE, shape, strict=True)) | recipe.model.config
        with torch.device("meta"), FlopCounterMode(display=False) as counter:
            model = AutoModelForMaskedLM.from_config(AutoConfig.for_model(pixel_unet.TYPE, **about))
            model(torch.zeros(1, 1 + height * width * channels, dtype=torch.int64))
        weights = sum(weight.numel() for weight in model.parameters())
        seen = recipe.training.steps * recipe.training.batch_size
        once = counter.get_total_flops()
        total = 3 * once * seen
        print(
            f"| {name} | {weights / 1e6:.1f} M | {seen / 1e6:,.2f} M | {once / 1e9:.2f} "
            f"| {total:.1e} | {total / SPEED / 3600:,.1f} |"
        )


if __name__ == "__main__":
    main()
