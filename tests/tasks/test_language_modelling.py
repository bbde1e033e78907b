"""The next token, and masked ones."""

import gzip
import json
import logging
import math

import numpy as np
import pytest
import torch
import transformers
from datasets import Dataset
from transformers import EvalPrediction

import headcount as hc
from cases import TINY, WORDS, llama, word_tokenizer
from headcount.errors import CheckpointError, DataError, TrainingError
from headcount.reports.report import report_of
from headcount.runs.data import check_finetuned, gather, task_of
from headcount.runs.quality import quality
from headcount.runs.recipe import Recipe
from headcount.tasks import TASKS, CausalLM, MaskedLM
from headcount.tasks.packing import IGNORED, blocks, padded, surroundings
from headcount.tasks.texts import read_documents

RECIPE = Recipe(epochs=1, batch_size=4, max_length=8, learning_rate=1e-2)
TEXT = " ".join(WORDS[i % len(WORDS)] for i in range(0, 300, 7))


@pytest.fixture(scope="module")
def causal(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "llama"
    torch.manual_seed(0)
    llama(2).save_pretrained(folder)
    tokenizer = word_tokenizer()
    tokenizer.eos_token = "[SEP]"
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "bert"
    torch.manual_seed(0)
    transformers.BertForMaskedLM(transformers.BertConfig(**TINY)).save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)
    return str(folder)


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def data_of(model, task, path, other=None):
    return gather(model, task, [path], [other or path], RECIPE)


def test_a_file_of_plain_text_is_one_document(tmp_path):
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress("\ufeffa dog\r\n\n runs \n".encode()))
    assert read_documents([path], "text", split="train").to_list() == [
        {"text": "a dog\r\n\n runs \n"}
    ]


