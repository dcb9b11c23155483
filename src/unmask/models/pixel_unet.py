"""A U-Net of diffusers as a masked language model over sub-pixels.

    ids (B, 1 + H W C) -> embeddings (B, C d, H, W) -> UNet2DModel -> hidden states
    (B, 1 + H W C, D) -> a linear head -> logits (B, 1 + H W C, V)

So a U-Net is loaded, trained, conditioned and called like every encoder of transformers; its head
runs at the queried sub-pixels only. The V ids are the K values, the mask and the classes; the
denoiser rules the latter out. The first token is the class of the image, see ``data.pixels``;
its embedding and that of the time are added in every residual block. The head and the last
convolution of every residual block are initialised to zero: the first loss is exactly log K per
sub-pixel.

Reference: Shi et al. 2024, "MD4", arXiv:2406.04329, Appendix I. Its network has no down-sampling:
one entry in ``block_out_channels``, with an attention in the middle.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers import AutoConfig, AutoModelForMaskedLM, PreTrainedConfig, PreTrainedModel

from unmask.data.pixels import PixelCodec
from unmask.errors import UserError, did_you_mean, explained, optional_library
from unmask.models.compat import BaseModelOutput, MaskedLMOutput
from unmask.models.logistic_head import LogisticHead

TYPE = "pixel-unet"
HEADS = ("categorical", "logistic")
SHAPE = ("height", "width", "channels", "levels", "num_classes")
"""Keys of the configuration that follow from the data."""


class PixelUNetConfig(PreTrainedConfig):
    """The shape of the images and of the network.

    Args:
        height: Of the images, like ``width``, ``channels`` and ``levels``; see ``data.pixels``.
        num_classes: Classes of the images; 0 for none.
        embedding_size: d, the width of the embedding of a sub-pixel.
        hidden_size: D, the width of the last hidden state of a sub-pixel.
        block_out_channels: Channels of each resolution; each after the first halves it.
        layers_per_block: Residual blocks of each resolution on the way down; one more on the way
            up.
        attention_resolutions: Which entries of ``block_out_channels`` have attention.
        attention_head_dim: Width of an attention head; 0 for a single head.
        dropout: In the residual blocks.
        norm_num_groups: Groups of the normalisation.
        head: ``categorical``: a logit per value; ``logistic``: a place and a scale, see
            ``logistic_head``, for Gaussian noise.
    """

    model_type = TYPE

    def __init__(
        self,
        height: int = 8,
        width: int = 8,
        channels: int = 1,
        levels: int = 256,
        num_classes: int = 0,
        embedding_size: int = 32,
        hidden_size: int = 64,
        block_out_channels: tuple[int, ...] | list[int] = (64,),
        layers_per_block: int = 2,
        attention_resolutions: tuple[int, ...] | list[int] = (),
        attention_head_dim: int = 0,
        dropout: float = 0.0,
        norm_num_groups: int = 32,
        head: str = "categorical",
        **others: Any,
    ) -> None:
        self.height, self.width, self.channels = height, width, channels
        self.levels, self.num_classes = levels, num_classes
        self.embedding_size, self.hidden_size = embedding_size, hidden_size
        self.block_out_channels = list(block_out_channels)
        self.layers_per_block = layers_per_block
        self.attention_resolutions = list(attention_resolutions)
        self.attention_head_dim = attention_head_dim
        self.dropout, self.norm_num_groups = dropout, norm_num_groups
        if head not in HEADS:
            raise UserError(f"unknown head {head!r}{did_you_mean(head, HEADS)}")
        self.head = head
        self.vocab_size = levels + 1 + num_classes
        self.max_position_embeddings = 1 + height * width * channels
        self.mask_token_id = levels
        others.pop("vocab_size", None)
        others.pop("max_position_embeddings", None)
        others.pop("mask_token_id", None)
        super().__init__(**others)


class PixelUNet(nn.Module):
    """The body: hidden states of every sub-pixel, and none for the class.

    Attributes:
        time: Shape (B,), the times of the next call; None for a network without the time.
    """

    def __init__(self, config: PixelUNetConfig) -> None:
        super().__init__()
        self.config = config
        self.time: Tensor | None = None
        width = config.channels * config.embedding_size
        self.embeddings = nn.Embedding(config.vocab_size, config.embedding_size)
        self.unet = _unet(config, width, config.channels * config.hidden_size)
        self.label = nn.Linear(config.embedding_size, 4 * config.block_out_channels[0])

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **_: Any
    ) -> BaseModelOutput:
        """Return hidden states (B, L, D) of ids (B, L); a row that is cut short ends in masks."""
        config, (rows, length) = self.config, input_ids.shape
        if attention_mask is not None:
            input_ids = input_ids.masked_fill(attention_mask == 0, config.levels)
        missing = config.max_position_embeddings - length
        words = self.embeddings(pad(input_ids, (0, missing), value=config.levels))
        shape = (rows, config.height, config.width, -1)
        image = words[:, 1:].reshape(shape).permute(0, 3, 1, 2)
        if self.training and image.device.type == "cpu":
            # The strides are those of channels_last, which convolutions would keep. A training step
            # on a CPU is faster without: by 3 to 6 % in float32, 14 % or more in bfloat16.
            image = image.contiguous()
        time = torch.zeros(rows, device=image.device) if self.time is None else self.time
        # A sinusoid of t in [0, 1] would hardly vary; the papers scale by 1000.
        steps, label = 1000 * time.float(), self.label(words[:, 0])
        drawn = self.unet(image, steps, class_labels=label, return_dict=False)[0]
        hidden = drawn.permute(0, 2, 3, 1).reshape(rows, -1, config.hidden_size)
        hidden = pad(hidden, (0, 0, 1, 0))[:, :length]
        if config.head == "logistic":
            # The head starts from the noised value, which must reach it with its hidden state.
            hidden = torch.cat([hidden, input_ids[..., None].to(hidden.dtype)], -1)
        return BaseModelOutput(last_hidden_state=hidden)


class _FromNoised(nn.Module):
    """A linear layer and the truncated logistic, from hidden states (..., D + 1) to logits."""

    def __init__(self, config: PixelUNetConfig) -> None:
        super().__init__()
        self.linear = nn.Linear(config.hidden_size, 2)
        self.logistic = LogisticHead(config.levels)
        self.others = config.vocab_size - config.levels
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return logits, shape (..., V); 0 for the ids that are no levels."""
        loc, log_scale = self.linear(hidden[..., :-1]).unbind(-1)
        logits: Tensor = self.logistic(loc, log_scale, hidden[..., -1].round().long())
        return pad(logits, (0, self.others))


