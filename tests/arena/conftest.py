"""A tiny model with tiny data, and results that no model has been trained for."""

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import headcount as hc
from cases import write_model, write_pairs
from headcount.arena.grid import DENSE, Grid, Settings
from headcount.arena.result import KeptSite, Result


@pytest.fixture(scope="session")
def inputs(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("inputs")
    return {
        "model": write_model(folder / "model"),
        "train": (write_pairs(folder / "train.tsv", 96),),
        "eval": (write_pairs(folder / "eval.tsv", 24, seed=1),),
    }


@pytest.fixture
def quiet() -> Console:
    return Console(file=io.StringIO(), width=200)


@pytest.fixture(scope="session")
def settings(inputs):
    """Makes settings of a few steps; some of them may be changed."""

    def make(**changed) -> Settings:
        recipe = {"epochs": 0.5, "batch_size": 8, "max_length": 24, "save_steps": 2}
        recipe |= changed.pop("recipe", {})
        return Settings(**inputs, recipe=hc.Recipe(**recipe), **changed)

    return make


@pytest.fixture(scope="session")
def grid(settings):
    """Makes a small grid; methods, amounts and seeds may be changed, and the settings."""

    def make(methods=None, amounts=(6, 3), seeds=(0, 1), **changed) -> Grid:
        chosen = methods or {"random": hc.Random()}
        return Grid(settings=settings(**changed), methods=chosen, amounts=amounts, seeds=seeds)

    return make


def kept_heads(module: str, row) -> KeptSite:
    """A site of heads, by zeros and ones."""
    bits = "".join("01"[int(k)] for k in row)
    num = bits.count("1")
    layer = module.rpartition(".")[2]
    return KeptSite(module=module, kind="head", layer=layer, num=num, whole=len(bits), keep=bits)


def make_result(method=DENSE, amount=None, seed=0, *, chance=0.7, **changed) -> Result:
    """What a cell of a model of two layers of four heads could have given."""
    generator = np.random.default_rng([seed, amount or 8, *method.encode()])
    order = generator.permutation(8)
    keep = np.isin(np.arange(8), order[: 8 if amount is None else amount]).reshape(2, 4)
    correct = "".join("01"[right] for right in (generator.random(200) < chance).astype(int))
    known = {
        "method": method,
        "amount": amount,
        "seed": seed,
        "described": {"name": method},
        "units": {"head": tuple(int(count) for count in keep.sum(1))},
        "sites": tuple(kept_heads(f"layer.{i}", row) for i, row in enumerate(keep)),
        "quality": correct.count("1") / 200,
        "num_steps": 10,
        "train_s": 1.5,
        "digest": "0123",
        "environment": {},
        "correct": correct,
    }
    return Result(**{**known, **changed})


@pytest.fixture
def result():
    return make_result


@pytest.fixture
def results() -> list[Result]:
    """Two methods, two numbers of heads and the dense model, each with three seeds."""
    chances = {(DENSE, None): 0.9, ("dsp", 6): 0.85, ("dsp", 3): 0.8}
    chances |= {("random", 6): 0.8, ("random", 3): 0.5}
    return [
        make_result(method, amount, seed, chance=chance)
        for seed in range(3)
        for (method, amount), chance in chances.items()
    ]


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below a folder: when it was written, and what is in it."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def files():
    return contents
