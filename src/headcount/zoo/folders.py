"""Check folders of cut models: reloaded, loaded without headcount, loaded by other classes."""

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
from headcount.zoo.checks import DECISIONS, MIXTURES, Subject, forward, in_one_line, over
from headcount.zoo.decisions import nested
from headcount.zoo.generation import EMPTY, same
from headcount.zoo.inputs import dummy_inputs
from headcount.zoo.outputs import largest_difference, tensors_of
from headcount.zoo.records import DENSE, Outcome
from headcount.zoo.stranger import Visit

UNEVEN = DECISIONS["heads"] + DECISIONS["kv_heads"] + EMPTY
"""What is removed from models that are saved and reloaded."""

OTHERS = DECISIONS["neurons"] + DECISIONS["sublayers"] + DECISIONS["layers"]
"""What is removed beside that from models that are loaded without headcount."""

SIBLINGS = (
    "AutoModel",
    "AutoModelForSequenceClassification",
    "AutoModelForTokenClassification",
    "AutoModelForImageClassification",
    "AutoModelForAudioClassification",
    "AutoModelForCausalLM",
    "AutoModelForTextEncoding",
)
"""Auto classes whose models of a type load each other's folders."""

TRIES = 3
"""How often the dense model is reloaded where a cut one fails."""

MOST = 3
"""Other classes that load a folder."""


@dataclass(kw_only=True)
class Folders:
    """Cut models and the folders they are saved in; each is cut and saved once."""

    subject: Subject
    """The model."""
    stack: ExitStack
    """Removes the folders at its end."""
    visit: Visit | None
    """A process without headcount; None if there is none."""
    _saved: dict[str, tuple[PreTrainedModel, str]] = field(default_factory=dict)

    def of(self, decision: Decision) -> tuple[PreTrainedModel, str]:
        """A cut model, and the folder it is saved in."""
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
    """Load each cut model again; says at which rung it reloads."""
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
    """A failure, if the dense model does not fail, too: several times, as memory may be random."""
    if outcome.state != "fails":
        return outcome
    found = next((why for _ in range(TRIES) if (why := dense())), "")
    return Outcome(state="none", reason=f"{DENSE}: {found}") if found else outcome


def _reload_failure(model: PreTrainedModel, folder: str) -> str:
    """What is not the same after loading; empty if nothing is."""
    experts = model.config._experts_implementation  # the one setting that is not saved
    try:
        again = type(model).from_pretrained(folder, experts_implementation=experts).eval()
        again = copy.deepcopy(again)  # weights that lie in memory as those of the cut model do
        outputs = dict(tensors_of(forward(again)))
    except PruningError:
        raise
    except Exception as error:
        return in_one_line(error)
    return _difference(model, again.state_dict(), outputs)


def _difference(model: PreTrainedModel, theirs: dict, outputs: dict) -> str:
    """What is not the same in the weights and outputs that are to be a model's."""
    mine = model.state_dict()
    if mine.keys() != theirs.keys():
        return f"other tensors: {', '.join(sorted(mine.keys() ^ theirs.keys())[:3])}"
    other = [name for name, tensor in mine.items() if not same([tensor], [theirs[name]], 0.0)]
    if other:
        return f"other weights: {', '.join(other[:3])}"
    gap = largest_difference(dict(tensors_of(forward(model))), outputs)
    return "" if gap == 0.0 else f"outputs differ by {gap:.1g}"


def equal_decisions(subject: Subject) -> Iterator[Decision]:
    """Decisions that leave equally many units to every layer; then one that leaves the first layer.

    One of each module's units goes, or of those that share a key-value head: what is left divides
    no usual width any more.
    """
    for kind in SLICES:
        units = subject.units.only(kind)
        if units.sites and _alike(units):
            keeps = {site.key: _all_but_one(site, seed) for seed, site in enumerate(units.sites)}
            yield nested(units, keeps)
    layers = subject.units.only("layer")
    if layers.sites:
        first: dict[tuple[str, str], tuple[str, str]] = {}
        for site in layers.sites:
            first.setdefault((site.tower, site.stack), site.key)
        keeps = {site.key: torch.tensor([site.key in first.values()]) for site in layers.sites}
        if not all(bool(keep.all()) for keep in keeps.values()):
            yield nested(layers, keeps)


def _alike(units: UnitTable) -> bool:
    """Whether something is left of every module."""
    return all(site.num_units > site.num_groups for site in units.sites)


def _all_but_one(site: Site, seed: int) -> torch.Tensor:
    share = site.num_units // site.num_groups
    gone = torch.randint(share, (site.num_groups, 1), generator=Generator().manual_seed(seed))
    return (torch.arange(share) != gone).flatten()


def alone(folders: Folders) -> Outcome:
    """Load each cut model where headcount is not imported: right, or an error that names it."""
    if folders.visit is None:
        return Outcome(state="unchecked", reason="no process without headcount")
    drawn = folders.subject.decisions(UNEVEN + OTHERS + MIXTURES)
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
    """Load a cut model by other classes of its type: what they share with it must be its own.

    A weight that is in the folder of the dense model and not in that of the cut one would be drawn
    at random.
    """
    others = tuple(_other_classes(folders.subject.single))[:MOST]
    if not others:
        return Outcome(state="none", reason="there is no other class")
    drawn = folders.subject.decisions(MIXTURES[:1])
    return over(drawn, partial(_sibling_failure, folders, others))


def _other_classes(model: PreTrainedModel) -> Iterator[type[PreTrainedModel]]:
    """Classes for the configuration of a model, then classes for those of its parts."""
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
    """The weights that a class does not find in a folder; or the error of loading it."""
    try:
        with torch.random.fork_rng(devices=[]):
            loaded: Any = cls.from_pretrained(folder, output_loading_info=True)
    except PruningError:
        raise
    except Exception as error:
        return error
    info = loaded[1]
    return {*info["missing_keys"], *(entry[0] for entry in info["mismatched_keys"])}
