"""headcount: prune a Transformer to an exact number of attention heads.

Importing it also teaches transformers to build, save and load models with uneven layers.

Example:
    >>> import headcount as hc, transformers
    >>> model = transformers.BertModel(transformers.BertConfig(num_hidden_layers=2))
    >>> decision = hc.decide(model, hc.Magnitude(), hc.Budget(heads=6))
    >>> hc.units(hc.cut(model, decision)).num("head")
    6
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from headcount.checkpoints.install import install as _install

if TYPE_CHECKING:  # the same names as in the table below, for type checkers and editors
    from headcount.architectures.discover import units as units
    from headcount.checkpoints.export import Exported as Exported
    from headcount.checkpoints.export import export as export
    from headcount.checkpoints.save import Saved as Saved
    from headcount.checkpoints.save import save as save
    from headcount.errors import ArchitectureError as ArchitectureError
    from headcount.errors import ArgumentError as ArgumentError
    from headcount.errors import BudgetError as BudgetError
    from headcount.errors import CheckpointError as CheckpointError
    from headcount.errors import DataError as DataError
    from headcount.errors import DecisionError as DecisionError
    from headcount.errors import MissingPackageError as MissingPackageError
    from headcount.errors import PruningError as PruningError
    from headcount.errors import SurgeryError as SurgeryError
    from headcount.errors import TrainingError as TrainingError
    from headcount.evaluate import evaluate as evaluate
    from headcount.evidence.evidence import Evidence as Evidence
    from headcount.methods.dsp import DSP as DSP
    from headcount.methods.estimators import Annealing as Annealing
    from headcount.methods.estimators import CentredStraightThrough as CentredStraightThrough
    from headcount.methods.estimators import Estimator as Estimator
    from headcount.methods.estimators import RelaxedTopK as RelaxedTopK
    from headcount.methods.estimators import StraightThrough as StraightThrough
    from headcount.methods.fisher import Fisher as Fisher
    from headcount.methods.gradient import GradientImportance as GradientImportance
    from headcount.methods.hard_concrete import HardConcrete as HardConcrete
    from headcount.methods.layer_drop import LayerDrop as LayerDrop
    from headcount.methods.magnitude import Magnitude as Magnitude
    from headcount.methods.method import Method as Method
    from headcount.methods.method import State as State
    from headcount.methods.method import Step as Step
    from headcount.methods.pressure import L0Penalty as L0Penalty
    from headcount.methods.pressure import Lagrangian as Lagrangian
    from headcount.methods.random import Random as Random
    from headcount.methods.sizes import Sampling as Sampling
    from headcount.methods.sizes import Shrinking as Shrinking
    from headcount.post_training.decide import decide as decide
    from headcount.post_training.pruning import prune_post_training as prune_post_training
    from headcount.post_training.rescale import rescale as rescale
    from headcount.prune import Options as Options
    from headcount.prune import Pruned as Pruned
    from headcount.prune import prune as prune
    from headcount.reports.latency_gap import calibrate_latency as calibrate_latency
    from headcount.reports.latency_table import latency_table as latency_table
    from headcount.runs.recipe import Recipe as Recipe
    from headcount.surgery.cut import cut as cut
    from headcount.surgery.fold import fold as fold
    from headcount.surgery.masked import masked as masked
    from headcount.tasks.embedding import Embedding as Embedding
    from headcount.tasks.image_classification import ImageClassification as ImageClassification
    from headcount.tasks.language_modelling import CausalLM as CausalLM
    from headcount.tasks.language_modelling import MaskedLM as MaskedLM
    from headcount.tasks.speech_recognition import SpeechRecognition as SpeechRecognition
    from headcount.tasks.task import Task as Task
    from headcount.tasks.text_classification import TextClassification as TextClassification
    from headcount.tasks.token_classification import TokenClassification as TokenClassification
    from headcount.training.attach import attach as attach
    from headcount.training.distillation import Distillation as Distillation
    from headcount.training.distillation import taught as taught
    from headcount.training.session import Session as Session
    from headcount.training.trainer import PruningTrainer as PruningTrainer
    from headcount.units.budget import Budget as Budget
    from headcount.units.cost import Cost as Cost
    from headcount.units.decision import Decision as Decision
    from headcount.units.latency import Curve as Curve
    from headcount.units.latency import LatencyTable as LatencyTable
    from headcount.units.quota import Quota as Quota
    from headcount.units.site import Site as Site
    from headcount.units.table import UnitTable as UnitTable

__version__ = "0.2.0.dev0"

_HOME = {
    "DSP": "headcount.methods.dsp",
    "Annealing": "headcount.methods.estimators",
    "ArchitectureError": "headcount.errors",
    "ArgumentError": "headcount.errors",
    "Budget": "headcount.units.budget",
    "BudgetError": "headcount.errors",
    "CausalLM": "headcount.tasks.language_modelling",
    "CentredStraightThrough": "headcount.methods.estimators",
    "CheckpointError": "headcount.errors",
    "Cost": "headcount.units.cost",
    "Curve": "headcount.units.latency",
    "DataError": "headcount.errors",
    "Decision": "headcount.units.decision",
    "DecisionError": "headcount.errors",
    "Distillation": "headcount.training.distillation",
    "Embedding": "headcount.tasks.embedding",
    "Estimator": "headcount.methods.estimators",
    "Evidence": "headcount.evidence.evidence",
    "Exported": "headcount.checkpoints.export",
    "Fisher": "headcount.methods.fisher",
    "GradientImportance": "headcount.methods.gradient",
    "HardConcrete": "headcount.methods.hard_concrete",
    "ImageClassification": "headcount.tasks.image_classification",
    "L0Penalty": "headcount.methods.pressure",
    "Lagrangian": "headcount.methods.pressure",
    "LatencyTable": "headcount.units.latency",
    "LayerDrop": "headcount.methods.layer_drop",
    "Magnitude": "headcount.methods.magnitude",
    "MaskedLM": "headcount.tasks.language_modelling",
    "Method": "headcount.methods.method",
    "MissingPackageError": "headcount.errors",
    "Options": "headcount.prune",
    "Pruned": "headcount.prune",
    "PruningError": "headcount.errors",
    "PruningTrainer": "headcount.training.trainer",
    "Quota": "headcount.units.quota",
    "Random": "headcount.methods.random",
    "Recipe": "headcount.runs.recipe",
    "RelaxedTopK": "headcount.methods.estimators",
    "Sampling": "headcount.methods.sizes",
    "Saved": "headcount.checkpoints.save",
    "Session": "headcount.training.session",
    "Shrinking": "headcount.methods.sizes",
    "Site": "headcount.units.site",
    "SpeechRecognition": "headcount.tasks.speech_recognition",
    "State": "headcount.methods.method",
    "Step": "headcount.methods.method",
    "StraightThrough": "headcount.methods.estimators",
    "SurgeryError": "headcount.errors",
    "Task": "headcount.tasks.task",
    "TextClassification": "headcount.tasks.text_classification",
    "TokenClassification": "headcount.tasks.token_classification",
    "TrainingError": "headcount.errors",
    "UnitTable": "headcount.units.table",
    "attach": "headcount.training.attach",
    "calibrate_latency": "headcount.reports.latency_gap",
    "cut": "headcount.surgery.cut",
    "decide": "headcount.post_training.decide",
    "evaluate": "headcount.evaluate",
    "export": "headcount.checkpoints.export",
    "fold": "headcount.surgery.fold",
    "latency_table": "headcount.reports.latency_table",
    "masked": "headcount.surgery.masked",
    "prune": "headcount.prune",
    "prune_post_training": "headcount.post_training.pruning",
    "rescale": "headcount.post_training.rescale",
    "save": "headcount.checkpoints.save",
    "taught": "headcount.training.distillation",
    "units": "headcount.architectures.discover",
}
"""Each public name and the module that has it, which is imported when the name is asked for."""

__all__ = list(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]


def _public(name: str) -> Any:
    """A public name's value, or one of the package's own modules, at its first use."""
    if name in _HOME:
        try:
            value = getattr(importlib.import_module(_HOME[name]), name)
        except ImportError as error:
            value = _stand_in(name, error)
            if value is None:
                raise
            return value  # not for good: the package may be installed meanwhile
        globals()[name] = value
        return value
    if not name.startswith("_"):
        try:
            return importlib.import_module(f"{__name__}.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"{__name__}.{name}":
                raise
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}{_near(name)}")


def _stand_in(name: str, error: ImportError) -> type | None:
    """What says, where it is used, that an optional package is not installed, if that is why."""
    from headcount.door.extras import missing_in, stand_in

    package = missing_in(error)
    return None if package is None else stand_in(name, package)


def _near(name: str) -> str:
    from difflib import get_close_matches

    known = {public.lower(): public for public in _HOME}
    near = [known[word] for word in get_close_matches(name.lower(), known, n=2, cutoff=0.6)]
    return f". Did you mean {' or '.join(map(repr, near))}?" if near else ""


if not TYPE_CHECKING:  # a type checker would take any name for one that is there
    __getattr__ = _public


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """The package, some of whose functions are named like its modules (``prune``, ``units``).

    Python puts each module that is imported into its package. There the function would be hidden.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package

_install()
