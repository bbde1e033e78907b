"""The corpus of the grammar: true labels, no doubles, held-out words, no shortcuts."""

import random
from collections import Counter

import pytest

from headcount.errors import DataError
from headcount.tasks import TASKS
from headcount.tasks.files import read_table
from headcount.tasks.grammar import MAX_PAIRS, _say, generate, patterns, write_corpus
from headcount.tasks.lexicon import MODIFIERS, TEST_FAMILIES, TRAIN_FAMILIES
from reference.models_of_pairs import parse, slow_label
from reference.shortcuts import bag_of_words, majority, overlap, quantifiers, table


@pytest.fixture(scope="module")
def corpus():
    return generate(num_train=4800, num_test=1200, seed=0)


def pairs(split):
    return set(zip(split["premise"], split["hypothesis"], strict=True))


def nouns(*sentences):
    return set().union(*(parse(sentence)[1] for sentence in sentences)) - {*MODIFIERS}


def below_top(families):
    return {word.singular for family in families for word in list(family.values())[1:]}


def test_labels_are_those_of_the_slow_twin(corpus):
    rows = [row for split in corpus for row in random.Random(1).sample(list(split), 100)]
    wrong = [r for r in rows if slow_label(r["premise"], r["hypothesis"]) != r["label"]]
    assert wrong == []


@pytest.mark.slow
def test_every_pattern_has_the_label_of_the_slow_twin():
    for pattern in patterns():
        sentences = _say(pattern, TEST_FAMILIES[0], random.Random(0))
        assert (sentences, slow_label(*sentences)) == (sentences, pattern.label)


def test_pairs_occur_once_and_in_one_split_only(corpus):
    train, test = corpus
    assert (len(pairs(train)), len(pairs(test))) == (len(train), len(test)) == (4800, 1200)
    assert not pairs(train) & pairs(test)


@pytest.mark.parametrize(("split", "families"), [(0, TRAIN_FAMILIES), (1, TEST_FAMILIES)])
def test_every_pair_has_a_noun_of_its_split_alone(corpus, split, families):
    for row in corpus[split]:
        found = nouns(row["premise"], row["hypothesis"])
        assert found & below_top(families)
        assert found <= below_top(families) | {"animal", "person"}


def test_families_share_tops_only():
    families = (*TRAIN_FAMILIES, *TEST_FAMILIES)
    assert len(below_top(families)) == 3 * len(families)


@pytest.mark.parametrize("split", [0, 1])
def test_labels_are_balanced(corpus, split):
    counts = Counter(corpus[split]["label"]).values()
    assert len(counts) == 3
    assert max(counts) - min(counts) <= 1


def test_sentences_are_short_and_end_like_sentences(corpus):
    for split in corpus:
        for sentence in (*split["premise"], *split["hypothesis"]):
            assert 3 <= len(sentence.split()) <= 9
            assert sentence[0].isupper()
            assert sentence.endswith(".")


def test_same_seed_same_pairs_and_each_split_for_itself():
    train, test = generate(60, 30, seed=3)
    again, shorter = generate(60, 15, seed=3)
    assert train.to_list() == again.to_list()
    assert generate(30, 30, seed=3)[1].to_list() == test.to_list()
    assert len(shorter) == 15
    assert generate(60, 30, seed=4)[0].to_list() != train.to_list()


def test_patterns_weigh_one_in_all():
    assert sum(pattern.weight for pattern in patterns()) == pytest.approx(1)
    assert min(pattern.weight for pattern in patterns()) > 0


def test_shortcuts_do_not_reach_far(corpus):
    train, test = corpus
    reached = {
        "majority": majority(train, test),
        "hypothesis": bag_of_words(train, test, "hypothesis"),
        "premise": bag_of_words(train, test, "premise"),
        "overlap": table(train, test, overlap),
        "quantifiers": table(train, test, quantifiers),
    }
    bounds = {
        "majority": 0.34,
        "hypothesis": 0.45,
        "premise": 0.56,
        "overlap": 0.56,
        "quantifiers": 0.79,
    }
    assert {name: a for name, a in reached.items() if a > bounds[name]} == {}


@pytest.mark.parametrize("number", [0, -1, MAX_PAIRS + 1])
@pytest.mark.parametrize("name", ["num_train", "num_test"])
def test_numbers_that_cannot_be(name, number):
    numbers = {"num_train": 3, "num_test": 3, name: number}
    with pytest.raises(DataError) as caught:
        generate(**numbers, seed=0)
    assert str(caught.value) == f"generate({name}={number}): give 1 to 100000 pairs."


def test_written_corpus_reads_back(tmp_path):
    folder = tmp_path / "new" / "folder"
    paths = write_corpus(folder, 60, 30, seed=1)
    splits = generate(60, 30, seed=1)
    assert [path.name for path in paths] == ["train.tsv", "test.tsv"]
    assert sorted(folder.iterdir()) == sorted(paths)
    for path, split in zip(paths, splits, strict=True):
        assert path.read_text().splitlines()[0] == "premise\thypothesis\tlabel"
        assert read_table([path], TASKS["nli"].columns, split="x").to_list() == split.to_list()
