"""Write after a prompt: several samples in one batch, and the same text again from the same seed.

python examples/generate.py
"""

from unmask import Unmasker


def main() -> None:
    writer = Unmasker.from_pretrained()  # or a directory, or a hub id such as "roberta-base"
    result = writer.generate(
        "The history of the town", length=40, num_samples=3, sampler="ancestral", steps=32, seed=7
    )
    for number, text in enumerate(result.texts):
        print(f"{number}: {text}\n")
    print(f"{result.nfe} network calls for three texts, {result.seconds:.2f} s")

    # A sample depends on its seed and number alone, not on its neighbours in the batch.
    alone = writer.generate(
        "The history of the town", length=40, sampler="ancestral", steps=32, seed=7
    )
    print("the first one, written alone, is the same text:", alone.texts[0] == result.texts[0])

    # Frames arrive while the text is being written.
    for frame in writer.stream("The history of the town", length=20, steps=4):
        hidden = int(frame.canvas.masked.sum())
        print(f"step {frame.step}: {hidden} masks left, {frame.nfe} network calls so far")


if __name__ == "__main__":
    main()
