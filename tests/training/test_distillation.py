"""Learning from a teacher: the loss, the column it needs, and steps in parts."""

import pytest
import torch
import transformers
from datasets import Dataset
from torch.nn.functional import softmax
from transformers import default_data_collator

import headcount as hc
from cases import bert
from headcount.training.distillation import TEACHER, Distillation, taught


def rows(number=8):
    torch.manual_seed(0)
    ids = torch.randint(1, 40, (number, 6))
    labels = torch.arange(number) % 3
    return Dataset.from_dict({"input_ids": ids.tolist(), "labels": labels.tolist()})


def trainer(
    folder,
    data,
    *,
    method=None,
    distillation=None,
    kind=transformers.BertForSequenceClassification,
    **arguments,
):
    torch.manual_seed(0)
    args = transformers.TrainingArguments(
        str(folder),
        max_steps=1,
        learning_rate=0.1,
        max_grad_norm=0.0,
        optim="sgd",
        lr_scheduler_type="constant",
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
        train_sampling_strategy="sequential",
        **arguments,
    )
    model = kind(bert().config)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return hc.PruningTrainer(
        model=model,
        method=method or hc.Random(seed=0),
        budget=hc.Budget(heads=6),
        args=args,
        train_dataset=data,
        data_collator=default_data_collator,
        distillation=distillation,
    )


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_loss_is_the_divergence_from_the_teacher(temperature):
    own, teacher = torch.randn(2, 5, 3, dtype=torch.float64)
    expected = 0.0
    for mine, theirs in zip(own, teacher, strict=True):
        p, q = softmax(theirs / temperature, 0), softmax(mine / temperature, 0)
        expected += (p * (p / q).log()).sum() / 5 * temperature**2
    assert Distillation(temperature=temperature).loss(own, teacher).item() == pytest.approx(
        expected
    )


def test_the_teacher_is_asked_once_about_each_row_without_its_label():
    teacher, data = bert(), rows()
    answers = torch.tensor(taught(data, teacher, default_data_collator, batch_size=3)[TEACHER])
    with torch.no_grad():
        expected = teacher(torch.tensor(data["input_ids"])).logits
    assert torch.allclose(answers, expected, atol=1e-6)


def test_a_model_that_is_no_classifier_cannot_teach():
    model = transformers.BertForTokenClassification(bert().config)
    with pytest.raises(hc.TrainingError, match=r"the teacher gives no logits \[batch, labels\]"):
        taught(rows(), model, default_data_collator)


def test_a_teacher_of_one_label_is_refused():
    """Its softmax is one whatever it says."""
    config = bert().config
    config.num_labels = 1
    teacher = transformers.BertForSequenceClassification(config)
    with pytest.raises(hc.TrainingError, match="the teacher has one label"):
        taught(rows(), teacher, default_data_collator)


def test_a_teacher_of_other_labels_is_refused():
    with pytest.raises(hc.TrainingError, match=r"logits \[4, 3\] of the model and \[4, 2\]"):
        Distillation().loss(torch.zeros(4, 3), torch.zeros(4, 2))


def test_a_trainer_learns_from_the_teacher_alone_where_it_has_all_the_weight(tmp_path):
    """The teacher's answers are the labels' opposite; a step goes towards the teacher."""
    data = rows()
    wanted = torch.nn.functional.one_hot((torch.tensor(data["labels"]) + 1) % 3, 3) * 6.0
    data = data.add_column(TEACHER, wanted.tolist())
    run = trainer(tmp_path, data, distillation=Distillation(weight=1.0, temperature=1.0))
    ids = torch.tensor(data["input_ids"])

    def distance():
        with torch.no_grad():
            logits = run.model.eval()(ids).logits
        return Distillation(temperature=1.0).loss(logits, wanted).item()

    before = distance()
    run.train()
    assert distance() < before


def test_the_same_data_without_a_teacher_are_refused(tmp_path):
    with pytest.raises(hc.TrainingError, match="the training data have no column 'teacher_logits'"):
        trainer(tmp_path, rows(), distillation=Distillation())


class Counting(transformers.BertForSequenceClassification):
    """A classifier whose loss heeds the count of the whole step."""

    def forward(self, input_ids, labels=None, num_items_in_batch=None, **kwargs):
        found = super().forward(input_ids, labels=labels, **kwargs)
        if num_items_in_batch is not None:
            found.loss = found.loss * len(input_ids) / num_items_in_batch
        return found


@pytest.mark.compat
@pytest.mark.parametrize("accepts", [None, "heeded", False], ids=str)
@pytest.mark.parametrize("weight", [None, 0.5, 1.0])
@pytest.mark.parametrize("method", [hc.Random(seed=0), hc.HardConcrete()], ids=repr)
def test_a_step_in_parts_is_the_step_of_the_whole_batch(
    tmp_path, method, weight, accepts, monkeypatch
):
    """Label's part, teacher's part and penalty keep their shares, whoever divides."""
    gates = torch.linspace(0.1, 1.0, 12)
    monkeypatch.setattr(hc.Session, "draw", lambda session: gates)
    data = rows().add_column(TEACHER, torch.randn(8, 3).tolist())
    moved = []
    for size, parts in ((8, 1), (4, 2), (2, 4)):
        run = trainer(
            tmp_path / str(parts),
            data if weight else rows(),
            method=method,
            distillation=Distillation(weight=weight) if weight else None,
            kind=Counting if accepts == "heeded" else transformers.BertForSequenceClassification,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=parts,
        )
        if accepts is False:
            run.model_accepts_loss_kwargs = False
        start = torch.cat([p.detach().flatten() for p in run.model.parameters()])
        run.train()
        learnt = [*run.model.parameters(), *run.session.parameters()]
        moved.append(torch.cat([p.detach().flatten() for p in learnt]))
        assert not torch.equal(moved[-1][: len(start)], start)
    assert torch.allclose(moved[0], moved[1], atol=1e-6)
    assert torch.allclose(moved[0], moved[2], atol=1e-6)


def test_a_collator_that_drops_the_column_is_refused(tmp_path):
    data = rows().add_column(TEACHER, torch.randn(8, 3).tolist())
    run = trainer(tmp_path, data, distillation=Distillation())
    whole = run.data_collator
    run.data_collator = lambda rows: {k: v for k, v in whole(rows).items() if k != TEACHER}
    with pytest.raises(hc.TrainingError, match=r"a batch has no 'teacher_logits'\. Give a"):
        run.train()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Distillation(weight=0.0), r"Distillation\(weight=0.0\): give a share in"),
        (lambda: Distillation(weight=1.5), r"Distillation\(weight=1.5\)"),
        (
            lambda: Distillation(temperature=0.0),
            r"Distillation\(temperature=0.0\): give a positive",
        ),
    ],
)
def test_settings_out_of_range_are_refused(make, message):
    with pytest.raises(hc.TrainingError, match=message):
        make()
