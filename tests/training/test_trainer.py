import math
import shutil

import pytest
import torch
from transformers import TrainerCallback, TrainingArguments

import headcount as hc
from cases import METHODS, bert
from headcount.gates.attach import has_gates
from trainers import Rows, Seeing, StopAt, Uneven, trainer


@pytest.mark.compat
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_training_ends_with_the_exact_budget_cut_out(tmp_path, method):
    made = trainer(tmp_path, method=method)
    made.train()
    small = made.prune()
    assert made.decision().num_kept == hc.units(small).num("head") == 5
    assert made.decision().provenance["steps"] == 8
    assert hc.units(made.model).num("head") == 12


def test_the_cut_model_evaluates_like_the_gated_one(tmp_path):
    made = trainer(tmp_path)
    made.train()
    gated = made.evaluate()["eval_loss"]
    small = made.prune()
    inputs = torch.utils.data.default_collate([Rows()[i] for i in range(32)])
    assert small(**inputs).loss.item() == pytest.approx(gated, abs=1e-5)


def test_the_log_shows_temperature_size_entropy_and_changes(tmp_path):
    made = trainer(tmp_path, method=hc.DSP(estimator=hc.RelaxedTopK()))
    made.train()
    logs = [entry for entry in made.state.log_history if "loss" in entry]
    assert [entry["temperature"] for entry in logs][-1] == 0.01
    assert [entry["size"] for entry in logs] == sorted((e["size"] for e in logs), reverse=True)
    assert logs[-1]["size"] == 5
    assert all(0 <= entry["entropy"] <= math.log(12) + 1e-9 for entry in logs)
    assert all(entry["heads_changed"] in range(0, 13, 2) for entry in logs)


def test_the_log_shows_the_changes_of_each_kind(tmp_path):
    made = trainer(tmp_path, budget=hc.Budget(heads=5, neurons=40))
    made.train()
    logs = [entry for entry in made.state.log_history if "loss" in entry]
    for name, total in (("heads_changed", 12), ("neurons_changed", 96)):
        assert all(0 <= entry[name] <= total for entry in logs)
        assert any(entry[name] for entry in logs)


def test_hard_concrete_gates_train_under_their_pressure_until_they_settle(tmp_path):
    made = trainer(tmp_path, method=hc.HardConcrete(), steps=10)
    made.train()
    logs = [entry for entry in made.state.log_history if "loss" in entry]
    assert [entry["target"] for entry in logs] == pytest.approx(
        [10.25, 8.5, 6.75, 5, 5, 5, 5, 5, 5, 5]
    )
    moving = [entry["lambda1"] for entry in logs[:8]]
    assert moving[0] > 0 > moving[-1]  # at first more is closed than asked, then less
    assert len(set(moving)) == 8
    for name in ("lambda1", "lambda2", "expected", "decided"):
        assert len({entry[name] for entry in logs[7:]}) == 1
    assert made.optimizer.param_groups[-1]["initial_lr"] == 0.1


@pytest.mark.parametrize("method", [hc.DSP(), hc.HardConcrete()], ids=lambda method: method.name)
def test_a_second_run_starts_the_choice_anew(tmp_path, method):
    made = trainer(tmp_path, method=method, callbacks=[StopAt(6)])
    start = {name: value.clone() for name, value in made.session.state_dict().items()}
    with pytest.raises(KeyboardInterrupt):
        made.train()
    assert made.session.num_done == 6
    made.pop_callback(StopAt)
    seen = []

    class See(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            if not state.global_step:
                seen.append({k: v.clone() for k, v in made.session.state_dict().items()})

    made.add_callback(See())
    made.train()
    assert all(torch.equal(value, start[name]) for name, value in seen[0].items())
    assert made.decision().provenance["steps"] == 8


def test_several_devices_in_one_process_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(TrainingArguments, "n_gpu", 2)
    with pytest.raises(hc.TrainingError, match=r"2 devices in one process .* with torchrun"):
        trainer(tmp_path)


def test_a_scheduler_that_knows_nothing_of_the_logits_is_refused(tmp_path):
    model = bert()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    args = TrainingArguments(str(tmp_path), report_to=[])
    given = {"model": model, "method": hc.DSP(), "budget": hc.Budget(heads=5), "args": args}
    with pytest.raises(hc.TrainingError, match=r"Give \(optimizer, None\)"):
        hc.PruningTrainer(optimizers=(optimizer, scheduler), **given)
    hc.PruningTrainer(optimizers=(optimizer, None), **given).session.close()


def test_logits_have_their_own_group_without_decay(tmp_path):
    made = trainer(tmp_path, weight_decay=0.1)
    made.train()
    group = made.optimizer.param_groups[-1]
    assert group["params"] == list(made.session.parameters())
    assert (group["weight_decay"], group["initial_lr"]) == (0.0, 0.5)
    assert sum(len(g["params"]) for g in made.optimizer.param_groups) == 1 + sum(
        1 for _ in made.model.parameters()
    )


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
@pytest.mark.parametrize("resume", [True, "checkpoint-4"])
def test_a_killed_run_resumes_to_the_same_weights_and_decision(tmp_path, method, resume):
    whole = trainer(tmp_path / "whole", method=method)
    whole.train()
    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path / "killed", method=method, callbacks=[StopAt(5)]).train()
    second = trainer(tmp_path / "killed", method=method)
    second.train(resume if resume is True else str(tmp_path / "killed" / resume))
    assert second.decision().sites == whole.decision().sites
    expected = whole.model.state_dict()
    assert all(torch.equal(v, expected[k]) for k, v in second.model.state_dict().items())


