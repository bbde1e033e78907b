"""All errors that headcount raises on purpose.

A message says the call, the value it got, what is allowed and what to do.
"""


class PruningError(Exception):
    """Base of all errors that headcount raises on purpose.

    Example:
        >>> issubclass(BudgetError, PruningError)
        True
    """


class BudgetError(PruningError, ValueError):
    """A budget or a setting is invalid, or the model cannot meet the budget.

    Example:
        >>> import headcount as hc
        >>> hc.Budget(heads=-1)
        Traceback (most recent call last):
            ...
        headcount.errors.BudgetError: Budget(heads=-1): a count cannot be negative. Give 0 or more.
    """


class ArgumentError(PruningError, TypeError):
    """An argument has the wrong type, such as a class instead of an instance.

    Example:
        >>> import headcount as hc
        >>> hc.DSP(estimator=hc.RelaxedTopK)
        Traceback (most recent call last):
            ...
        headcount.errors.ArgumentError: DSP(estimator=RelaxedTopK): a class is no Estimator. ...
    """


class ArchitectureError(PruningError, ValueError):
    """The units that were asked for cannot be found in the model.

    Example:
        >>> import headcount as hc, torch
        >>> hc.units(torch.nn.Linear(2, 2))
        Traceback (most recent call last):
            ...
        headcount.errors.ArchitectureError: units(Linear): the model has no attention heads. ...
    """


class DecisionError(PruningError, ValueError):
    """A text or file is not a decision, or the decision is about another model.

    Example:
        >>> import headcount as hc
        >>> hc.Decision.from_json("{}")
        Traceback (most recent call last):
            ...
        headcount.errors.DecisionError: Decision.from_json: not a decision: ...
    """


class SurgeryError(PruningError, RuntimeError):
    """A model cannot be cut, or the cut model does not have exactly the kept units.

    Example:
        >>> import headcount as hc, transformers
        >>> model = transformers.BertModel(transformers.BertConfig(num_hidden_layers=1))
        >>> decision = hc.decide(model, hc.Random(seed=0), hc.Budget(heads=3))
        >>> with hc.masked(model, decision):
        ...     hc.cut(model, decision)
        Traceback (most recent call last):
            ...
        headcount.errors.SurgeryError: cut(BertModel): gates are attached to the model. ...
    """


class CheckpointError(PruningError, RuntimeError):
    """A folder cannot be written, loaded, or resumed from.

    Example:
        >>> from headcount.reports.report import report_of
        >>> report_of("no such folder")
        Traceback (most recent call last):
            ...
        headcount.errors.CheckpointError: ...
    """


class DataError(PruningError, ValueError):
    """Data cannot be read, or lack the needed columns, rows or labels.

    Example:
        >>> from headcount.tasks import NLI
        >>> NLI().read(["nothing.tsv"], split="train")
        Traceback (most recent call last):
            ...
        headcount.errors.DataError: ...
    """


class TrainingError(PruningError, RuntimeError):
    """Training cannot start or continue.

    Example:
        >>> import headcount as hc
        >>> hc.Recipe(epochs=0)
        Traceback (most recent call last):
            ...
        headcount.errors.TrainingError: Recipe(epochs=0): give a positive number.
    """


class MissingPackageError(PruningError, ImportError):
    """A package that this part of headcount needs is not installed.

    Example:
        >>> from headcount.door.extras import missing
        >>> raise missing("PruningTrainer", "accelerate")
        Traceback (most recent call last):
            ...
        headcount.errors.MissingPackageError: PruningTrainer: this needs accelerate. Install it ...
    """


def check_argument(
    call: str, name: str, value: object, wanted: type | tuple[type, ...], give: str
) -> None:
    """Refuse an argument of the wrong type.

    Args:
        call: the function or class that was called.
        name: the name of the argument.
        value: the value of the argument.
        wanted: the allowed type or types.
        give: what to give instead, such as ``an instance, such as hc.DSP()``.

    Raises:
        ArgumentError: the value has none of the types.

    Example:
        >>> check_argument("cut", "decision", 3, str, "a text")
        Traceback (most recent call last):
            ...
        headcount.errors.ArgumentError: cut(decision=3): an int is no str. Give a text.
    """
    if isinstance(value, wanted):
        return
    shown, seen = type(value).__name__, type(value).__name__
    if isinstance(value, type):
        shown, seen = value.__name__, "class"
    elif value is None or isinstance(value, str | int | float):
        shown = repr(value)
    article = "an" if seen[0] in "aeiouAEIOU" else "a"
    names = " or ".join(
        kind.__name__ for kind in (wanted if isinstance(wanted, tuple) else [wanted])
    )
    raise ArgumentError(f"{call}({name}={shown}): {article} {seen} is no {names}. Give {give}.")