class PixelUNetForMaskedLM(PreTrainedModel):
    """The U-Net with a head over the values of a sub-pixel."""

    config_class = PixelUNetConfig
    base_model_prefix = "body"
    main_input_name = "input_ids"

    def __init__(self, config: PixelUNetConfig) -> None:
        super().__init__(config)
        self.body = PixelUNet(config)
        self.head: nn.Module = (
            _FromNoised(config)
            if config.head == "logistic"
            else nn.Linear(config.hidden_size, config.vocab_size)
        )
        self.post_init()  # type: ignore[no-untyped-call]

    def _init_weights(self, module: nn.Module) -> None:
        # Every other module initialises itself; transformers would do it again.
        if module is self.head and isinstance(module, nn.Linear):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)

    def get_input_embeddings(self) -> nn.Module:
        return self.body.embeddings

    def get_output_embeddings(self) -> nn.Module:
        return self.head

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **_: Any
    ) -> MaskedLMOutput:
        """Return logits (B, L, V) of ids (B, L); those at the class mean nothing."""
        hidden = self.body(input_ids, attention_mask).last_hidden_state
        return MaskedLMOutput(logits=self.head(hidden))


def check_shape(config: Any, codec: PixelCodec) -> None:
    """Raise a UserError unless a network is for the images that its card describes.

    Args:
        config: Of any network; one that is no U-Net does not say what its images are.
        codec: Their layout.
    """
    needed = dict(zip(SHAPE, (*codec.shape, codec.levels, len(codec.classes)), strict=True))
    for key, wanted in needed.items():
        found = getattr(config, key, wanted) if config.model_type == TYPE else wanted
        if found != wanted:
            raise UserError(
                f"the network has {key} = {found}, but unmask.json says {wanted}; train or save "
                "the model again"
            )


def register() -> None:
    """Make the library's ``Auto`` classes know the U-Net; once is enough, twice does no harm."""
    AutoConfig.register(TYPE, PixelUNetConfig, exist_ok=True)
    AutoModelForMaskedLM.register(PixelUNetConfig, PixelUNetForMaskedLM, exist_ok=True)


def _unet(config: PixelUNetConfig, inputs: int, outputs: int) -> nn.Module:
    """Return the U-Net of diffusers.

    Raises:
        UserError: If diffusers is missing, or refuses a number.
    """
    with optional_library("a model of images", "images"):
        from diffusers import UNet2DModel
    sizes, attends = config.block_out_channels, {*config.attention_resolutions}
    strange = sorted(attends - {*range(len(sizes))})
    if strange:
        raise UserError(
            f"attention_resolutions has {strange[0]}, but block_out_channels has the entries 0 to "
            f"{len(sizes) - 1}; name some of these"
        )
    halvings = 2 ** (len(sizes) - 1)
    if config.height % halvings or config.width % halvings:
        raise UserError(
            f"a U-Net of {len(sizes)} resolutions halves images {len(sizes) - 1} times, and "
            f"{config.height} x {config.width} cannot be; take fewer block_out_channels, or resize"
        )
    down = [f"{'Attn' * (i in attends)}DownBlock2D" for i in range(len(sizes))]
    up = [f"{'Attn' * (i in attends)}UpBlock2D" for i in reversed(range(len(sizes)))]
    with explained("diffusers cannot make a U-Net of these sizes", "change model.config"):
        network: Any = UNet2DModel
        unet: Any = network(
            sample_size=(config.height, config.width),
            in_channels=inputs,
            out_channels=outputs,
            block_out_channels=tuple(sizes),
            layers_per_block=config.layers_per_block,
            down_block_types=tuple(down),
            up_block_types=tuple(up),
            # Without a width, a block has a single head as wide as its channels.
            attention_head_dim=config.attention_head_dim or None,
            dropout=config.dropout,
            norm_num_groups=config.norm_num_groups,
            class_embed_type="identity",
        )
    for module in unet.modules():
        if type(module).__name__ == "ResnetBlock2D":
            nn.init.zeros_(module.conv2.weight)
            nn.init.zeros_(module.conv2.bias)
    return unet