def test_rows_of_tables_are_documents(tmp_path):
    rows = [{"title": "x", "text": "a dog"}, {"title": "y", "text": " "}, {"text": "b", "title": 1}]
    table = write(tmp_path / "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    plain = write(tmp_path / "b.txt", "c\nd")
    found = read_documents([table, plain], "text", split="train")
    assert found["text"] == ["a dog", "b", "c\nd"]


def test_documents_stand_one_behind_the_other(causal, tmp_path):
    path = write(tmp_path / "a.jsonl", '{"text": "a dog runs"}\n{"text": "the cat"}\n')
    data = gather(causal, "causal-lm", [path], [path], Recipe(max_length=5))
    tokenizer = data.processor
    assert [tokenizer.decode(row["input_ids"]) for row in data.train] == [
        "a dog runs [SEP] the", "cat [SEP]",
    ]  # fmt: skip
    assert data.train["labels"] == data.train["input_ids"]


def test_a_token_alone_is_left_out():
    assert blocks(np.arange(7), 3, split="train") == [[0, 1, 2], [3, 4, 5]]


def test_the_batch_of_blocks_is_filled_up():
    rows = [{"input_ids": [1, 2, 3], "labels": [1, IGNORED, 3]}, {"input_ids": [4], "labels": [4]}]
    batch = padded(rows, pad=9)
    assert batch["input_ids"].tolist() == [[1, 2, 3], [4, 9, 9]]
    assert batch["labels"].tolist() == [[1, IGNORED, 3], [4, IGNORED, IGNORED]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]


@pytest.mark.parametrize("task", ["causal-lm", "masked-lm"])
def test_loss_and_accuracy_are_those_of_the_model(task, causal, bert, tmp_path):
    """Against the model's own loss over one batch, and a slow count of the likeliest tokens."""
    model_name = causal if task == "causal-lm" else bert
    data = data_of(model_name, task, write(tmp_path / "a.txt", TEXT))
    model = data.fresh_model(model_name).eval()
    scratch = tmp_path / "scratch"
    args = RECIPE.arguments(scratch)
    found = data.task.metrics(data.task.predict(model, data.eval, data.collator, args))
    batch = data.collator(list(data.eval))
    with torch.no_grad():
        outputs = model(**batch)
    assert found["loss"] == pytest.approx(outputs.loss.item(), rel=1e-5)
    assert found["perplexity"] == pytest.approx(math.exp(outputs.loss.item()), rel=1e-5)
    right = total = 0
    ahead = int(task == "causal-lm")
    for row, golds in enumerate(batch["labels"]):
        for place, gold in enumerate(golds[ahead:]):
            if gold != IGNORED:
                total += 1
                right += int(outputs.logits[row, place].argmax() == gold)
    assert found["accuracy"] == pytest.approx(right / total)
    assert quality(model, data, RECIPE, scratch).value == found["perplexity"]


def test_a_perplexity_beyond_all_numbers_is_a_number():
    task = CausalLM()
    one = np.full((1, 2), 1e4), np.zeros((1, 2), dtype=bool)
    found = task.metrics(EvalPrediction(predictions=one, label_ids=np.array([[1, 2, 3]])))
    assert math.isfinite(found["perplexity"])
    with pytest.raises(DataError, match="no token of the evaluation data can be predicted"):
        task.metrics(EvalPrediction(predictions=one, label_ids=np.full((1, 3), IGNORED)))


def test_masks(bert, tmp_path):
    data = data_of(bert, MaskedLM(share=0.5), write(tmp_path / "a.txt", TEXT * 40))
    tokenizer = data.processor
    hidden = shown = kept = 0
    plain = tokenizer(TEXT * 40, add_special_tokens=False)["input_ids"]
    whole = []
    for row in data.train:
        ids, golds = row["input_ids"], row["labels"]
        assert (ids[0], ids[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
        assert (golds[0], golds[-1]) == (IGNORED, IGNORED)
        drawn = [place for place, gold in enumerate(golds) if gold != IGNORED]
        assert drawn
        for place in drawn:
            hidden += ids[place] == tokenizer.mask_token_id
            kept += ids[place] == golds[place]
        shown += len(drawn)
        both = zip(golds, ids, strict=True)
        whole += [one if gold == IGNORED else gold for gold, one in both][1:-1]
    # A last token alone is in no block.
    assert whole == plain[: len(whole)]
    assert len(plain) - len(whole) <= 1
    assert hidden / shown == pytest.approx(0.8, abs=0.03)
    # A tenth stay, and a random token may be the right one by chance.
    assert kept / shown == pytest.approx(0.1, abs=0.03)
    again = data_of(bert, MaskedLM(share=0.5), write(tmp_path / "a.txt", TEXT * 40))
    assert again.train["input_ids"] == data.train["input_ids"]


def test_special_tokens_are_found():
    assert surroundings(word_tokenizer()) == ([2], [3])


BAD = [
    ("a.txt", b"", "the file is empty"),
    ("a.txt", b" \n\n", "have nothing but blanks|there is nothing but blanks"),
    ("a.txt", b"a dog\n\xff\xfe", "line 2: not UTF-8 text"),
    ("a.txt.gz", b"no gzip", "not a whole gzip file"),
    ("a.txt.gz", gzip.compress(b"a dog runs " * 99, mtime=0)[:-9], "not a whole gzip file"),
    ("a.doc", b"a dog", "the suffix '.doc' is unknown"),
    ("a.tsv", b"label\n1\n", "--task-set text=COLUMN|there is no column 'text'"),
    ("a.tsv", b"text\tlabel\na dog\n", "line 2 has 1 cells, the header has 2"),
    ("a.jsonl", b'{"text": null}\n', "line 1 has None as 'text'"),
    ("a.jsonl", b'{"text": "a dog"\n', "line 1 is not JSON"),
    ("a.parquet", b"PAR1", "not a parquet file"),
    ("missing.txt", None, "there is no such file"),
]


def test_too_little_text():
    with pytest.raises(DataError, match="train: the text has 1 tokens"):
        blocks(np.arange(1), 3, split="train")


@pytest.mark.parametrize("task", ["causal-lm", "masked-lm"])
@pytest.mark.parametrize(("name", "content", "said"), BAD)
def test_bad_data(task, name, content, said, causal, bert, tmp_path):
    """One clear error, and nothing is left behind."""
    path, good = tmp_path / name, write(tmp_path / "good.txt", TEXT)
    if content is not None:
        path.write_bytes(content)
    model = causal if task == "causal-lm" else bert
    before = sorted(tmp_path.iterdir())
    train, evaluation = (path, good) if task == "causal-lm" else (good, path)
    with pytest.raises(DataError, match=said) as caught:
        hc.prune(model, task=task, train=[train], eval=[evaluation], budget=hc.Budget(heads=4),
                 output=tmp_path / "out", options=hc.Options(recipe=RECIPE))  # fmt: skip
    assert len(str(caught.value)) < 1000
    assert sorted(tmp_path.iterdir()) == before


def test_other_bad_input(causal, bert, tmp_path):
    path = write(tmp_path / "a.txt", TEXT)
    with pytest.raises(DataError, match=r"share=1.5.*give a share above 0 and below 1"):
        MaskedLM(share=1.5)
    with pytest.raises(DataError, match="there is no setting 'texts'; it has text, metric"):
        task_of("causal-lm", {"texts": "a"})
    with pytest.raises(DataError, match="max_length=100: the model"):
        gather(bert, "masked-lm", [path], [path], Recipe(max_length=100))
    tokenizer = word_tokenizer()
    tokenizer.mask_token = None
    with pytest.raises(DataError, match="has no mask"):
        MaskedLM().encode(Dataset.from_dict({"text": ["a"]}), tokenizer, max_length=8, split="x")
    body = tmp_path / "body"
    transformers.BertModel(transformers.BertConfig(**TINY)).save_pretrained(body)
    new_head = MaskedLM().load_model(body, ())
    with pytest.raises(CheckpointError, match="its checkpoint lacks"):
        check_finetuned(str(body), new_head)


@pytest.mark.parametrize("task", ["causal-lm", "masked-lm"])
def test_prune_and_evaluate(task, causal, bert, tmp_path, caplog):
    model = causal if task == "causal-lm" else bert
    path = write(tmp_path / "a.txt", TEXT * 4)
    budget = hc.Budget(kv_heads=3) if task == "causal-lm" else hc.Budget(heads=5, neurons=0.5)
    options = hc.Options(recipe=RECIPE, baselines=("dense", "random"), latency_length=8)
    with caplog.at_level(logging.WARNING, "headcount"):
        pruned = hc.prune(model, task=task, train=[path], eval=[path], budget=budget,
                          output=tmp_path / "out", options=options)  # fmt: skip
    assert not caplog.messages
    report = pruned.report
    assert (report.metric, report.greater_is_better) == ("perplexity", False)
    assert report_of(tmp_path / "out") == report
    found = hc.evaluate(tmp_path / "out", eval=[path], task=task, recipe=RECIPE)
    assert found == {"perplexity": pytest.approx(report.rows[-1].quality, rel=1e-6)}
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "perplexity (lower is better)" in card
    kind = "text-generation" if task == "causal-lm" else "fill-mask"
    assert f"pipeline_tag: {kind}" in card
    pipe = transformers.pipeline(kind, str(tmp_path / "out"))
    text = "a dog" if task == "causal-lm" else "a [MASK] runs"
    assert pipe(text, **({"max_new_tokens": 2} if task == "causal-lm" else {}))


@pytest.mark.parametrize("task", ["causal-lm", "masked-lm"])
def test_a_teacher_is_asked_about_each_token(task, causal, bert, tmp_path):
    model = causal if task == "causal-lm" else bert
    path = write(tmp_path / "a.txt", TEXT)
    options = hc.Options(recipe=RECIPE, distil=True, finetuned=True, latency_length=8)
    pruned = hc.prune(model, task=task, train=[path], eval=[path], budget=hc.Budget(neurons=0.5),
                      options=options)  # fmt: skip
    assert pruned.decision.num_kept == pruned.decision.num_units // 2


@pytest.mark.parametrize("method", [hc.Fisher(), hc.GradientImportance(), hc.Magnitude()])
def test_methods_that_look_at_data(method, causal, tmp_path):
    path = write(tmp_path / "a.txt", TEXT)
    options = hc.Options(recipe=RECIPE, finetuned=True, latency_length=8, num_examples=4)
    pruned = hc.prune(causal, task="causal-lm", train=[path], eval=[path],
                      budget=hc.Budget(neurons=24), method=method, options=options)  # fmt: skip
    assert hc.units(pruned.model).num("neuron") == 24


def test_evaluation_while_training(causal, tmp_path):
    """The Trainer measures as ``prune`` does afterwards."""
    path = write(tmp_path / "a.txt", TEXT)
    recipe = Recipe(epochs=1, batch_size=4, max_length=8, training={"eval_strategy": "epoch"})
    pruned = hc.prune(causal, task="causal-lm", train=[path], eval=[path],
                      budget=hc.Budget(neurons=24), output=tmp_path / "out",
                      options=hc.Options(recipe=recipe, latency_length=8))  # fmt: skip
    assert pruned.report.rows[-1].quality > 1


def test_names_and_settings():
    assert TASKS["causal-lm"] == CausalLM()
    assert TASKS["masked-lm"] == MaskedLM()
    assert CausalLM(metric="accuracy").greater_is_better
    with pytest.raises(hc.PruningError, match="metric"):
        CausalLM(metric="bleu")


def test_a_teacher_without_distillation_is_refused(causal, tmp_path):
    model = llama(1)
    with pytest.raises(TrainingError, match="nothing is learnt from it without distillation"):
        hc.PruningTrainer(model=model, method=hc.DSP(), budget=hc.Budget(neurons=24), teacher=model)
