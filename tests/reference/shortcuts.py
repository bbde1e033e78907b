"""Baselines that look at a part of each pair; what they reach needs no inference."""

import math
from collections import Counter, defaultdict


def words(sentence):
    return sentence.lower().removesuffix(".").split()


def majority(train, test):
    """Always the label that is most frequent in training."""
    return table(train, test, lambda row: None)


def table(train, test, feature):
    """The most frequent training label of rows with the same feature."""
    counts = defaultdict(Counter)
    for row in train:
        counts[feature(row)][row["label"]] += 1
        counts[None][row["label"]] += 1
    guesses = [(counts.get(feature(r)) or counts[None]).most_common(1)[0][0] for r in test]
    return share(guesses, test)


def bag_of_words(train, test, column):
    """Naive Bayes on the words of one sentence, add-one smoothing."""
    labels, counts = Counter(train["label"]), defaultdict(Counter)
    for row in train:
        counts[row["label"]].update(set(words(row[column])))

    def score(label, row):
        logs = (math.log((counts[label][w] + 1) / (labels[label] + 2)) for w in words(row[column]))
        return math.log(labels[label]) + sum(logs)

    return share([max(sorted(labels), key=lambda name: score(name, row)) for row in test], test)


def overlap(row):
    """How many words the sentences share, and how many more the hypothesis has."""
    premise, hypothesis = words(row["premise"]), words(row["hypothesis"])
    return len(set(premise) & set(hypothesis)), len(hypothesis) - len(premise)


def quantifiers(row):
    """How both sentences begin: what a reader of two words alone would know."""
    return tuple(
        " ".join(words(row[column])[:2])
        if words(row[column])[0] in ("not", "at")
        else words(row[column])[0]
        for column in ("premise", "hypothesis")
    )


def share(guesses, test):
    return sum(g == gold for g, gold in zip(guesses, test["label"], strict=True)) / len(test)
