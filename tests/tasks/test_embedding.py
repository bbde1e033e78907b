"""Sentence vectors, learnt from the dense model."""

import gzip
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
import transformers
from scipy.stats import spearmanr
from transformers import EvalPrediction

import headcount as hc
from cases import TINY, WORDS, word_tokenizer, write_model
from headcount.errors import CheckpointError, DataError, MissingPackageError, TrainingError
from headcount.runs.data import gather
from headcount.runs.recipe import Recipe
from headcount.tasks import TASKS, Embedding
from headcount.tasks.sentences import SentenceProcessor, relative_error

sentence_transformers = pytest.importorskip("sentence_transformers")
RECIPE = Recipe(epochs=1, batch_size=4, max_length=16, learning_rate=1e-2)
TEXTS = [f"{WORDS[i % 16]} {WORDS[(5 * i + 3) % 16]} runs" for i in range(16)]
pytestmark = pytest.mark.slow  # sentence-transformers alone takes seconds to import


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("models") / "plain")


@pytest.fixture(scope="module")
def encoder(model, tmp_path_factory):
    """One that sentence-transformers has saved: first token, a wider layer, length one."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules as models

    torch.manual_seed(0)
    parts = [models.Transformer(model), models.Pooling(24, pooling_mode="cls")]
    parts += [models.Dense(24, 32, activation_function=torch.nn.Tanh()), models.Normalize()]
    folder = tmp_path_factory.mktemp("models") / "encoder"
    whole = SentenceTransformer(modules=parts, device="cpu", prompts={"q": "the "})
    whole.default_prompt_name = "q"
    whole.save(str(folder), create_model_card=False)
    return str(folder)


@pytest.fixture
def files(tmp_path):
    train = write(tmp_path / "a.txt", "\n".join(TEXTS) + "\n\n" + TEXTS[0] + "\n")
    pairs = [f"{a}\t{b}\t{i % 5}" for i, (a, b) in enumerate(pairwise(TEXTS))]
    scored = write(tmp_path / "b.tsv", "\n".join(["sentence1\tsentence2\tscore", *pairs]) + "\n")
    return train, scored


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_vectors_are_those_of_sentence_transformers(encoder, model, files):
    for name in (encoder, model):
        data = gather(name, "embedding", [files[0]], [files[1]], RECIPE)
        whole = sentence_transformers.SentenceTransformer(name, device="cpu")
        dense = data.train["labels"]
        assert len(dense) == len(TEXTS)  # a text that occurs twice is one
        np.testing.assert_allclose(dense, whole.encode(TEXTS), atol=1e-6)


def test_spearman_and_cosine(encoder, files, tmp_path):
    data = gather(encoder, "embedding", [files[0]], [files[1]], RECIPE)
    assert data.task.describe() == {
        "text": "sentence1", "pair": "sentence2", "score": "score", "metric": "spearman",
    }  # fmt: skip
    model = data.fresh_model(encoder)
    args = RECIPE.arguments(tmp_path / "scratch")
    found = data.task.metrics(data.task.predict(model, data.eval, data.collator, args))
    whole = sentence_transformers.SentenceTransformer(encoder, device="cpu")
    vectors = whole.encode(TEXTS).astype(np.float64)
    slow = [float(a @ b) for a, b in pairwise(vectors)]
    golds = [i % 5 for i in range(len(slow))]
    assert found["spearman"] == pytest.approx(spearmanr(slow, golds)[0], abs=1e-6)
    assert found["cosine"] == pytest.approx(1, abs=1e-6)


def test_the_loss_is_zero_for_the_dense_model_and_two_for_the_opposite(encoder, files):
    data = gather(encoder, "embedding", [files[0]], [files[1]], RECIPE)
    model, loss = data.fresh_model(encoder).eval(), data.task.loss_function()
    batch = data.collator(list(data.train.select(range(4))))
    labels = batch.pop("labels")
    outputs = model(**batch)
    assert loss(outputs, labels).item() == pytest.approx(0, abs=1e-9)
    ones = torch.eye(3)
    assert relative_error(-ones, ones).item() == pytest.approx(4)
    assert relative_error(5 * ones, ones).item() == pytest.approx(16)


def test_prune_and_load_in_sentence_transformers(encoder, files, tmp_path):
    options = hc.Options(recipe=RECIPE, baselines=("dense", "random"), latency_length=8)
    pruned = hc.prune(encoder, task="embedding", train=[files[0]], eval=[files[1]],
                      budget=hc.Budget(heads=5, neurons=0.5), output=tmp_path / "out",
                      options=options)  # fmt: skip
    assert not (tmp_path / "out.partial").exists()
    report = pruned.report
    assert (report.rows[0].train_s, report.metric) == (0.0, "spearman")  # measured as it is
    whole = sentence_transformers.SentenceTransformer(str(tmp_path / "out"), device="cpu")
    processor = SentenceProcessor.load(encoder)
    batch = processor.tokenizer(["the " + text for text in TEXTS], padding=True,
                                return_tensors="pt")  # fmt: skip
    with torch.no_grad():
        hidden = pruned.model(**batch).last_hidden_state
        ours = processor.vectors(hidden, batch["attention_mask"])
    np.testing.assert_allclose(whole.encode(TEXTS), ours, atol=1e-6)
    assert hc.units(whole[0].auto_model).num("head") == 5
    found = hc.evaluate(tmp_path / "out", eval=[files[1]], task="embedding", recipe=RECIPE)
    assert found == {"spearman": pytest.approx(report.rows[-1].quality, abs=1e-9)}
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "pipeline_tag: sentence-similarity" in card
    assert "from sentence_transformers import SentenceTransformer" in card
    assert transformers.pipeline("feature-extraction", str(tmp_path / "out"))("a dog")
    again = hc.prune(encoder, task="embedding", train=[files[0]], eval=[files[1]],
                     budget=hc.Budget(heads=7), output=tmp_path / "out",
                     options=options)  # fmt: skip
    assert again.folder == tmp_path / "out"  # takes the older one's place
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "b.tsv", "out"]


def test_a_killed_run_resumes_to_the_same_result(encoder, files, tmp_path, killed_at):
    def run(output, **given):
        recipe = Recipe(epochs=2, batch_size=4, max_length=16, save_steps=2,
                        training={"gradient_accumulation_steps": 2})  # fmt: skip
        options = hc.Options(recipe=recipe, latency_length=8, **given)
        return hc.prune(encoder, task="embedding", train=[files[0]], eval=[files[1]],
                        budget=hc.Budget(heads=5), output=output, options=options)  # fmt: skip

    whole = run(tmp_path / "whole")
    with killed_at(3):
        run(tmp_path / "killed")
    again = run(tmp_path / "killed", resume=True)
    assert again.decision == whole.decision
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, again.model.state_dict()[name])


@pytest.mark.parametrize("method", [hc.Fisher(), hc.GradientImportance(), hc.Magnitude()])
def test_methods_that_look_at_data(method, model, files):
    options = hc.Options(recipe=RECIPE, latency_length=8, num_examples=8)
    pruned = hc.prune(model, task="embedding", train=[files[0]], eval=[files[1]],
                      budget=hc.Budget(heads=6), method=method, options=options)  # fmt: skip
    assert hc.units(pruned.model).num("head") == 6


def test_evaluation_data_without_scores(model, files, tmp_path):
    texts = write(tmp_path / "c.jsonl", '{"question": "a dog", "answer": "runs"}\n')
    data = gather(model, "embedding", [texts], [texts], RECIPE)
    assert data.task.primary_metric == "cosine"
    # Texts of both columns are learnt; those to measure with are what was found.
    assert len(data.train) == 2
    with pytest.raises(DataError, match="the dense model, which prune and compare know"):
        hc.evaluate(model, eval=[files[0]], task="embedding", recipe=RECIPE)


def test_the_encoder_of_an_encoder_decoder(tmp_path):
    config = transformers.T5Config(vocab_size=40, d_model=24, d_kv=6, d_ff=32, num_layers=2,
                                   num_heads=4, decoder_start_token_id=0)  # fmt: skip
    transformers.T5Model(config).save_pretrained(tmp_path)
    assert type(Embedding().load_model(tmp_path, ())).__name__ == "T5EncoderModel"


BAD = [
    ("train", "a.txt", b"", "the file is empty"),
    ("train", "a.txt", b"\n \n", "has no rows|no rows"),
    ("train", "a.txt", b"a\n\xff", "line 2: not UTF-8 text"),
    ("train", "a.txt.gz", gzip.compress(b"a dog\n" * 99, mtime=0)[:-9], "not a whole gzip file"),
    ("train", "a.tsv", b"number\n1\n", "is known to be the text. Name it"),
    ("train", "a.jsonl", b'{"text": [1]}\n', r"line 1 has \[1\] as 'text'"),
    ("eval", "a.tsv", b"text_a\ttext_b\tscore\na\tb\thigh\n",
     "'a.tsv' line 2 has 'high' as 'score'. Give a finite number"),
    ("eval", "a.tsv", b"text_a\ttext_b\tscore\na\tb\tnan\n", "line 2 has 'nan' as 'score'"),
    ("eval", "a.tsv", b"text_a\tscore\na\t1\n", "is known to be the pair. Name it"),
    ("eval", "a.tsv", b"text_a\ttext_b\tscore\na\t1\n", "line 2 has 2 cells, the header has 3"),
    ("eval", "a.csv", b'text_a,text_b,score\n"a,b,1\n', "is not CSV"),
    ("eval", "missing.tsv", None, "there is no such file"),
]  # fmt: skip


@pytest.mark.parametrize(("use", "name", "content", "said"), BAD)
def test_bad_data(use, name, content, said, model, files, tmp_path):
    """One clear error, and nothing is left behind."""
    path = tmp_path / "bad" / name
    path.parent.mkdir()
    if content is not None:
        path.write_bytes(content)
    before = sorted(tmp_path.rglob("*"))
    train, evaluation = (path, files[1]) if use == "train" else (files[0], path)
    with pytest.raises(DataError, match=said):
        hc.prune(model, task="embedding", train=[train], eval=[evaluation],
                 budget=hc.Budget(heads=4), output=tmp_path / "out",
                 options=hc.Options(recipe=RECIPE, latency_length=8))  # fmt: skip
    assert sorted(tmp_path.rglob("*")) == before


def test_other_bad_input(model, files, tmp_path, monkeypatch):
    def run(name=model, **options):
        return hc.prune(name, task="embedding", train=[files[0]], eval=[files[1]],
                        budget=hc.Budget(heads=4), options=hc.Options(**options))  # fmt: skip

    with pytest.raises(TrainingError, match="from which it learns in any case"):
        run(recipe=RECIPE, distil=True)
    with pytest.raises(TrainingError, match="makes its predictions in a way of its own"):
        run(recipe=Recipe(max_length=16, training={"eval_strategy": "epoch"}))
    with pytest.raises(DataError, match="max_length=100"):
        run(recipe=Recipe(max_length=100))
    bad = tmp_path / "bad"
    transformers.BertModel(transformers.BertConfig(**TINY)).save_pretrained(bad)
    word_tokenizer().save_pretrained(bad)
    write(bad / "modules.json", "[{")
    with pytest.raises(CheckpointError, match="sentence-transformers cannot load it"):
        run(str(bad), recipe=RECIPE)


def test_correlations_need_scores():
    task = Embedding(metric="spearman")
    golds = (np.full(2, math.nan), np.zeros((0, 0)))
    with pytest.raises(DataError, match="need pairs of texts with scores"):
        task.metrics(EvalPrediction(predictions=np.eye(2), label_ids=golds))


def test_without_the_package(model, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sentence_transformers", None)
    with pytest.raises(MissingPackageError, match=r"headcount\[embedding\]"):
        Embedding().load_processor(model)


def test_the_task_has_a_name():
    assert TASKS["embedding"] == Embedding()
