"""Calls of the library with something wrong in one argument."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import nn

import headcount as hc
from cases import bert
from headcount.reports.report import report_of
from headcount.units.decision import SiteDecision

Call = tuple[str, Callable[[], object]]

INPUTS = {"input_ids": torch.arange(5, 29).view(3, 8), "labels": torch.arange(3) % 3}
NOTHING: list[Any] = [None, 3, "bert", [], {}]
BUDGET = hc.Budget(heads=5)
CURVE = {"kind": "head", "modules": ("a",), "counts": (0, 4), "costs_ns": (0, 8)}
SITE = {"module": "a", "kind": "head", "layer": 0, "stack": "encoder"}
SITE |= {"keep": (True,), "scores": (0.0,)}
TABLE = {"whole_ns": 100, "curves": (hc.Curve(**CURVE),), "batch": 8, "length": 64}
RUN = {"model": "nowhere", "train": ["train.tsv"], "eval": ["dev.tsv"], "budget": BUDGET}
EVALUATE = {"folder": "nowhere", "eval": ["dev.tsv"]}


def wrong(call: Callable[..., object], base: dict[str, Any], **others: list[Any]) -> Iterator[Call]:
    """A call with each of some values in the place of one argument."""
    for name, values in others.items():
        for value in values:
            said = f"{call.__qualname__}({name}={type(value).__name__} {value!r:.30})"
            yield said, partial(call, **{**base, name: value})


def enter(**arguments: Any) -> None:
    """``masked``, entered."""
    with hc.masked(**arguments):
        pass


def one_batch_of(inputs: dict[str, Any], model: nn.Module) -> None:
    """A decision by gradients, about batches that come one at a time."""
    hc.decide(model, hc.Fisher(), BUDGET, iter([inputs]))


def decisions(model: nn.Module) -> Iterator[Call]:
    """Of what decides."""
    whole = {"model": model, "method": hc.Random(seed=0), "budget": BUDGET}
    looks = {**whole, "method": hc.Fisher(), "batches": [INPUTS]}
    live = {**whole, "method": hc.DSP(), "num_steps": 4}
    unlabelled = {"input_ids": INPUTS["input_ids"]}
    lists = {"input_ids": [[5, 6]], "labels": [0]}
    batches = [None, "abc", 3, [None], ["abc"], [3], INPUTS, [], torch.zeros(3, 4), [{}]]
    methods = [None, "dsp", hc.DSP, hc.DSP()]
    seeds = [None, "0", 1.5, 2**70, True, [0], math.nan]
    yield from wrong(hc.units, {}, model=NOTHING)
    yield "units(kind=3)", partial(hc.units, model, 3)  # pyright: ignore[reportArgumentType]
    yield "units(kind=None)", partial(hc.units, model, None)  # pyright: ignore[reportArgumentType]
    yield from wrong(hc.decide, whole, model=[None, "bert", nn.Module], method=methods, seed=seeds)
    yield from wrong(hc.decide, whole, budget=[None, 5, "5", 0.5, {"heads": 5}, hc.Budget])
    yield from wrong(hc.decide, whole, progress=["print"])
    yield from wrong(hc.decide, looks, batches=[*batches, [unlabelled], [lists]])
    yield from wrong(one_batch_of, {"model": model}, inputs=["abc", None, unlabelled])
    yield from wrong(hc.attach, live, num_steps=[None, "4", -1, 1.5, True], budget=[3, None])
    yield from wrong(hc.attach, live, model=NOTHING)
    post = hc.prune_post_training
    yield from wrong(post, looks, batches=[None, "abc", [3], INPUTS], scales=["x", None, 1])
    yield from wrong(post, looks, model=["bert"], budget=[5], seed=["x"], method=["fisher"])
    trainer = {"model": model, "method": hc.DSP(), "budget": BUDGET}
    yield from wrong(hc.PruningTrainer, trainer, model=["bert", 3], args=["out", {}], budget=[5])
    yield from wrong(hc.PruningTrainer, trainer, method=["dsp"], distillation=[0.5, "x"])


def surgery(model: nn.Module) -> Iterator[Call]:
    """Of what goes by a decision."""
    decision = hc.decide(model, hc.Random(seed=0), BUDGET)
    both = {"model": model, "decision": decision}
    fold = {**both, "scales": torch.ones(12)}
    rescale = {**both, "batches": [INPUTS]}
    scales = [None, "1", [1.0] * 12, torch.ones(3), 1.0]
    yield from wrong(hc.cut, both, decision=[*NOTHING, decision.to_json()], model=NOTHING)
    yield from wrong(hc.cut, both, in_place=["yes", None, 1])
    yield from wrong(enter, both, decision=[None, "x"], model=[None], scales=["1", [1.0]])
    yield from wrong(hc.fold, fold, scales=scales, decision=[None, 3])
    yield from wrong(hc.rescale, rescale, batches=[None, "abc", 3, [None], ["a"], []])
    yield from wrong(hc.rescale, rescale, decision=[None, "x"], damping=["0", -1.0, math.nan, None])
    yield from wrong(hc.rescale, rescale, largest=[0, "9"], report=["x"])


def folders(model: nn.Module) -> Iterator[Call]:
    """Of what reads and writes folders."""
    save = {"model": model, "folder": "nowhere/model"}
    export = {"folder": "nowhere", "output": "nowhere.onnx"}
    recipes = [3, "x", hc.Recipe]
    yield from wrong(hc.save, save, model=[None, "bert", nn.Linear(2, 2)])
    yield from wrong(hc.save, save, folder=[None, 3, b"x", torch.ones(2)], standalone=["yes", None])
    yield from wrong(hc.save, save, padded=[3])
    yield from wrong(hc.export, export, folder=[None, 3, "nowhere"], output=[None, 3], dense=[3])
    yield from wrong(hc.export, export, to=["pdf", None, 3], batch=["8", None, -1], seed=["x"])
    yield from wrong(hc.export, export, length=[1.5, "64"])
    yield from wrong(hc.evaluate, EVALUATE, folder=[None, 3], eval=[None, "dev.tsv", 3, [None], []])
    yield from wrong(hc.evaluate, EVALUATE, task=[None, 3, "poem"], recipe=recipes)
    yield from wrong(hc.prune, RUN, model=[None, 3, model], eval=[None, []], output=[3, b"x"])
    yield from wrong(hc.prune, RUN, train=[None, "train.tsv", 3, [3], []], budget=[None, 3])
    yield from wrong(hc.prune, RUN, method=["dsp", hc.DSP, 3], options=[3, {}, hc.Options])
    taught = {"dataset": 3, "teacher": model, "collator": list}
    yield from wrong(hc.taught, taught, dataset=[None, "x", []])
    measure = {"model": model}
    yield from wrong(hc.latency_table, measure, model=[None, "x"], batch=["8", 0, -1, None])
    yield from wrong(hc.latency_table, measure, length=["64", 0], kinds=["head", [3], ["poem"], 3])
    yield from wrong(hc.latency_table, measure, shares=["x", [2.0], [None]], num_runs=["x", 0])
    for reader in (hc.Decision.load, hc.LatencyTable.load, report_of):
        for value in (None, 3, b"x", "nowhere", "."):
            yield f"{reader.__qualname__}({value!r})", partial(reader, value)  # pyright: ignore[reportArgumentType]
    for reader in (hc.Decision.from_json, hc.LatencyTable.from_json):
        for value in (None, 3, b"{}", "", "[]", "null"):
            yield f"{reader.__qualname__}({value!r})", partial(reader, value)  # pyright: ignore[reportArgumentType]


def settings() -> Iterator[Call]:
    """Of what holds settings."""
    amounts = ["3", None, -1, True, math.nan, 1.5, [3], {"self": "3"}, {3: 4}, {}]
    rates = ["x", None, -1, math.inf, True]
    yield from wrong(hc.Budget, {}, heads=amounts)
    yield from wrong(hc.Budget, {"heads": 5}, scope=["x", None, 3], place=[3, None])
    yield from wrong(hc.Budget, {"heads": 5}, min_per_layer=["1", -1, None, 1.5])
    yield from wrong(hc.Budget, {"params": 0.5}, kinds=["head", 3, [3], ["poem"]])
    yield from wrong(hc.Budget, {"params": 0.5}, length=["128", -1, None], params=["x", -1, 1.5])
    yield from wrong(hc.DSP, {}, learning_rate=rates, estimator=[None, "x", hc.RelaxedTopK])
    yield from wrong(hc.DSP, {}, shrinking=[3], training=[None, "x"])
    yield from wrong(hc.HardConcrete, {}, pressure=[None], temperature=["x", 0], settle=[None, -1])
    yield from wrong(hc.HardConcrete, {}, openness=["x", 2])
    yield from wrong(hc.GradientImportance, {}, share=["x", None, 0, math.nan], average=[None, 3])
    yield from wrong(hc.Annealing, {}, start=["x", None], cooldown=["x", None, 0, True], end=[-1])
    yield from wrong(hc.Shrinking, {}, hold=["x", None], end=["x"], power=[None, 0])
    yield from wrong(hc.Sampling, {}, hold=["x", None, 2])
    yield from wrong(hc.L0Penalty, {}, weight=["x", None, -1])
    yield from wrong(hc.Lagrangian, {}, warmup=["x", None], stiffness=["x", math.nan])
    yield from wrong(hc.LayerDrop, {}, drop=["x", None, 1])
    yield from wrong(hc.Random, {}, seed=["x", 1.5, -1, [0]])
    yield from wrong(hc.Fisher, {}, order=["x", None, 3], average=[3])
    yield from wrong(hc.Recipe, {}, epochs=["3", None, 0, math.nan, True], save_steps=[0.5])
    yield from wrong(hc.Recipe, {}, batch_size=["x", 1.5, 0], warmup=["x"], max_length=[None])
    yield from wrong(hc.Recipe, {}, seed=["x", -1, 2**40])
    settings = [{"bf16": 1}, {"bf17": True}, {"max_steps": math.inf}, {"seed": 1}, {3: 4}]
    yield from wrong(hc.Recipe, {}, training=[None, "bf16", ["bf16"], *settings])
    yield from wrong(hc.Options, {}, recipe=[None, {}, 3], baselines=["dense", [3], ["x"], None])
    yield from wrong(hc.Options, {}, latency_batch=["x", None], recover_epochs=["x"])
    yield from wrong(hc.Options, {}, resume=["yes"], console=[3])
    yield from wrong(hc.Distillation, {}, weight=["x", None, 2], temperature=["x", math.inf])


def values() -> Iterator[Call]:
    """Of what holds what came out."""
    counts = [None, "04", [0, "4"], (0.5, 4)]
    costs = [(0, -1), (0, "8"), None]
    scores = [None, ("x",), (None,), ()]
    yield from wrong(hc.Curve, CURVE, counts=counts, modules=["a", None], kind=[3], costs_ns=costs)
    yield from wrong(hc.LatencyTable, TABLE, whole_ns=["x", -1, None, math.nan], batch=[-1, "8"])
    yield from wrong(hc.LatencyTable, TABLE, curves=[None, [3], "x"])
    yield from wrong(hc.Decision, {}, sites=[None, 3, [3], "x"])
    yield from wrong(
        SiteDecision, SITE, keep=[None, "1", (1,), (None,)], scores=scores, layer=["x"]
    )


def wrong_calls() -> list[Call]:
    """All of them."""
    model = bert()
    return [*chain(decisions(model), surgery(model), folders(model), settings(), values())]