def grouped(folder, **given):
    """A run of three epochs in batches of like length, and the rows that it sees."""
    seeing = Seeing()
    by_length = {"train_sampling_strategy": "group_by_length", "remove_unused_columns": False}
    made = trainer(folder, steps=24, rows=Uneven(), collator=seeing, **by_length, **given)
    return made, seeing.batches


@pytest.mark.compat
@pytest.mark.parametrize("killed_at", [5, 13, 17, 22])
def test_a_run_killed_in_any_epoch_sees_every_row_once_an_epoch(tmp_path, killed_at):
    whole, batches = grouped(tmp_path / "whole")
    whole.train()
    epochs = [batches[first : first + 8] for first in (0, 8, 16)]
    rows = [[row for batch in epoch for row in batch] for epoch in epochs]
    assert all(sorted(epoch) == list(range(32)) for epoch in rows)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    with pytest.raises(KeyboardInterrupt):
        grouped(tmp_path / "killed", callbacks=[StopAt(killed_at)])[0].train()
    second, rest = grouped(tmp_path / "killed")
    second.train(True)
    assert rest == batches[killed_at // 2 * 2 :]
    assert second.decision().sites == whole.decision().sites
    expected = whole.model.state_dict()
    assert all(torch.equal(v, expected[k]) for k, v in second.model.state_dict().items())


def test_methods_of_one_seed_see_the_same_rows_however_much_they_draw(tmp_path):
    empty = hc.cut(bert(), hc.decide(bert(), hc.Random(), hc.Budget(heads=0)))
    assert hc.units(empty).num("head") == 0  # fewer calls of dropout
    runs = {"dsp": {}, "hard-concrete": {"method": hc.HardConcrete()}}
    runs["empty"] = {"model": empty, "method": hc.Random(), "budget": hc.Budget(layers=1.0)}
    seen = []
    for name, given in runs.items():
        made, batches = grouped(tmp_path / name, **given)
        made.train()
        seen.append(batches)
    assert seen[0] == seen[1] == seen[2]


def test_a_killed_run_over_several_kinds_resumes_to_the_same_decision(tmp_path):
    several = {"budget": hc.Budget(sublayers={"self": 2, "ffn": 2}, heads=5, neurons=30)}
    whole = trainer(tmp_path / "whole", **several)
    whole.train()
    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path / "killed", callbacks=[StopAt(5)], **several).train()
    second = trainer(tmp_path / "killed", **several)
    second.train(True)
    decision = second.decision()
    assert decision.sites == whole.decision().sites
    assert [decision.num(kind) for kind in ("sublayer", "head", "neuron")] == [4, 5, 30]
    small = hc.units(second.prune())
    assert [small.num(kind) for kind in ("sublayer", "head", "neuron")] == [4, 5, 30]


def test_a_half_written_checkpoint_is_passed_over(tmp_path):
    whole = trainer(tmp_path / "whole")
    whole.train()
    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path / "killed", callbacks=[StopAt(5)]).train()
    (tmp_path / "killed" / "checkpoint-4" / "headcount.json").unlink()
    second = trainer(tmp_path / "killed")
    second.train(True)
    assert second.decision().sites == whole.decision().sites


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    trainer(folder, steps=2).train()
    return folder / "checkpoint-2"


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"heads": 6}, r"made with another budget: .*\"heads\": 5.* this run has .*\"heads\": 6"),
        ({"method": hc.Magnitude()}, "made with another method"),
        ({"seed": 3}, "made with another seed: 42, this run has 3"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path, checkpoint, other, message):
    with pytest.raises(hc.CheckpointError, match=message):
        trainer(tmp_path, **other).train(str(checkpoint))


