"""What the commands do with a model of images in place of one of texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from unmask.cli import options, printing
from unmask.cli.declared import together
from unmask.errors import UserError
from unmask.validation import require

if TYPE_CHECKING:
    import numpy as np

    from unmask.pipelines.image_autoregressor import ImageAutoregressor
    from unmask.pipelines.images import GeneratedImages, ImageUnmasker
    from unmask.sampling.canvas import Frame

OUTPUT = ("as_json", "frames", "gif", "html", "no_animate", "grid_file", "out", "overwrite")
"""Parameters that say where the images go."""
CALLED = (*OUTPUT, "model", "device", "backend", "cache", "num_samples", "seed", "label")
INFILLING = ("template", "mask", "colorize", "upscale")

SCORING = ("text", "model", "draws", "seed", "as_json", "device", "backend")

grid = click.option(
    "--grid", "grid_file", type=options.PLACE, help="Draw the images of a model of images (PNG)."
)
masks = together(
    click.option("--mask", type=options.PLACE, help="Of an image: generate what is white here."),
    click.option("--colorize", is_flag=True, help="Of a grey image: generate the colours."),
    click.option("--upscale", is_flag=True, help="Of a small image: generate the pixels between."),
)


def refuse_for_text(**values: Any) -> None:
    """Raise a UserError for an option of images beside a model of texts."""
    if values.get("grid_file") is not None:
        raise UserError(
            "--grid draws the images of a model of images, and this one writes text; the times of "
            "the steps are --grid-times"
        )
    for name, value in values.items():
        require((f"--{name}", not value, "a model of images, and an image in place of TEMPLATE"))


def open_pictures(
    name: str, device: str | None, backend: str, cache: str = "exact"
) -> ImageUnmasker | ImageAutoregressor:
    """Open a model of images."""
    with options.loading():
        options.quiet_libraries()
        from unmask.models.loading import load_card
        from unmask.pipelines.image_autoregressor import ImageAutoregressor
        from unmask.pipelines.images import ImageUnmasker

        card = load_card(name)
        if card is not None and card.kind == "causal":
            if backend not in ("auto", "torch"):
                raise UserError(f"{name} is autoregressive; {backend} is for diffusion models")
            return ImageAutoregressor.from_pretrained(name, device)
        return ImageUnmasker.from_pretrained(name, device, backend, cache)


def generate(model: str, device: str | None, backend: str, cache: str, **values: Any) -> None:
    """Generate images and write them where the options say."""
    _check_options()
    check_output(values)
    pipeline = open_pictures(model, device, backend, cache)
    write(pipeline, pipeline.generate, values)


def infill(
    template: str | None, model: str, device: str | None, backend: str, cache: str, **values: Any
) -> None:
    """Generate the masked part of an image and write the result where the options say."""
    from unmask.data import image_masks
    from unmask.data.images import read_image
    from unmask.pipelines.images import ImageUnmasker

    _check_options(*INFILLING)
    check_output(values)
    if template is None:
        raise UserError("there is no image; name one, as in: unmask infill photo.png --mask m.png")
    mask, colorize, upscale = (values.pop(name) for name in INFILLING[1:])
    if sum((mask is not None, colorize, upscale)) != 1:
        raise UserError("say what to generate by one of --mask FILE, --colorize and --upscale")
    pipeline = open_pictures(model, device, backend, cache)
    if not isinstance(pipeline, ImageUnmasker):
        raise UserError(f"{model} is autoregressive; a model trained with masks is needed here")
    shape = pipeline.codec.shape
    image = read_image(template, channels=shape[2], note=options.note)
    if upscale:
        image, free = image_masks.spread(image, shape)
    elif colorize:
        free = image_masks.colours(shape)
    else:
        free = image_masks.from_image(read_image(mask, channels=1, note=options.note), shape)
    write(pipeline, partial(pipeline.infill, image, free), values)


def score(
    source: str | None,
    model: str,
    device: str | None,
    backend: str,
    draws: int | None,
    seed: int,
    as_json: bool,
) -> None:
    """Bound -log p of an image, or of a set of images."""
    from unmask.evaluation import report

    options.refuse_beside("this is a model of images", *SCORING)
    if source is None:
        raise UserError("there is no image; name one, or a folder of them")
    pipeline: Any = open_pictures(model, device, backend)
    rows = pipeline.rows(read_for(pipeline, source, "all"))
    if hasattr(pipeline, "formulation"):
        found = pipeline.score(rows, draws=draws, seed=seed)
    else:
        require(("--draws", draws is None, "a model with masks; this one is exact"))
        found = pipeline.score(rows, seed=seed)
    printing.record(found.as_dict()) if as_json else printing.result("\n".join(report.lines(found)))


def read_for(pipeline: Any, source: str, split: str = "test", field: str = "image") -> Any:
    """Return the images of a source, of the size and the channels that a model was trained on."""
    from unmask.data.images import read_images

    recipe = pipeline.card.training.get("recipe", {})
    resize = recipe.get("images", {}).get("resize") or None
    if resize is not None:
        options.note(f"the images are resized to {resize} x {resize}, as in training")
    return read_images(
        source,
        split=split,
        field="image" if field == "text" else field,
        resize=resize,
        channels=pipeline.codec.channels,
        note=options.note,
    )


def _check_options(*more: str) -> None:
    """Raise a UserError for an option that was given and is for texts."""
    from unmask.sampling.samplers.registry import OPTIONS

    own = {*CALLED, *more, "sampler", "guidance_scale", *OPTIONS}
    options.refuse_beside("this is a model of images", *own)


def check_output(values: dict[str, Any]) -> None:
    """Raise a UserError if the images could not be written where the options say."""
    from unmask.files import check_writable

    for name in ("data", "field", "resume"):
        values.pop(name, None)
    options.check_pictures(
        frames=values["frames"], gif=values["gif"], html=values["html"], grid=values["grid_file"]
    )
    out = values["out"]
    require(("--overwrite", not values["overwrite"] or out is not None, "--out"))
    if out is None:
        return
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; --out is the folder of the images here")
    check_writable(out / "0.png" if out.is_dir() else out)
    if out.is_dir() and any(out.iterdir()) and not values["overwrite"]:
        raise UserError(f"{out} is not empty; choose another folder, or pass --overwrite")


def write(
    pipeline: Any, work: Callable[..., GeneratedImages], values: dict[str, Any]
) -> GeneratedImages:
    """Generate, shown live in a terminal; write files, and print JSON or the images.

    Args:
        pipeline: The model.
        work: One of its methods, with the image bound.
        values: The options of the command, those of ``work`` among them.
    """
    output = {name: values.pop(name) for name in OUTPUT}
    chosen = {k: v for k, v in values.items() if options.is_given(k) or k in ("num_samples",)}
    console = options.console()
    live = console.is_terminal and not output["no_animate"] and hasattr(pipeline, "formulation")
    result = watched(pipeline, work, console, **chosen) if live else work(**chosen)
    printing.detail(f"generated in {result.seconds:.2f} s, {result.nfe} network calls")
    save(result, output)
    if output["as_json"]:
        printing.record(result.as_dict())
    elif not any(output[name] for name in ("grid_file", "out", "gif", "html", "frames")):
        printing.result(_as_text(result.images))
    return result


def save(result: GeneratedImages, output: dict[str, Any]) -> None:
    """Write the files that the options name."""
    from unmask.render.pictures import save_grid, save_png

    if output["grid_file"] is not None:
        scale = max(1, 256 // max(result.images.shape[1:3]) // 4)
        save_grid(output["grid_file"], result.images, scale=scale)
    if output["out"] is not None:
        output["out"].mkdir(exist_ok=True)
        digits = len(str(len(result.images) - 1))
        for number, image in enumerate(result.images):
            save_png(output["out"] / f"{number:0{digits}}.png", image)
    pictures = {name: output[name] for name in ("frames", "gif", "html")}
    require(("a recording", result.tracks or not any(pictures.values()), "a model with masks"))
    options.save_picture_tracks(result.tracks, **pictures)


def watched(
    pipeline: ImageUnmasker,
    work: Callable[..., GeneratedImages],
    console: Any,
    **values: Any,
) -> GeneratedImages:
    """Generate while showing the images of a batch."""
    from unmask.pipelines.images import picture
    from unmask.render.picture_terminal import LivePicture

    label = str(values.get("sampler") or pipeline.card.sampler.get("name", ""))
    with LivePicture(console, label) as live:

        def watch(frame: Frame, seconds: float) -> None:
            rows: Sequence[int] = range(min(len(frame.ids), 16))
            live.update(*(picture(pipeline.codec, frame, seconds, row) for row in rows))

        return work(watch=watch, **values)


def _as_text(images: np.ndarray) -> str:
    """Return images for a terminal or a pipe."""
    import numpy as np

    from unmask.pipelines.picture_trace import PictureFrame
    from unmask.render.picture_terminal import as_text

    def frame(image: np.ndarray) -> PictureFrame:
        nothing = np.zeros(image.shape, dtype=bool)
        return PictureFrame(0, 0.0, 0, image, nothing, nothing)

    return "\n\n".join(as_text(frame(image)) for image in images)
