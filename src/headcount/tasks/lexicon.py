"""The words of the grammar, and which word implies which.

In a family of nouns, low and sister are middle, and middle is top (poodles and beagles are dogs,
dogs are animals). On a scale, the strong word implies the weak one (soaked, wet), and the two sides
exclude each other (wet, dry). Nothing else is implied.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

NounPlace = Literal["top", "middle", "low", "sister"]
"""The place of a noun in its family."""
ScalePlace = Literal["strong", "weak", "weak_opposite", "strong_opposite"]
"""The place of a predicate on its scale."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Word:
    """A noun or a predicate, in the singular and the plural.

    Example:
        >>> Word(singular="is wet", plural="are wet").plural
        'are wet'
    """

    singular: str
    plural: str


Family = Mapping[NounPlace, Word]
Scale = Mapping[ScalePlace, Word]

_IRREGULAR = {
    "child": "children",
    "fish": "fish",
    "grizzly": "grizzlies",
    "mouse": "mice",
    "person": "people",
    "pony": "ponies",
    "salmon": "salmon",
    "trout": "trout",
}


def _noun(singular: str) -> Word:
    return Word(singular=singular, plural=_IRREGULAR.get(singular, f"{singular}s"))


def _family(top: str, middle: str, low: str, sister: str) -> Family:
    return {"top": _noun(top), "middle": _noun(middle), "low": _noun(low), "sister": _noun(sister)}


def _scale(*words: Word) -> Scale:
    strong, weak, weak_opposite, strong_opposite = words
    return {
        "strong": strong,
        "weak": weak,
        "weak_opposite": weak_opposite,
        "strong_opposite": strong_opposite,
    }


def _adjectives(*words: str) -> Scale:
    return _scale(*(Word(singular=f"is {word}", plural=f"are {word}") for word in words))


def _verbs(*words: str) -> Scale:
    return _scale(*(Word(singular=f"{word}s", plural=word) for word in words))


TRAIN_FAMILIES: tuple[Family, ...] = (
    _family("animal", "dog", "poodle", "beagle"),
    _family("animal", "bird", "sparrow", "owl"),
    _family("animal", "horse", "pony", "stallion"),
    _family("animal", "insect", "bee", "ant"),
    _family("animal", "snake", "cobra", "python"),
    _family("animal", "rodent", "mouse", "rat"),
    _family("animal", "lizard", "gecko", "iguana"),
    _family("animal", "monkey", "baboon", "macaque"),
    _family("person", "doctor", "surgeon", "dentist"),
    _family("person", "musician", "violinist", "drummer"),
    _family("person", "athlete", "boxer", "swimmer"),
    _family("person", "child", "toddler", "boy"),
    _family("person", "artist", "painter", "sculptor"),
    _family("person", "worker", "plumber", "carpenter"),
)
"""Nouns of the training pairs."""

TEST_FAMILIES: tuple[Family, ...] = (
    _family("animal", "bear", "panda", "grizzly"),
    _family("animal", "cat", "kitten", "tomcat"),
    _family("animal", "fish", "salmon", "trout"),
    _family("person", "scientist", "chemist", "biologist"),
    _family("person", "writer", "novelist", "poet"),
    _family("person", "soldier", "sniper", "sergeant"),
)
"""Nouns of the test pairs. Only the tops occur in training pairs too."""

SCALES: tuple[Scale, ...] = (
    _adjectives("soaked", "wet", "dry", "parched"),
    _adjectives("freezing", "cold", "hot", "boiling"),
    _adjectives("ecstatic", "happy", "sad", "miserable"),
    _adjectives("furious", "angry", "calm", "serene"),
    _adjectives("tiny", "small", "big", "huge"),
    _adjectives("spotless", "clean", "dirty", "filthy"),
    _adjectives("starving", "hungry", "full", "stuffed"),
    _adjectives("gorgeous", "pretty", "ugly", "hideous"),
    _adjectives("silent", "quiet", "loud", "deafening"),
    _adjectives("exhausted", "tired", "energetic", "hyperactive"),
    _adjectives("delighted", "pleased", "upset", "devastated"),
    _adjectives("hilarious", "funny", "serious", "solemn"),
    _adjectives("feeble", "weak", "strong", "mighty"),
    _verbs("sprint", "run", "sleep", "nap"),
    _verbs("toil", "work", "rest", "lounge"),
)
"""Predicates, the same in training and test pairs."""

MODIFIERS: tuple[str, ...] = (
    "famous",
    "foreign",
    "local",
    "lonely",
    "lost",
    "lucky",
    "mysterious",
    "northern",
    "popular",
    "southern",
    "wounded",
)
"""Adjectives before a noun. Each narrows it and implies nothing about the predicates."""