def test_a_checkpoint_of_another_model_is_refused(tmp_path, checkpoint):
    from cases import CLASSIFIERS

    with pytest.raises(hc.CheckpointError, match="made with another sites"):
        trainer(tmp_path, model=CLASSIFIERS[3].make()).train(str(checkpoint))


def test_an_incomplete_checkpoint_is_refused_by_name(tmp_path, checkpoint):
    copy = tmp_path / "checkpoint-2"
    shutil.copytree(checkpoint, copy)
    (copy / "headcount.json").unlink()
    with pytest.raises(hc.CheckpointError, match=r"no headcount\.json there"):
        trainer(tmp_path).train(str(copy))


def test_resuming_where_there_is_nothing_is_refused(tmp_path):
    with pytest.raises(hc.CheckpointError, match="no complete checkpoint in"):
        trainer(tmp_path).train(True)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step(tmp_path):
    model = bert()
    made = trainer(tmp_path, model=model)

    class Poison(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 2:
                torch.nn.init.constant_(model.classifier.bias, math.nan)

    made.add_callback(Poison())
    with pytest.raises(hc.TrainingError, match="the loss is nan at step 3"):
        made.train()


def test_picking_the_best_checkpoint_is_refused(tmp_path):
    with pytest.raises(hc.TrainingError, match="load_best_model_at_end=True"):
        trainer(tmp_path, load_best_model_at_end=True, eval_strategy="steps", eval_steps=2)


def test_gradient_accumulation_draws_gates_for_every_part(tmp_path):
    made = trainer(tmp_path, gradient_accumulation_steps=2, steps=3)
    made.train()
    assert made.session.num_done == 3
    assert made.decision().num_kept == 5


def test_a_pipelined_result_can_be_trained_on(tmp_path):
    made = trainer(tmp_path, method=hc.DSP(training="pipelined"), steps=2)
    made.train()
    assert all(parameter.requires_grad for parameter in made.prune().parameters())
    assert not any(parameter.requires_grad for parameter in made.model.parameters())


def test_a_model_that_is_cut_after_the_session_was_closed_has_no_gates(tmp_path):
    made = trainer(tmp_path, steps=2)
    made.train()
    made.session.close()
    assert not any(has_gates(model) for model in (made.prune(), made.model))


def test_the_logits_are_clipped_apart_from_the_weights(tmp_path):
    """One that explodes neither moves its logit far nor takes the step from the weights."""
    moved = {}
    for scale in (1.0, 1e6):
        made = trainer(
            tmp_path / str(scale), method=hc.DSP(shrinking=None, max_grad_norm=1e-3), steps=1,
            optim="sgd", lr_scheduler_type="constant",
        )  # fmt: skip
        (logits,) = made.session.parameters()
        logits.register_hook(lambda grad, scale=scale: scale * grad)
        before = [p.detach().clone() for p in (logits, made.model.classifier.weight)]
        made.train()
        after = (logits, made.model.classifier.weight)
        moved[scale] = [(a - b).norm().item() for a, b in zip(after, before, strict=True)]
    assert 0 < moved[1.0][0] < 0.5 * 1e-3
    assert moved[1e6][0] == pytest.approx(0.5 * 1e-3, rel=1e-3)
    assert moved[1e6][1] == pytest.approx(moved[1.0][1], rel=1e-6)


def test_the_result_of_mixed_precision_training_is_a_plain_model(tmp_path):
    made = trainer(tmp_path, steps=2, bf16=True, use_cpu=True)
    made.train()
    small = made.prune()
    assert "forward" not in vars(small)
    assert small(**{k: v[None] for k, v in Rows()[0].items() if k != "labels"}).logits.dtype == (
        torch.float32
    )


def test_a_failing_start_leaves_the_model_without_gates(tmp_path):
    from headcount.gates.attach import has_gates

    model = bert()
    with pytest.raises(TypeError):
        hc.PruningTrainer(model=model, method=hc.DSP(), budget=hc.Budget(heads=3), nonsense=1)
    assert not has_gates(model)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"method": "dsp"},
            r"PruningTrainer\(method='dsp'\): a str is no Method\. Give .* hc\.DSP\(",
        ),
        (
            {"method": hc.DSP},
            r"PruningTrainer\(method=DSP\): a class is no Method\. Give an instance",
        ),
        ({"budget": 5}, r"PruningTrainer\(budget=5\): an int is no Budget\."),
    ],
)
def test_something_of_the_wrong_type_is_refused_with_the_right_one(given, message):
    call = {"method": hc.DSP(), "budget": hc.Budget(heads=5), **given}
    with pytest.raises(hc.ArgumentError, match=message):
        hc.PruningTrainer(model=bert(), **call)
