"""Quantified claims and what follows from them, by a decision procedure.

A claim says of every, some, no or not every A that it is B. A model of claims is a set of
individuals; all that matters of an individual is its kind: which nouns, modifier and predicates
are true of it. Every claim either forbids kinds (every A is B: no individual is A and not B) or
demands one of several kinds (some A is B). So claims can be true together exactly if the kinds
that no claim forbids meet every demand: that is a procedure, sound and complete, without search.

Noun phrases are taken not to be empty, as in Aristotle's logic and in plain talk: "every lost
dog is wet" says that there are lost dogs, and implies that some dog is wet. Nothing is assumed
of modifiers, of sisters (a poodle may be a beagle), nor that an individual is anywhere on a
scale.
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
    """A sentence without its words.

    Example:
        >>> claim = Claim(form="every", noun="low", modified=False, predicate="strong")
        >>> claim.denial.form
        'not every'
    """

    form: Form
    """How many of them."""
    noun: NounPlace
    """Of whom."""
    modified: bool
    """Whether the modifier stands before the noun."""
    predicate: ScalePlace
    """What they are or do."""

    @property
    def denial(self) -> "Claim":
        """The claim that is true when this one is not."""
        return replace(self, form=_DENIAL[self.form])


class Kind(NamedTuple):
    """All that matters of an individual."""

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
"""What an individual can be; one that is not even top belongs to no claim."""

_PREDICATES: tuple[frozenset[ScalePlace], ...] = (
    frozenset(),
    frozenset({"weak"}),
    frozenset({"weak", "strong"}),
    frozenset({"weak_opposite"}),
    frozenset({"weak_opposite", "strong_opposite"}),
)

KINDS = frozenset(Kind(*parts) for parts in product(_NOUNS, (False, True), _PREDICATES))


def label(premise: Claim, hypothesis: Claim) -> Label:
    """What the premise says about the hypothesis.

    Args:
        premise: taken to be true.
        hypothesis: contradiction if it cannot be true then, entailment if it cannot be false.

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
    """Whether the claims can be true together, none of their noun phrases being empty.

    Example:
        >>> claim = Claim(form="no", noun="top", modified=True, predicate="weak")
        >>> compatible(claim, claim.denial)
        False
    """
    allowed = KINDS.difference(*(_forbidden(claim) for claim in claims))
    return all(allowed & kinds for claim in claims for kinds in (_phrase(claim), _demanded(claim)))


def claims() -> Iterator[Claim]:
    """All claims, always in the same order."""
    for form, noun, modified, predicate in product(
        get_args(Form), get_args(NounPlace), (False, True), get_args(ScalePlace)
    ):
        yield Claim(form=form, noun=noun, modified=modified, predicate=predicate)


def _phrase(claim: Claim) -> frozenset[Kind]:
    """The kinds the noun phrase is true of."""
    return frozenset(
        kind for kind in KINDS if claim.noun in kind.nouns and kind.modified >= claim.modified
    )


def _predicated(claim: Claim) -> frozenset[Kind]:
    return frozenset(kind for kind in KINDS if claim.predicate in kind.predicates)


def _forbidden(claim: Claim) -> frozenset[Kind]:
    """The kinds that no individual is, if the claim is true."""
    if claim.form == "every":
        return _phrase(claim) - _predicated(claim)
    return _phrase(claim) & _predicated(claim) if claim.form == "no" else frozenset()


def _demanded(claim: Claim) -> frozenset[Kind]:
    """The kinds of which some individual is one, if the claim is true."""
    if claim.form == "some":
        return _phrase(claim) & _predicated(claim)
    return _phrase(claim) - _predicated(claim) if claim.form == "not every" else _phrase(claim)
