"""Check saved folders of cut models: reload, load without headcount, load by other classes."""

import copy
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Generator
from transformers import PreTrainedModel
from transformers.models.auto import modeling_auto

from headcount.checkpoints.folder import rung_of
from headcount.errors import PruningError
from headcount.surgery.cut import cut
from headcount.units.decision import Decision
from headcount.units.kinds import SLICES
from headcount.units.site import Site
from headcount.units.table import UnitTable
from headcount.zoo.checks import MIXTURES, MODULES, UNEVEN, Subject, forward, in_one_line, over
from headcount.zoo.decisions import nested
from headcount.zoo.generation import same
from headcount.zoo.inputs import dummy_inputs
from headcount.zoo.outputs import largest_difference, tensors_of
from headcount.zoo.records import DENSE, Outcome
from headcount.zoo.stranger import Visit

SIBLINGS = (
    "AutoModel",
    "AutoModelForSequenceClassification",
    "AutoModelForTokenClassification",
    "AutoModelForImageClassification",
    "AutoModelForAudioClassification",
    "AutoModelForCausalLM",
    "AutoModelForTextEncoding",
)
"""Auto classes whose models can load the folders of each other."""

TRIES = 3
"""The number of times that the dense model is reloaded if a cut one fails."""

MOST = 3
"""The most other classes that load a folder."""


@dataclass(kw_only=True)
class Folders:
    """Cut models and their saved folders. Each is cut and saved once, for all checks."""

    subject: Subject
    """The model."""
    stack: ExitStack
    """Deletes the folders when it is closed."""
    visit: Visit | None
    """The connection to a process without headcount; None if there is none."""
    _saved: dict[str, tuple[PreTrainedModel, str]] = field(default_factory=dict)

    def of(self, decision: Decision) -> tuple[PreTrainedModel, str]:
        """The model cut by a decision, and its folder."""
        key = decision.to_json()
        if key not in self._saved:
            model = cut(self.subject.single, decision)
            folder = self.stack.enter_context(TemporaryDirectory())
            model.save_pretrained(folder)
            self._saved[key] = model, folder
        return self._saved[key]

    def dense(self) -> str:
        """The folder of the dense model."""
        if "" not in self._saved:
            folder = self.stack.enter_context(TemporaryDirectory())
            self.subject.single.save_pretrained(folder)
            self._saved[""] = self.subject.single, folder
        return self._saved[""][1]


def reloads(folders: Folders, decisions: Iterable[Decision]) -> Outcome:
    """Reload each cut model and compare. The outcome says at which rung it reloads."""
    rungs = set()

    def failure(decision: Decision) -> str:
        model, folder = folders.of(decision)
        rungs.add(rung_of(model))
        return _reload_failure(model, folder)

    def of_dense() -> str:
        return _reload_failure(folders.subject.single, folders.dense())

    outcome = _unless_dense_fails(over(decisions, failure), of_dense)
    return replace(outcome, reason=", ".join(sorted(rungs))) if outcome.state == "ok" else outcome


def _unless_dense_fails(outcome: Outcome, dense: Callable[[], str]) -> Outcome:
    """The outcome of a check; ``none`` if it fails for the dense model as well.

    The dense model is tried several times: what depends on uninitialised memory fails by chance.
    """
    if outcome.state != "fails":
        return outcome
    found = next((why for _ in range(TRIES) if (why := dense())), "")
    return Outcome(state="none", reason=f"{DENSE}: {found}") if found else outcome


def _reload_failure(model: PreTrainedModel, folder: str) -> str:
    """Say what differs after loading; empty if nothing does."""
    experts = model.config._experts_implementation  # the only setting that is not saved
    try:
        again = type(model).from_pretrained(folder, experts_implementation=experts).eval()
        again = copy.deepcopy(again)  # the alignment of memory changes the last bits of a product
        outputs = dict(tensors_of(forward(again)))
    except PruningError:
        raise
    except Exception as error:
        return in_one_line(error)
    return _difference(model, again.state_dict(), outputs)


def _difference(model: PreTrainedModel, theirs: dict, outputs: dict) -> str:
    """Say how weights and outputs differ from those of a model; empty if they do not."""
    mine = model.state_dict()
    if mine.keys() != theirs.keys():
        return f"other tensors: {', '.join(sorted(mine.keys() ^ theirs.keys())[:3])}"
    other = [name for name, tensor in mine.items() if not same([tensor], [theirs[name]], 0.0)]
    if other:
        return f"other weights: {', '.join(other[:3])}"
    gap = largest_difference(dict(tensors_of(forward(model))), outputs)
    return "" if gap == 0.0 else f"outputs differ by {gap:.1g}"


