"""headcount: prune a Transformer to an exact number of attention heads.

Importing it also teaches transformers to build, save and load models with uneven layers.

Example:
    >>> import headcount as hc, transformers
    >>> model = transformers.BertModel(transformers.BertConfig(num_hidden_layers=2))
    >>> decision = hc.decide(model, hc.Magnitude(), hc.Budget(heads=6))
    >>> hc.units(hc.cut(model, decision)).num("head")
    6
"""

from headcount.architectures.discover import units
from headcount.checkpoints.export import Exported, export
from headcount.checkpoints.folder import after_save as _after_save
from headcount.checkpoints.save import Saved, save
from headcount.checkpoints.seam import install as _install
from headcount.errors import (
    ArchitectureError,
    ArgumentError,
    BudgetError,
    CheckpointError,
    DataError,
    DecisionError,
    PruningError,
    SurgeryError,
    TrainingError,
)
from headcount.evaluate import evaluate
from headcount.methods.dsp import DSP
from headcount.methods.estimators import (
    Annealing,
    CentredStraightThrough,
    RelaxedTopK,
    StraightThrough,
)
from headcount.methods.fisher import Fisher
from headcount.methods.gradient import GradientImportance
from headcount.methods.hard_concrete import HardConcrete
from headcount.methods.layer_drop import LayerDrop
from headcount.methods.magnitude import Magnitude
from headcount.methods.pressure import L0Penalty, Lagrangian
from headcount.methods.random import Random
from headcount.methods.sizes import Sampling, Shrinking
from headcount.post_training.decide import decide
from headcount.post_training.pruning import prune_post_training
from headcount.post_training.rescale import rescale
from headcount.prune import Options, Pruned, prune
from headcount.reports.latency_table import latency_table
from headcount.runs.recipe import Recipe
from headcount.surgery.cut import cut
from headcount.surgery.fold import fold
from headcount.surgery.masked import masked
from headcount.training.attach import attach
from headcount.training.distillation import Distillation, taught
from headcount.training.session import Session
from headcount.training.trainer import PruningTrainer
from headcount.units.budget import Budget
from headcount.units.cost import Cost
from headcount.units.decision import Decision
from headcount.units.latency import Curve, LatencyTable
from headcount.units.site import Site
from headcount.units.table import UnitTable

_install(_after_save)

__version__ = "0.2.0.dev0"

__all__ = [
    "DSP",
    "Annealing",
    "ArchitectureError",
    "ArgumentError",
    "Budget",
    "BudgetError",
    "CentredStraightThrough",
    "CheckpointError",
    "Cost",
    "Curve",
    "DataError",
    "Decision",
    "DecisionError",
    "Distillation",
    "Exported",
    "Fisher",
    "GradientImportance",
    "HardConcrete",
    "L0Penalty",
    "Lagrangian",
    "LatencyTable",
    "LayerDrop",
    "Magnitude",
    "Options",
    "Pruned",
    "PruningError",
    "PruningTrainer",
    "Random",
    "Recipe",
    "RelaxedTopK",
    "Sampling",
    "Saved",
    "Session",
    "Shrinking",
    "Site",
    "StraightThrough",
    "SurgeryError",
    "TrainingError",
    "UnitTable",
    "attach",
    "cut",
    "decide",
    "evaluate",
    "export",
    "fold",
    "latency_table",
    "masked",
    "prune",
    "prune_post_training",
    "rescale",
    "save",
    "taught",
    "units",
]
