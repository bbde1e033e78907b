"""Slow twin of headcount.tasks.syllogism: read the English, then look at every small world.

Shares no code with the library but the words: sentences are parsed from their text, and the label
is found by looking at every set of up to two individuals. Two are enough: a sentence asks for one
witness at most ("some A is B" for an A that is B; "every A is B" for an A), and taking an
individual that is no witness out of a world makes no universal sentence false.
"""

from functools import lru_cache
from itertools import chain, combinations

from headcount.tasks.lexicon import MODIFIERS, SCALES, TEST_FAMILIES, TRAIN_FAMILIES

QUANTIFIERS = {
    "At least one ": "some",
    "Not every ": "not every",
    "Not all ": "not every",
    "Every ": "every",
    "Some ": "some",
    "All ": "every",
    "No ": "no",
}
NOUNS = {
    text: word.singular
    for family in (*TRAIN_FAMILIES, *TEST_FAMILIES)
    for word in family.values()
    for text in (word.singular, word.plural)
}
PREDICATES = {
    text: word.singular
    for scale in SCALES
    for word in scale.values()
    for text in (word.singular, word.plural)
}


def parse(sentence: str) -> tuple[str, frozenset[str], str]:
    """Quantifier, words of the noun phrase, predicate."""
    start = next(start for start in QUANTIFIERS if sentence.startswith(start))
    words = sentence.removeprefix(start).removesuffix(".").split()
    phrase = set()
    if words[0] in MODIFIERS:
        phrase.add(words.pop(0))
    phrase.add(NOUNS[words.pop(0)])
    return QUANTIFIERS[start], frozenset(phrase), PREDICATES[" ".join(words)]


def possible(individual: frozenset[str]) -> bool:
    """Whether the words that are true of an individual respect the lexicon's implications."""
    for family in (*TRAIN_FAMILIES, *TEST_FAMILIES):
        top, middle, low, sister = (word.singular in individual for word in family.values())
        if (middle and not top) or ((low or sister) and not middle):
            return False
    for scale in SCALES:
        strong, weak, opposite, very_opposite = (w.singular in individual for w in scale.values())
        if (strong and not weak) or (very_opposite and not opposite) or (weak and opposite):
            return False
    return True


def holds(quantifier: str, phrase: frozenset[str], predicate: str, world) -> bool:
    are = [predicate in individual for individual in world if phrase <= individual]
    values = {"every": all(are), "some": any(are), "no": not any(are), "not every": not all(are)}
    return values[quantifier]


@lru_cache(maxsize=1000)
def individuals(words: frozenset[str]) -> tuple[frozenset[str], ...]:
    """Every possible individual, by the words of the pair (and their families) true of it."""
    subsets = chain.from_iterable(combinations(sorted(words), n) for n in range(len(words) + 1))
    return tuple(filter(possible, map(frozenset, subsets)))


def words_beside(words: frozenset[str]) -> frozenset[str]:
    """The words and all others of their families and scales."""
    sets = [{word.singular for word in f.values()} for f in (*TRAIN_FAMILIES, *TEST_FAMILIES)]
    sets += [{word.singular for word in scale.values()} for scale in SCALES]
    # The top noun belongs to many families: take only those of another word of the pair.
    own = [s for s in sets if len(s & words) > 1 or (s & words) - {"animal", "person"}]
    return words.union(*own)


def slow_label(premise: str, hypothesis: str) -> str:
    """The label of two sentences, by looking at every world of one or two individuals."""
    first, second = parse(premise), parse(hypothesis)
    words = words_beside(first[1] | second[1] | {first[2], second[2]})
    kinds = individuals(words)
    worlds = chain(combinations(kinds, 1), combinations(kinds, 2))
    values = {
        holds(*second, world)
        for world in worlds
        if all(any(p[1] <= one for one in world) for p in (first, second)) and holds(*first, world)
    }
    return {(True,): "entailment", (False,): "contradiction"}.get(tuple(values), "neutral")