def equal_decisions(subject: Subject) -> Iterator[Decision]:
    """Decisions that keep equally many units in every layer; then one that keeps only first layers.

    Each module loses one unit, or one for each key-value head. The rest no longer divides the usual
    widths, so that code which computes a head size from them would fail.
    """
    for kind in SLICES:
        units = subject.units.only(kind)
        if units.sites and _alike(units):
            keeps = {site.key: _all_but_one(site, seed) for seed, site in enumerate(units.sites)}
            yield nested(units, keeps)
    # Fewer layers can be a stock shape as well. Only the first layer of each stack stays.
    layers = subject.units.only("layer")
    if layers.sites:
        first: dict[tuple[str, str], tuple[str, str]] = {}
        for site in layers.sites:
            first.setdefault((site.tower, site.stack), site.key)
        keeps = {site.key: torch.tensor([site.key in first.values()]) for site in layers.sites}
        if not all(bool(keep.all()) for keep in keeps.values()):
            yield nested(layers, keeps)


def _alike(units: UnitTable) -> bool:
    """Whether every module keeps a unit if it loses one per group."""
    return all(site.num_units > site.num_groups for site in units.sites)


def _all_but_one(site: Site, seed: int) -> torch.Tensor:
    share = site.num_units // site.num_groups
    gone = torch.randint(share, (site.num_groups, 1), generator=Generator().manual_seed(seed))
    return (torch.arange(share) != gone).flatten()


def alone(folders: Folders) -> Outcome:
    """Load each cut model without headcount: it is right, or the error names headcount."""
    if folders.visit is None:
        return Outcome(state="unchecked", reason="no process without headcount")
    drawn = folders.subject.decisions(UNEVEN + MODULES + MIXTURES)
    decisions = (*drawn, *equal_decisions(folders.subject))
    visit = folders.visit

    def failure(decision: Decision) -> str:
        why = _alone_failure(visit, *folders.of(decision))
        return why and f"{'+'.join(decision.kinds)}: {why}"

    def of_dense() -> str:
        return _alone_failure(visit, folders.subject.single, folders.dense())

    return _unless_dense_fails(over(decisions, failure), of_dense)


def _alone_failure(visit: Visit, model: PreTrainedModel, folder: str) -> str:
    found = visit.load(folder, model, dummy_inputs(model))
    if isinstance(found, str):
        named = "headcount" in found.lower()
        return "" if named else f"an error without our name: {' '.join(found.split())[:120]}"
    why = _difference(model, found["weights"], found["outputs"])
    return why and f"loads without headcount, but {why}"


def siblings(folders: Folders) -> Outcome:
    """Load a cut model by other classes of its type: the weights they share must come from it.

    A weight that a class finds in the dense model's folder, but not in the cut model's, would be
    random.
    """
    others = tuple(_other_classes(folders.subject.single))[:MOST]
    if not others:
        return Outcome(state="none", reason="there is no other class")
    drawn = folders.subject.decisions(MIXTURES[:1])
    return over(drawn, partial(_sibling_failure, folders, others))


def _other_classes(model: PreTrainedModel) -> Iterator[type[PreTrainedModel]]:
    """Other classes for a model's configuration, then classes for its parts' configurations."""
    seen = {type(model)}
    for name in SIBLINGS:
        mapping = getattr(modeling_auto, name)._model_mapping
        found = mapping.get(type(model.config), None)
        for cls in found if isinstance(found, tuple) else (found,):
            if cls is not None and cls not in seen:
                seen.add(cls)
                yield cls
    sub_configs: dict[str, type] = getattr(model.config, "sub_configs", {})
    parts = set(sub_configs.values())
    for _, cls in inspect.getmembers(sys.modules[type(model).__module__], inspect.isclass):
        if issubclass(cls, PreTrainedModel) and cls.config_class in parts and cls not in seen:
            yield cls


def _sibling_failure(folders: Folders, classes: tuple, decision: Decision) -> str:
    _, folder = folders.of(decision)
    for cls in classes:
        # A class that cannot load the dense folder says nothing about the cut one. An error of
        # headcount's own is a clear answer, too.
        dense = _missing(cls, folders.dense())
        if isinstance(dense, Exception):
            continue
        try:
            found = _missing(cls, folder)
        except PruningError:
            continue
        if isinstance(found, Exception):
            return f"{cls.__name__}: {in_one_line(found)}"
        if found - dense:
            return f"{cls.__name__}: random weights for {', '.join(sorted(found - dense)[:3])}"
    return ""


def _missing(cls: type[PreTrainedModel], folder: str) -> set[str] | Exception:
    """The weights that a class does not find in a folder, or the error of loading."""
    try:
        with torch.random.fork_rng(devices=[]):
            loaded: Any = cls.from_pretrained(folder, output_loading_info=True)
    except PruningError:
        raise
    except Exception as error:
        return error
    info = loaded[1]
    return {*info["missing_keys"], *(entry[0] for entry in info["mismatched_keys"])}
