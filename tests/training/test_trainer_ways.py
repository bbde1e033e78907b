"""What users hand to a Trainer, and to ``PruningTrainer`` as well."""

import logging

import pytest
import torch
import transformers
from torch.utils.data import Dataset
from transformers import EarlyStoppingCallback, TrainerCallback, TrainingArguments

import headcount as hc
from cases import bert
from headcount.gates.attach import has_gates
from trainers import Rows, trainer

RELAXED = hc.DSP(estimator=hc.RelaxedTopK())


def checkpointing(reentrant):
    """As arguments; newer versions have another name for it."""
    fields = TrainingArguments.__dataclass_fields__
    name = next(n for n in ("activation_checkpointing", "gradient_checkpointing") if n in fields)
    return {name: True, f"{name}_kwargs": {"use_reentrant": reentrant}}


def logged(made):
    return [entry["loss"] for entry in made.state.log_history if "loss" in entry]


def summed(outputs, labels, num_items_in_batch):
    """As the Trainer's documentation writes it."""
    loss = torch.nn.functional.cross_entropy(outputs.logits, labels, reduction="sum")
    return loss / num_items_in_batch


def mean(outputs, labels, num_items_in_batch):
    """Is told the count, and gives the mean over the batch all the same."""
    assert num_items_in_batch > 0
    return torch.nn.functional.cross_entropy(outputs.logits, labels)


def with_loss(folder, func, **given):
    made = trainer(folder, steps=2, **given)
    made.compute_loss_func = func
    made.train()
    return made


