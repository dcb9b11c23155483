"""Continue a prompt: several samples in one batch, and the same text again from the same seed.

python examples/generate.py
"""

from unmask import Unmasker


def main() -> None:
    unmasker = Unmasker.from_pretrained()  # or a directory, or a hub id such as "roberta-base"
    result = unmasker.generate(
        "The history of the town", length=40, num_samples=3, sampler="ancestral", steps=32, seed=7
    )
    for number, text in enumerate(result.texts):
        print(f"{number}: {text}\n")
    print(f"{result.nfe} network calls for three texts, {result.seconds:.2f} s")

    # A sample depends only on its seed and number, not on the rest of the batch.
    alone = unmasker.generate(
        "The history of the town", length=40, sampler="ancestral", steps=32, seed=7
    )
    print("the first one, generated alone, is the same text:", alone.texts[0] == result.texts[0])

    # A stream yields a frame after every denoising step.
    for frame in unmasker.stream("The history of the town", length=20, steps=4):
        masks = int(frame.undecided.sum())
        print(f"step {frame.step}: {masks} masks left, {frame.nfe} network calls so far")


if __name__ == "__main__":
    main()
