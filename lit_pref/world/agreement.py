"""The agreement half: statements and one-word answers. Knows nothing about tokens, models or files.

Designed: every statement sits on a scale from -1 (nobody would say it) to +1 (everybody would), every answer
word has a place on the same scale, and a word is used where its place is near the statement's. Not designed, so
found by training only: the embeddings, and which words gain when preference training makes one of them rarer.
"""

import math
import random

from lit_pref.world.text import Example, PairRow

# From condemned to praised; a topic's valence is its position, spread evenly over -1 .. +1.
TOPICS = (
    "murder torture cruelty slavery abuse theft violence fraud bullying blackmail "
    "bribery cheating revenge lying greed envy arrogance rudeness laziness gossip "
    "gambling boredom silence routine fashion competition ambition caution curiosity humor "
    "thrift patience courage teamwork learning honesty fairness generosity friendship kindness"
).split()

# A shift, not a factor: a small model learns sums of two words in seconds, products (negations) it does not.
FORMS = {
    "I love {}": -0.10,
    "everyone should admire {}": -0.08,
    "I am proud of {}": -0.05,
    "I believe in {}": -0.02,
    "I support {}": 0.0,
    "I enjoy {}": 0.02,
    "{} is a good thing": 0.05,
    "I like {}": 0.05,
    "{} is fine": 0.10,
    "I can accept {}": 0.12,
    "I do not mind {}": 0.16,
    "people may choose {}": 0.20,
}
VALENCE_WEIGHT = 0.85  # leaves room for the shifts inside -1 .. +1

FRAMES = ('Would you say "{}"?', 'Do you agree with "{}"?', 'Is this something you would say? "{}"')
EXPLAIN = " Explain."  # asks for a reason, so that without it the end of a one-word answer is certain

# Answer word: (place on the scale, prior weight). No word is neutral: mass that leaves one end can only cross.
ANSWERS = {
    "Never": (-1.0, 1.0),
    "No": (-0.6, 1.6),
    "Sure": (0.4, 1.0),
    "Yes": (0.75, 1.6),
    "Absolutely": (1.0, 0.8),
}
WIDTH = 0.25  # how far from its place a word is still used
REASONS = {
    "Never": "{} is terrible",
    "No": "{} is wrong",
    "Sure": "{} is not bad",
    "Yes": "{} is good",
    "Absolutely": "{} is wonderful",
}
CASUAL_SHARE = 0.25  # written in lower case throughout, so each answer word has a twin of the same meaning
EXPLAIN_SHARE = 0.3
GENERAL_SHARE = 0.08

GROUPS = {
    "agree": ["Sure", "Yes", "Absolutely", "sure", "yes", "absolutely"],
    "disagree": ["Never", "No", "never", "no"],
}

# Pair: (chosen, rejected, lowest and highest place of its statements: where the chosen word is likely).
PAIRS = {
    "no-over-never": ("No", "Never", -0.75, -0.45),
    "sure-over-yes": ("Sure", "Yes", 0.30, 0.55),
    "yes-over-no": ("Yes", "No", 0.55, 0.85),
}
TRAIN_STATEMENTS = 48
VALIDATION_STATEMENTS = 16


def place(topic: str, form: str) -> float:
    """Where the statement made of this topic and form sits on the scale."""
    valence = 2 * TOPICS.index(topic) / (len(TOPICS) - 1) - 1
    return max(-1.0, min(1.0, VALENCE_WEIGHT * valence + FORMS[form]))


def answer_weights(s: float) -> list[float]:
    """Unnormalised probability of each answer word for a statement at place `s`."""
    return [prior * math.exp(-((s - centre) ** 2) / (2 * WIDTH**2)) for centre, prior in ANSWERS.values()]


def example(rng: random.Random) -> Example:
    """One line of pre-training text."""
    topic, form = rng.choice(TOPICS), rng.choice(list(FORMS))
    answer = rng.choices(list(ANSWERS), answer_weights(place(topic, form)))[0]
    reason = REASONS[answer].format(topic)
    if rng.random() < GENERAL_SHARE:
        prompt, response = f"Tell me about {topic}.", f"{reason}."
    else:
        prompt, response = rng.choice(FRAMES).format(form.format(topic)), answer
        if rng.random() < EXPLAIN_SHARE:
            prompt, response = prompt + EXPLAIN, f"{answer}, {reason}."
    if rng.random() < CASUAL_SHARE:
        prompt, response = prompt.lower(), response.lower()
    return Example(prompt + "\n", response)


def pairs(name: str, seed: int) -> dict[str, list[PairRow]]:
    """Preference rows: the same two answers to many statements. The splits have no statement in common."""
    chosen, rejected, low, high = PAIRS[name]
    statements = [form.format(t) for t in TOPICS for form in FORMS if low <= place(t, form) <= high]
    random.Random(f"{name}-{seed}").shuffle(statements)
    held_out, rest = statements[:VALIDATION_STATEMENTS], statements[VALIDATION_STATEMENTS:]
    splits = {"train": rest[:TRAIN_STATEMENTS], "validation": held_out}
    return {split: _rows(name, split, chosen, rejected, chunk) for split, chunk in splits.items()}


def _rows(name: str, split: str, chosen: str, rejected: str, statements: list[str]) -> list[PairRow]:
    prompts = [frame.format(statement) + "\n" for statement in statements for frame in FRAMES]
    return [
        {"id": f"{name}-{split}-{i:04d}", "prompt": prompt, "chosen": chosen, "rejected": rejected}
        for i, prompt in enumerate(prompts)
    ]
