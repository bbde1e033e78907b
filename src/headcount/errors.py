"""Every error headcount raises on purpose.

A message says the call, the value it got, what is allowed and what to do:
``Budget(heads=150): the model has 144 heads. Give 0 to 144.``
"""


class PruningError(Exception):
    """Base of all errors that headcount raises on purpose."""


class BudgetError(PruningError, ValueError):
    """A budget that no decision can meet, or that is not a budget."""


class ArchitectureError(PruningError, ValueError):
    """A model in which the asked units cannot be found."""


class DecisionError(PruningError, ValueError):
    """A decision that does not belong to the model it is applied to."""


class SurgeryError(PruningError, RuntimeError):
    """The smaller model does not have exactly the units the decision keeps."""


class CheckpointError(PruningError, RuntimeError):
    """A folder that cannot be written, loaded or resumed from."""


class DataError(PruningError, ValueError):
    """A data file without the needed columns, rows or labels."""


class TrainingError(PruningError, RuntimeError):
    """Training that cannot start or go on."""