@pytest.mark.parametrize("func", [None, summed, mean])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_parts_of_a_step_make_one_step(tmp_path, func, smoothing):
    """Four batches of two rows as one of eight: without dropout or noise, to rounding."""
    if func is not None and smoothing:
        pytest.skip("the Trainer takes the one or the other")
    found = []
    for parts in (1, 4):
        made = with_loss(
            tmp_path / str(parts),
            func,
            model=still(),
            per_device_train_batch_size=8 // parts,
            gradient_accumulation_steps=parts,
            label_smoothing_factor=smoothing,
            optim="sgd",
            lr_scheduler_type="constant",
        )
        found.append([*made.model.parameters(), *made.session.parameters()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-7, rtol=1e-5)


def still():
    torch.manual_seed(0)
    model = bert()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


def test_a_second_run_forgets_the_moments_of_the_logits(tmp_path):
    """It comes to what a fresh trainer comes to; the weights rest, so all else is the same."""
    model, given = still(), {"method": hc.DSP(training="pipelined"), "steps": 4}
    found = []
    for runs in (2, 1):
        made = trainer(tmp_path / str(runs), model=model, **given)
        for _ in range(runs):
            made.train()
        found.append(made.session.scores().clone())
        made.session.close()
    assert torch.equal(*found)


def test_saving_the_whole_model_is_said(tmp_path, caplog):
    made = trainer(tmp_path / "run", steps=2)
    with caplog.at_level(logging.WARNING, "headcount"):
        made.train()  # checkpoints are whole anyhow
        assert "save_model" not in caplog.text
        made.save_model(str(tmp_path / "saved"))
    assert "saves the whole model, with all of its units" in caplog.text
    whole = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved")
    assert hc.units(whole).num("head") == 12


def test_model_init_makes_a_new_model_and_session_for_each_run(tmp_path):
    models = []

    def make():
        models.append(bert())
        return models[-1]

    args = TrainingArguments(
        str(tmp_path), max_steps=2, report_to=[], disable_tqdm=True, save_strategy="no"
    )
    made = hc.PruningTrainer(
        model_init=make, method=hc.DSP(), budget=hc.Budget(heads=5), args=args,
        train_dataset=Rows(),
    )  # fmt: skip
    decisions = []
    for _ in range(2):
        made.train()
        decisions.append(made.decision())
        assert made.session.num_done == 2
        assert made.session.model is made.model is models[-1]
    assert decisions[0] == decisions[1]  # the seed is that of the arguments
    assert [has_gates(model) for model in models] == [False, False, True]
    assert hc.units(made.prune()).num("head") == 5


@pytest.mark.parametrize("method", [hc.DSP(), hc.HardConcrete()], ids=lambda m: m.name)
def test_a_run_that_learns_is_not_ended_before_its_end(tmp_path, method, caplog):
    evaluated = {"eval_strategy": "steps", "eval_steps": 2, "metric_for_best_model": "loss"}
    with pytest.raises(hc.TrainingError, match=r"method=\w+, args.load_best_model_at_end=True"):
        trainer(tmp_path, method=method, load_best_model_at_end=True, **evaluated)
    early = EarlyStoppingCallback(early_stopping_patience=1)
    with pytest.raises(hc.TrainingError, match="ends before its units are settled"):
        trainer(tmp_path, method=method, callbacks=[early], **evaluated)
    made = trainer(tmp_path, method=method, **evaluated)
    made.add_callback(early)
    with pytest.raises(hc.TrainingError, match="EarlyStoppingCallback"):
        made.train()

    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            control.should_training_stop = state.global_step == 3

    made = trainer(tmp_path, method=method, callbacks=[Stop()])
    made.train()
    assert "stopped after 3 of 8 steps, before the units are settled" in caplog.text


@pytest.mark.parametrize("method", [hc.Random(), hc.Magnitude()], ids=lambda m: m.name)
def test_a_decision_that_stands_is_stopped_early_and_the_best_is_loaded(tmp_path, method):
    made = trainer(
        tmp_path, method=method, load_best_model_at_end=True, eval_strategy="steps", eval_steps=2,
        metric_for_best_model="loss", callbacks=[EarlyStoppingCallback(1, 10.0)],
    )  # fmt: skip
    made.train()
    assert made.state.global_step == 4
    assert hc.units(made.prune()).num("head") == 5


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("method", [hc.HardConcrete(), RELAXED], ids=lambda m: m.name)
def test_gradient_checkpointing_changes_nothing(tmp_path, method, reentrant):
    found = []
    for given in ({}, checkpointing(reentrant)):
        made = trainer(
            tmp_path / str(len(found)), method=method, model=still(), steps=4,
            gradient_accumulation_steps=2, eval_strategy="steps", eval_steps=1,
            torch_empty_cache_steps=1, **given,
        )  # fmt: skip
        made.train()
        found.append([*logged(made), *made.session.scores().tolist()])
    assert found[0] == pytest.approx(found[1], abs=1e-5)


def test_noise_on_embeddings_is_gone_afterwards(tmp_path):
    made = trainer(tmp_path, steps=2, neftune_noise_alpha=5.0)
    made.train()
    small, inputs = made.prune(), torch.utils.data.default_collate([Rows()[0]])
    assert not small.get_input_embeddings()._forward_hooks
    assert small(**inputs).loss.item() == pytest.approx(made.model.eval()(**inputs).loss.item())


def test_an_optimizer_of_ones_own_gets_the_group_of_the_logits(tmp_path):
    model = bert()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    args = TrainingArguments(
        str(tmp_path), max_steps=2, report_to=[], disable_tqdm=True, save_strategy="no"
    )
    made = hc.PruningTrainer(
        model=model, method=hc.DSP(), budget=hc.Budget(heads=5), args=args,
        train_dataset=Rows(), optimizers=(optimizer, None),
    )  # fmt: skip
    before = made.session.scores().clone()
    made.train()
    assert optimizer.param_groups[-1]["params"] == list(made.session.parameters())
    assert not torch.equal(made.session.scores(), before)


@pytest.mark.slow
def test_a_batch_that_does_not_fit_is_halved_and_the_run_starts_anew(tmp_path):
    class TooLarge(hc.PruningTrainer):
        def training_step(self, model, inputs, *args, **kwargs):
            if len(inputs["labels"]) > 4 and self.state.global_step == 1:
                raise RuntimeError("CUDA out of memory.")
            return super().training_step(model, inputs, *args, **kwargs)

    args = TrainingArguments(
        str(tmp_path), max_steps=3, report_to=[], disable_tqdm=True, save_strategy="no",
        per_device_train_batch_size=8, auto_find_batch_size=True,
    )  # fmt: skip
    made = TooLarge(
        model=bert(), method=hc.DSP(), budget=hc.Budget(heads=5), args=args, train_dataset=Rows()
    )
    made.train()
    assert made.session.num_done == made.state.global_step == 3
    assert made.decision().num_kept == 5


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # torch's own
@pytest.mark.parametrize("again", [{}, checkpointing(False)], ids=["once", "again"])
def test_a_compiled_model_trains_to_the_same_result(tmp_path, again):
    found = []
    for given in ({}, {"torch_compile": True, "torch_compile_backend": "aot_eager"}):
        torch._dynamo.reset()
        made = trainer(
            tmp_path / str(len(found)), method=hc.HardConcrete(), model=still(), steps=3,
            **again, **given,
        )  # fmt: skip
        made.train()
        found.append([*logged(made), *made.session.scores().tolist()])
        assert hc.units(made.prune()).num("head") == 5
    assert found[0] == pytest.approx(found[1], abs=1e-5)


class Answered(Dataset):
    """Rows with labels of some sort and a teacher's answers."""

    column_names = ("input_ids", "labels", "teacher_logits")

    def __init__(self, labels, answers):
        self.labels, self.answers = labels, answers

    def __len__(self):
        return 8

    def __getitem__(self, i):
        row = {"input_ids": torch.arange(5, 9), "labels": self.labels}
        return {**row, "teacher_logits": self.answers}


SOFT = torch.tensor([1.0, 0.0, 2.0])


@pytest.mark.parametrize(
    ("labels", "answers", "message"),
    [
        (torch.tensor([1.0, 0.0, 1.0]), SOFT, r"labels of a batch are torch.float32 of shape"),
        (torch.tensor([1, 2, -100, 0]), SOFT.expand(4, 3), r"torch.int64 of shape \[4, 4\]"),
        (torch.tensor(1), SOFT.expand(4, 3), r"of the model and \[4, 4, 3\] of the teacher"),
        (torch.tensor(1), SOFT[:1], r"of the model and \[4, 1\] of the teacher"),
    ],
)
def test_a_teacher_of_anything_but_one_label_is_refused(tmp_path, labels, answers, message):
    made = trainer(
        tmp_path, rows=Answered(labels, answers), distillation=hc.Distillation(), steps=1
    )
    with pytest.raises(hc.TrainingError, match=message):
        made.train()


@pytest.mark.parametrize("problem", ["multi_label_classification", "regression"])
def test_a_model_of_another_problem_has_no_teacher(tmp_path, problem):
    model = bert()
    model.config.problem_type = problem
    rows = Answered(torch.tensor(1), SOFT)
    with pytest.raises(hc.TrainingError, match=f"its problem type is '{problem}'"):
        trainer(tmp_path, model=model, rows=rows, distillation=hc.Distillation())
    from datasets import Dataset as Table

    data = Table.from_list([{"input_ids": [5, 6], "labels": 1}] * 2)
    with pytest.raises(hc.TrainingError, match=rf"taught\(BertFor.*its problem type is '{problem}"):
        hc.taught(data, model, torch.utils.data.default_collate)


@pytest.mark.parametrize("shape", [(2, 5, 3), (2, 1), (3,)])
def test_answers_that_are_no_choice_for_each_example_are_refused(shape):
    with pytest.raises(hc.TrainingError, match=r"give logits \[batch, labels\]"):
        hc.Distillation().loss(torch.zeros(shape), torch.zeros(shape))


@pytest.mark.parametrize("wrap", [torch.nn.DataParallel])
def test_a_wrapped_model_is_refused(wrap):
    with pytest.raises(hc.PruningError, match=r"attach\(DataParallel\): .* before"):
        hc.attach(wrap(bert()), hc.DSP(), hc.Budget(heads=5), num_steps=1)
    model = bert()
    with hc.attach(model, hc.DSP(), hc.Budget(heads=5), num_steps=1):
        replica = model.bert.encoder.layer[0].attention.output.dense._replicate_for_data_parallel()
        with pytest.raises(hc.PruningError, match=r"a replica of nn\.DataParallel"):
            replica(torch.rand(1, 24))
