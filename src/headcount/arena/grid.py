"""What is compared: methods, budgets and seeds, under one set of settings."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self, final

from headcount.arena.axis import AXES, HEADS, Amount, budget_at, check_alike, in_name
from headcount.checkpoints.disk import expanded_name
from headcount.door.arguments import check_fields
from headcount.door.shape import fit
from headcount.errors import BudgetError, TrainingError
from headcount.methods.method import Method
from headcount.runs.data import describe_source, task_of
from headcount.runs.recipe import Recipe
from headcount.runs.run import NUM_EXAMPLES, RunSpec, dense_run, recipe_of
from headcount.tasks.task import Task
from headcount.training.distillation import Distillation
from headcount.units.budget import Budget

DENSE = "dense"
"""Method name of the cells that keep every unit."""
DISTILLED = "+distil"
"""Suffix of a method's name: it learns from the labels and from the dense model of its seed."""
FINETUNED = "+finetuned"
"""Suffix of a method's name: it starts from the dense model of its seed, and trains for
``recover_epochs``."""
LEAVES_NO_TRACE = ("seed", "save_steps")
"""Fields of a recipe in which two calls of one comparison may differ, beside training settings that
leave no trace."""
NUMBERS = 2
"""Raised whenever the code gives other results for the same settings, so that old and new results
are not paired.

2: for every method, seed and epoch give the order of the training data."""


