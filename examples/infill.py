"""Write on the blanks of a text, also where their length is not known.

python examples/infill.py
"""

from unmask import Unmasker

TEMPLATES = [
    "The film was directed by [MASK:2] and released in [MASK] .",
    "He was born in [MASK:1-4] , where his father worked as a [MASK:1-2] .",
]


def main() -> None:
    writer = Unmasker.from_pretrained()
    # A length within a range is drawn by how well it explains the given text, before writing.
    result = writer.infill(TEMPLATES, num_samples=2, seed=3)
    for text in result.texts:
        print(text)
    print(f"{result.nfe} network calls, judging of the lengths included")

    # Certain tokens first, and always the likeliest: the same text whatever the seed.
    sure = writer.infill(TEMPLATES[0], sampler="threshold")
    print(sure.texts[0])


if __name__ == "__main__":
    main()
