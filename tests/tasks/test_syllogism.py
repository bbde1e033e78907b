"""The decision procedure: the square of opposition, and laws that any logic has."""

from hypothesis import given
from hypothesis.strategies import sampled_from

from headcount.tasks.syllogism import KINDS, Claim, claims, compatible, label

CLAIMS = sampled_from(list(claims()))


def dogs(form, *, noun="middle", modified=False, predicate="weak"):
    return Claim(form=form, noun=noun, modified=modified, predicate=predicate)


def test_square_of_opposition():
    table = {
        (first, second): label(dogs(first), dogs(second))
        for first in ("every", "some", "no", "not every")
        for second in ("every", "some", "no", "not every")
        if first != second
    }
    assert table == {
        ("every", "some"): "entailment",
        ("every", "no"): "contradiction",
        ("every", "not every"): "contradiction",
        ("some", "every"): "neutral",
        ("some", "no"): "contradiction",
        ("some", "not every"): "neutral",
        ("no", "every"): "contradiction",
        ("no", "some"): "contradiction",
        ("no", "not every"): "entailment",
        ("not every", "every"): "contradiction",
        ("not every", "some"): "neutral",
        ("not every", "no"): "neutral",
    }


def test_monotonicity():
    # Every X: narrower X, wider predicate. No X: narrower X, narrower predicate.
    assert label(dogs("every"), dogs("every", noun="low")) == "entailment"
    assert label(dogs("every"), dogs("every", modified=True)) == "entailment"
    assert label(dogs("every"), dogs("every", noun="top")) == "neutral"
    assert label(dogs("every", predicate="strong"), dogs("every")) == "entailment"
    assert label(dogs("every"), dogs("every", predicate="strong")) == "neutral"
    assert label(dogs("no"), dogs("no", predicate="strong")) == "entailment"
    assert label(dogs("some"), dogs("some", noun="top")) == "entailment"
    assert label(dogs("some"), dogs("some", modified=True)) == "neutral"
    assert label(dogs("not every", modified=True), dogs("not every")) == "entailment"


def test_opposites_exclude_each_other_and_sisters_do_not():
    wet, parched = dogs("every"), dogs("some", predicate="strong_opposite")
    assert label(wet, parched) == "contradiction"
    assert label(dogs("some"), parched) == "neutral"
    assert label(wet, dogs("no", predicate="weak_opposite")) == "entailment"
    assert label(dogs("every", noun="low"), dogs("no", noun="sister")) == "neutral"


@given(CLAIMS)
def test_a_claim_entails_itself_and_contradicts_its_denial(claim):
    assert label(claim, claim) == "entailment"
    assert label(claim, claim.denial) == "contradiction"
    assert claim.denial.denial == claim


@given(CLAIMS, CLAIMS)
def test_laws_of_two_claims(one, other):
    assert (label(one, other) == "contradiction") == (label(other, one) == "contradiction")
    assert (label(one, other) == "entailment") == (label(one, other.denial) == "contradiction")
    # Contraposition.
    assert (label(one, other) == "entailment") == (label(other.denial, one.denial) == "entailment")


@given(CLAIMS, CLAIMS, CLAIMS)
def test_more_claims_are_harder_to_meet(one, two, three):
    assert compatible(one, two) or not compatible(one, two, three)


def test_counts():
    assert len(KINDS) == 5 * 2 * 5
    assert len(set(claims())) == 4 * 4 * 2 * 4
