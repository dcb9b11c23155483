"""Bound the likelihood of texts, in units that do not depend on the tokenizer.

python examples/score.py
"""

from unmask import Unmasker

TEXTS = {
    "as it was": "The river runs through the town and into the sea .",
    "shuffled": "sea the into runs . town through and The river the",
}


def main() -> None:
    writer = Unmasker.from_pretrained()
    for name, text in TEXTS.items():
        score = writer.score(text, draws=64, seed=0)
        print(
            f"{name:10} at most {score.nats:.1f} nats in {score.tokens} tokens, "
            f"{score.characters} characters: {score.bits_per_char:.3f} bits per character"
        )

    # A longer text is cut into rows, and the spread over rows gives a confidence interval.
    score = writer.score("\n".join(TEXTS.values()) * 60, draws=4, seed=0)
    low, high = score.interval("bits_per_char")
    print(f"long text  {score.bits_per_char:.3f}, 95 % interval {low:.3f} to {high:.3f}")


if __name__ == "__main__":
    main()
