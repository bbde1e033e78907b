"""A decision procedure for quantified claims: what follows from one about another.

A claim says of every, some, no or not every A that it is B. A situation is a set of individuals.
All that matters of an individual is its kind: which nouns, modifier and predicates are true of it.
A claim either forbids kinds ("every A is B": no individual is A and not B) or demands one of
several kinds ("some A is B"). So claims can be true together exactly if the kinds that no claim
forbids meet every demand. This procedure is sound and complete, and needs no search.

Noun phrases are never empty, as in Aristotle's logic and in everyday speech: "every lost dog is
wet" says that there are lost dogs, and implies that some dog is wet. Nothing is assumed about
modifiers or sisters (a poodle may be a beagle). An individual need not be anywhere on a scale.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal, NamedTuple, get_args

from headcount.tasks.lexicon import NounPlace, ScalePlace

Form = Literal["every", "some", "no", "not every"]
Label = Literal["entailment", "neutral", "contradiction"]

_DENIAL: dict[Form, Form] = {
    "every": "not every",
    "not every": "every",
    "some": "no",
    "no": "some",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """The logical form of a sentence, without its words.

    Example:
        >>> claim = Claim(form="every", noun="low", modified=False, predicate="strong")
        >>> claim.denial.form
        'not every'
    """

    form: Form
    """The quantifier."""
    noun: NounPlace
    """The subject: a place in a family of nouns."""
    modified: bool
    """Whether the noun has the modifier."""
    predicate: ScalePlace
    """The predicate: a place on a scale."""

    @property
    def denial(self) -> "Claim":
        """The claim that is true exactly when this one is false."""
        return replace(self, form=_DENIAL[self.form])


class Kind(NamedTuple):
    """The nouns, modifier and predicates that are true of an individual."""

    nouns: frozenset[NounPlace]
    modified: bool
    predicates: frozenset[ScalePlace]


_NOUNS: tuple[frozenset[NounPlace], ...] = (
    frozenset({"top"}),
    frozenset({"top", "middle"}),
    frozenset({"top", "middle", "low"}),
    frozenset({"top", "middle", "sister"}),
    frozenset({"top", "middle", "low", "sister"}),
)
"""The possible sets of nouns of an individual. One that is not even "top" is in no claim."""

_PREDICATES: tuple[frozenset[ScalePlace], ...] = (
    frozenset(),
    frozenset({"weak"}),
    frozenset({"weak", "strong"}),
    frozenset({"weak_opposite"}),
    frozenset({"weak_opposite", "strong_opposite"}),
)

KINDS = frozenset(Kind(*parts) for parts in product(_NOUNS, (False, True), _PREDICATES))


def label(premise: Claim, hypothesis: Claim) -> Label:
    """The label of a pair of claims.

    Args:
        premise: the claim that is taken to be true.
        hypothesis: the claim to judge: a contradiction if it cannot be true then, an entailment if
            it cannot be false.

    Example:
        >>> poodles = Claim(form="every", noun="low", modified=False, predicate="strong")
        >>> dogs = Claim(form="some", noun="middle", modified=False, predicate="weak")
        >>> label(poodles, dogs), label(dogs, poodles), label(poodles, dogs.denial)
        ('entailment', 'neutral', 'contradiction')
    """
    if not compatible(premise, hypothesis):
        return "contradiction"
    return "neutral" if compatible(premise, hypothesis.denial) else "entailment"


def compatible(*claims: Claim) -> bool:
    """Whether the claims can be true together, with none of their noun phrases empty.

    Example:
        >>> claim = Claim(form="no", noun="top", modified=True, predicate="weak")
        >>> compatible(claim, claim.denial)
        False
    """
    # Each demand needs an individual of an allowed kind. Different demands may have different
    # individuals, so they never conflict with each other.
    allowed = KINDS.difference(*(_forbidden(claim) for claim in claims))
    return all(allowed & kinds for claim in claims for kinds in (_phrase(claim), _demanded(claim)))


def claims() -> Iterator[Claim]:
    """All claims, always in the same order."""
    for form, noun, modified, predicate in product(
        get_args(Form), get_args(NounPlace), (False, True), get_args(ScalePlace)
    ):
        yield Claim(form=form, noun=noun, modified=modified, predicate=predicate)


def _phrase(claim: Claim) -> frozenset[Kind]:
    """The kinds of which the noun phrase is true."""
    return frozenset(
        kind for kind in KINDS if claim.noun in kind.nouns and kind.modified >= claim.modified
    )


def _predicated(claim: Claim) -> frozenset[Kind]:
    return frozenset(kind for kind in KINDS if claim.predicate in kind.predicates)


def _forbidden(claim: Claim) -> frozenset[Kind]:
    """The kinds that no individual can have if the claim is true."""
    if claim.form == "every":
        return _phrase(claim) - _predicated(claim)
    return _phrase(claim) & _predicated(claim) if claim.form == "no" else frozenset()


def _demanded(claim: Claim) -> frozenset[Kind]:
    """The kinds of which at least one individual must exist if the claim is true."""
    if claim.form == "some":
        return _phrase(claim) & _predicated(claim)
    return _phrase(claim) - _predicated(claim) if claim.form == "not every" else _phrase(claim)