@final
@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Cell:
    """One run: a method, an amount of the comparison's axis, a seed.

    Example:
        >>> Cell(method="dsp", amount=12, seed=0).name, Cell(method=DENSE, amount=None, seed=1).name
        ('dsp-12-0', 'dense-1')
        >>> Cell(method="dsp", amount=0.5, seed=0, axis="neurons").name
        'dsp-neurons0.5-0'
    """

    method: str
    """Name of the method; ``dense`` keeps every unit."""
    amount: Amount | None
    """What must remain: a count, or a fraction; None for everything."""
    seed: int
    """Seed of everything random."""
    axis: str = HEADS
    """What the amount is of: a field of ``Budget``."""

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Self:
        """The cell from the values that ``plain`` returned."""
        (axis,) = (name for name in AXES if name in plain)
        return cls(method=plain["method"], amount=plain[axis], seed=plain["seed"], axis=axis)

    def plain(self) -> dict[str, Any]:
        """The cell as values that JSON can hold; the axis is the key of the amount.

        Example:
            >>> Cell(method="dsp", amount=12, seed=0).plain()
            {'method': 'dsp', 'heads': 12, 'seed': 0}
        """
        return {"method": self.method, self.axis: self.amount, "seed": self.seed}

    @property
    def name(self) -> str:
        """Name of the cell and of its folder."""
        amount = [] if self.amount is None else [in_name(self.axis, self.amount)]
        return "-".join([self.method, *amount, str(self.seed)])

    @property
    def is_distilled(self) -> bool:
        """Whether it learns from the dense model."""
        return DISTILLED in suffixes(self.method)

    @property
    def is_finetuned(self) -> bool:
        """Whether it starts from the dense model although its method could start elsewhere."""
        return FINETUNED in suffixes(self.method)

    @property
    def dense(self) -> "Cell":
        """The dense cell of the same seed."""
        return Cell(method=DENSE, amount=None, seed=self.seed, axis=self.axis)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What all cells share.

    Example:
        >>> settings = Settings(model="bert", train=("train.tsv",), eval=("dev.tsv",))
        >>> Settings.of(settings.plain()) == settings
        True

    Raises:
        TrainingError: a number is out of range.
    """

    model: str
    """Hub id or folder of the pretrained model."""
    train: tuple[str, ...]
    """Training files, or ids of data sets."""
    eval: tuple[str, ...]
    """Evaluation files, or ids of data sets."""
    task: str = "nli"
    """Name of the task."""
    task_settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the task by name, such as the columns of the data."""
    recipe: Recipe = field(default_factory=Recipe)
    """How to train. Each cell puts its own seed in."""
    pipelined_epochs: float = 1.0
    """Epochs of training for a method that trains only its logits."""
    num_train: int = 0
    """Number of training examples to draw; 0 takes all."""
    data_seed: int = 0
    """Seed of this draw, the same in every cell."""
    num_examples: int = NUM_EXAMPLES
    """Number of training examples for a method that decides by looking at data; 0 takes all."""
    recover_epochs: float = 0.0
    """Epochs of training after the cut, for methods that decide with frozen weights."""
    axis: str = HEADS
    """The field of ``Budget`` in which cells differ: a kind of unit, ``params`` or ``macs``."""
    budget: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of each cell's budget, such as ``scope`` or ``kinds``."""

    def __post_init__(self) -> None:
        check_fields(self)
        whole = budget_at(self.axis, 1.0, self.budget).describe()
        object.__setattr__(self, "budget", {k: v for k, v in whole.items() if k != self.axis})
        object.__setattr__(self, "model", expanded_name(self.model))
        for name in ("num_train", "num_examples", "recover_epochs", "data_seed"):
            if getattr(self, name) < 0:
                raise TrainingError(f"compare({name}={getattr(self, name)}): give 0 or more.")
        if self.pipelined_epochs <= 0:
            raise TrainingError(
                f"compare(pipelined_epochs={self.pipelined_epochs}): give a positive number."
            )

    def settled(self) -> Self:
        """The settings with all those of the task that its data tell; see ``Task.settled``."""
        task = self.of_task().settled(self.train, self.model, split="train")
        task = task.settled(self.eval, self.model, split="validation")
        return replace(self, task_settings=dict(task.describe()))

    def of_task(self) -> Task:
        """The task, with its settings."""
        return task_of(self.task, self.task_settings)

    def plain(self) -> dict[str, Any]:
        """The settings as values that JSON can hold."""
        return json.loads(json.dumps({**asdict(self), "recipe": self.recipe.plain()}))

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Self:
        """Settings from the values that ``plain`` returned."""
        return fit({**plain}, cls, plain=True)

    def described(self) -> dict[str, Any]:
        """What a later call must have in common with this one. Files are given by contents."""
        plain = {**self.plain(), "recipe": self.recipe.described(but=LEAVES_NO_TRACE)}
        # Left out where they are as in older versions, whose cells are then known again.
        for name, usual in (("axis", HEADS), ("budget", {}), ("task_settings", {})):
            if plain[name] == usual:
                del plain[name]
        files = {name: [describe_source(s) for s in plain[name]] for name in ("train", "eval")}
        return {**plain, **files, "numbers": NUMBERS}


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """Every method with every budget and every seed, and the dense model of every seed.

    Example:
        >>> from headcount.methods.random import Random
        >>> settings = Settings(model="bert", train=("train.tsv",), eval=("dev.tsv",))
        >>> grid = Grid(settings=settings, methods={"random": Random()}, amounts=(12, 6),
        ...             seeds=(0,))
        >>> [cell.name for cell in grid.cells]
        ['dense-0', 'random-12-0', 'random-6-0']

    Raises:
        BudgetError: there is nothing to compare, something is named twice, a number is out of
            range, or a method cannot serve the budgets.
    """

    settings: Settings
    """What all cells share."""
    methods: Mapping[str, Method]
    """Name, which may have suffixes -> method."""
    amounts: tuple[int | float, ...]
    """What must remain, of ``settings.axis``: counts, or fractions."""
    seeds: tuple[int, ...]
    """Seeds of the cells."""

    def __post_init__(self) -> None:
        check_fields(self)
        axis = self.settings.axis
        given = {"methods": self.methods, axis: self.amounts, "seeds": self.seeds}
        for name, values in ((name, tuple(values)) for name, values in given.items()):
            if not values or len(set(values)) < len(values):
                raise BudgetError(f"compare({name}={values}): give one or more, each once.")
        check_alike(self.amounts)
        if min(self.seeds) < 0:
            raise BudgetError(f"compare(seeds={self.seeds}): give seeds of 0 or more.")
        if DENSE in self.methods:
            raise BudgetError(
                f"compare(methods={list(self.methods)}): {DENSE!r} is compared in any case. Leave "
                "it out."
            )

        budgets = [self.budget(amount) for amount in self.amounts]
        for name, method in self.methods.items():
            self._check_suffixes(name, method)
            for budget in budgets:
                method.check(budget)

    @property
    def cells(self) -> tuple[Cell, ...]:
        """All cells, seed after seed: after the first seed, all methods can be compared already."""
        axis = self.settings.axis
        return tuple(
            cell
            for seed in self.seeds
            for cell in (
                Cell(method=DENSE, amount=None, seed=seed, axis=axis),
                *(
                    Cell(method=method, amount=amount, seed=seed, axis=axis)
                    for amount in self.amounts
                    for method in self.methods
                ),
            )
        )

    def budget(self, amount: float) -> Budget:
        """The budget of the cells with an amount."""
        return budget_at(self.settings.axis, amount, self.settings.budget)

    def needs(self, cell: Cell) -> Cell | None:
        """The dense cell if it must be finished before this one; else None."""
        if cell.method == DENSE:
            return None
        begins = self.methods[cell.method].rests or cell.is_finetuned
        return cell.dense if begins or cell.is_distilled else None

    def described(self, cell: Cell) -> dict[str, Any]:
        """Name and settings of a cell's method, as values that JSON can hold."""
        spec = self.run_spec(cell, Path())
        extra: dict[str, Any] = {"distillation": asdict(Distillation())} if spec.teacher else {}
        if cell.is_finetuned:
            extra["start"] = DENSE
        return {**spec.describe(), **extra}

    def run_spec(self, cell: Cell, output: Path) -> RunSpec:
        """The run that makes a cell's model.

        Args:
            cell: one of ``cells``.
            output: the folder of the comparison, which holds the folders of the cells.
        """
        recipe = replace(self.settings.recipe, seed=cell.seed)
        if cell.amount is None:
            return replace(dense_run(self.settings.model, recipe), name=cell.name)
        method, dense = self.methods[cell.method], str(output / cell.dense.name / "model")
        if cell.is_finetuned:
            recipe = recipe.lasting(self.settings.recover_epochs)
        return RunSpec(
            name=cell.name,
            method=method,
            budget=self.budget(cell.amount),
            start=dense if method.rests or cell.is_finetuned else self.settings.model,
            recipe=recipe_of(method, recipe, self.settings.pipelined_epochs),
            num_examples=self.settings.num_examples,
            teacher=dense if cell.is_distilled else "",
        )

    def _check_suffixes(self, name: str, method: Method) -> None:
        call = f"compare(methods={list(self.methods)}): {name!r}"
        unknown = suffixes(name) - {DISTILLED, FINETUNED}
        if unknown:
            raise BudgetError(
                f"{call} ends in {', '.join(sorted(unknown))}: behind the name of a method there "
                f"may be {DISTILLED} and {FINETUNED}."
            )
        if method.rests and suffixes(name):
            raise BudgetError(
                f"{call}: it starts from the dense model, and trains no weights that could learn "
                f"from a teacher. Leave {' and '.join(sorted(suffixes(name)))} out."
            )
        if FINETUNED in suffixes(name) and not self.settings.recover_epochs:
            raise BudgetError(
                f"{call} trains for the epochs of recovery, of which there are 0. Give "
                "recover_epochs."
            )


def suffixes(name: str) -> set[str]:
    """The suffixes of a method's name.

    Example:
        >>> sorted(suffixes("dsp+finetuned+distil")), suffixes("dsp")
        (['+distil', '+finetuned'], set())
    """
    return {f"+{part}" for part in name.split("+")[1:]}


def bare(name: str) -> str:
    """The name of a method without its suffixes.

    Example:
        >>> bare("dsp+finetuned")
        'dsp'
    """
    return name.partition("+")[0]


def digest(values: Any) -> str:
    """A short digest of plain values, the same for equal values.

    Example:
        >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
        True
    """
    text = json.dumps(values, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def in_words(cells: Sequence[Cell]) -> str:
    """The names of some cells: the first four, and how many more there are.

    Example:
        >>> in_words([Cell(method="dsp", amount=k, seed=0) for k in range(20)])
        'dsp-0-0, dsp-1-0, dsp-2-0, dsp-3-0 and 16 more'
    """
    names = [cell.name for cell in cells]
    rest = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(names[:4]) + rest
