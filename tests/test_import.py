"""What an import loads, and that the order of imports makes no difference."""

import ast
import importlib
import inspect
import json
import os
import pickle
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from transformers import AutoModelForSequenceClassification

import headcount as hc
from cases import bert
from headcount.door.extras import EXTRAS

ROOT = Path(__file__).resolve().parent.parent
HEAVY = (
    *("accelerate", "datasets", "jaxtyping", "matplotlib", "numba", "numpy", "pandas", "pyarrow"),
    *("rich", "torch", "transformers", "typer", "yaml"),
)
TASK_NAMES = (
    *("CausalLM", "Embedding", "ImageClassification", "MaskedLM", "SpeechRecognition"),
    *("TextClassification", "TokenClassification"),
)
LIGHT = [
    *("headcount", "headcount.checkpoints", "headcount.checkpoints.arrival"),
    "headcount.checkpoints.install",
]
WITHOUT = '''
import sys
from importlib.machinery import PathFinder

class Some:
    """Finds what is installed, but for some packages, of which nothing is to be seen."""

    @staticmethod
    def hides(name):
        return {hides}

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        hidden = cls.hides(name.partition(".")[0])
        return None if hidden else PathFinder.find_spec(name, path, target)

    @classmethod
    def find_distributions(cls, context):
        hidden = context.name and cls.hides(context.name.replace("-", "_").lower())
        return () if hidden else PathFinder.find_distributions(context)

    invalidate_caches = PathFinder.invalidate_caches

sys.meta_path[sys.meta_path.index(PathFinder)] = Some
'''
LOAD = """
from transformers import AutoModelForSequenceClassification
model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
"""
SAY = """
import json, torch
with torch.no_grad():
    print(json.dumps(model(torch.tensor(ids)).logits.tolist()))
"""
IDS = [[5, 6, 7, 8], [9, 10, 11, 12]]


def run(*code: str, **values: object) -> str:
    """What a process of its own prints."""
    given = "".join(f"{name} = {value!r}\n" for name, value in values.items())
    done = subprocess.run(
        [sys.executable, "-c", given + "\n".join(code)],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> tuple[Path, list[list[float]]]:
    """A model that was cut, saved for ``import headcount`` and with its code, and what it says."""
    place = tmp_path_factory.mktemp("cut")
    torch.manual_seed(3)
    model = bert().eval()
    small = hc.cut(model, hc.decide(model, hc.Random(seed=1), hc.Budget(heads=5)))
    hc.save(small, place / "import")
    hc.save(small, place / "standalone", standalone=True)
    again = AutoModelForSequenceClassification.from_pretrained(place / "import").eval()
    with torch.no_grad():
        return place, again(torch.tensor(IDS)).logits.tolist()


def test_importing_headcount_loads_nothing_else():
    code = "import headcount, json, sys; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(run(code))
    assert [name for name in loaded if name.partition(".")[0] == "headcount"] == LIGHT
    assert not {name.partition(".")[0] for name in loaded} & {*HEAVY}


def test_importing_it_beside_transformers_loads_no_models():
    code = "import transformers, headcount, json, sys; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(run(code))
    assert "transformers.modeling_utils" not in loaded
    assert [name for name in loaded if name.partition(".")[0] == "headcount"] == LIGHT


@pytest.mark.parametrize("name", hc.__all__)
def test_a_public_name_is_that_of_its_module(name):
    value = getattr(hc, name)
    assert value is getattr(importlib.import_module(hc._HOME[name]), name)
    assert value.__module__ == hc._HOME[name]
    assert pickle.loads(pickle.dumps(value)) is value
    assert name in dir(hc)


def test_type_checkers_see_the_names_of_the_table():
    tree = ast.parse(inspect.getsource(hc))
    blocks = (node for node in tree.body if isinstance(node, ast.If))
    block = next(b for b in blocks if isinstance(b.test, ast.Name) and b.test.id == "TYPE_CHECKING")
    seen = {}
    for line in block.body:
        assert isinstance(line, ast.ImportFrom)
        (alias,) = line.names
        assert alias.asname == alias.name  # else checkers take it for a private name
        seen[alias.name] = line.module
    assert seen == hc._HOME
    assert list(hc._HOME) == sorted(hc._HOME, key=_constants_first)


def _constants_first(name: str) -> tuple[bool, bool, str]:
    return name.islower(), not name.isupper(), name


def test_the_package_says_that_it_has_types():
    assert (Path(hc.__file__).parent / "py.typed").is_file()


@pytest.mark.parametrize(
    ("wrong", "near"),
    [("Bugdet", "'Budget'"), ("fisher", "'Fisher'"), ("Unittable", "'UnitTable'")],
)
def test_a_wrong_name_brings_those_near_to_it(wrong, near):
    with pytest.raises(AttributeError, match=f"no attribute '{wrong}'. Did you mean {near}"):
        getattr(hc, wrong)
    with pytest.raises(ImportError, match=f"cannot import name '{wrong}'"):
        exec(f"from headcount import {wrong}")


def test_a_name_that_is_like_none_brings_none():
    with pytest.raises(AttributeError, match=r"no attribute 'xyzzy'$"):
        hc.xyzzy  # noqa: B018
    assert not hasattr(hc, "__wrapped__")


@pytest.mark.slow
def test_names_are_there_in_every_way_of_importing():
    code = """
import headcount
import headcount.prune, headcount.evaluate, headcount.units.budget
from headcount import *
from headcount import units as found, prune, arena, errors
assert callable(headcount.prune) and callable(headcount.evaluate) and callable(headcount.units)
assert found is headcount.units is units and prune is headcount.prune
assert headcount.tasks.NLI and headcount.errors is errors
assert arena.__name__ == "headcount.arena"
assert {*headcount.__all__} <= {*globals()} and {*headcount.__all__, "errors"} <= {*dir(headcount)}
from headcount.units.budget import Budget as same
assert Budget is same
import importlib
assert importlib.reload(headcount).units is units
print("done")
"""
    assert run(code) == "done\n"


FIRST = """
import headcount, sys
from transformers import AutoConfig
config = AutoConfig.from_pretrained(folder)
assert "transformers.modeling_utils" not in sys.modules
assert config.headcount["left"] and not vars(config).get("per_layer_config")
(sentence,) = config.to_dict()["per_layer_config"]
assert "import headcount" in sentence
"""
SECOND = """
import transformers.modeling_utils, transformers.generation.utils
import headcount
"""
ONCE = """
import headcount, importlib, transformers.modeling_utils
once = transformers.modeling_utils.PreTrainedModel.__init__
importlib.reload(headcount)
assert transformers.modeling_utils.PreTrainedModel.__init__ is once
assert not hasattr(once.__wrapped__, "__wrapped__")
"""
HALF_WAY = """
import sys

class HalfWay:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("transformers.") and inside in sys.modules and not done:
            done.append(not hasattr(sys.modules[inside], holds))
            import headcount

done = []
sys.meta_path.insert(0, HalfWay())
import transformers.modeling_utils
assert done == [True]
"""
THREAD = """
import sys, threading, time
thread = threading.Thread(target=__import__, args=("transformers.modeling_utils",))
thread.start()
while "transformers.modeling_utils" not in sys.modules:
    time.sleep(0.001)
early = not hasattr(sys.modules["transformers.modeling_utils"], "PreTrainedModel")
import headcount
thread.join()
assert early
"""


@pytest.mark.compat
@pytest.mark.parametrize("order", [FIRST, SECOND], ids=["headcount first", "transformers first"])
@pytest.mark.slow
def test_a_cut_model_loads_in_either_order(folders, order):
    place, said = folders
    folder = str(place / "import")
    assert json.loads(run(order, LOAD, ONCE, SAY, folder=folder, ids=IDS)) == said


@pytest.mark.compat
@pytest.mark.parametrize(
    ("inside", "holds"),
    [
        ("transformers.modeling_utils", "PreTrainedModel"),
        ("transformers.configuration_utils", "PreTrainedConfig"),
        ("transformers.generation.utils", "GenerationMixin"),
    ],
)
@pytest.mark.slow
def test_headcount_may_be_imported_while_transformers_is(folders, inside, holds):
    place, said = folders
    values = {"folder": str(place / "import"), "ids": IDS, "inside": inside, "holds": holds}
    code = HALF_WAY.replace("import transformers.modeling_utils", f"import {inside}")
    served = "assert 'headcount' in transformers.GenerationMixin.init_continuous_batching.__code__"
    check = f"import transformers\n{served}.co_filename"
    assert json.loads(run(code, LOAD, ONCE, check, SAY, **values)) == said


@pytest.mark.slow
def test_headcount_may_be_imported_while_a_thread_imports_transformers(folders):
    place, said = folders
    folder = str(place / "import")
    assert json.loads(run(THREAD, LOAD, ONCE, SAY, folder=folder, ids=IDS)) == said


def belonging() -> list[str]:
    """What there is to import where torch, transformers and safetensors are installed alone."""
    seen, left = set(), ["torch", "transformers", "safetensors"]
    while left:
        name = canonicalize_name(left.pop())
        if name in seen:
            continue
        seen.add(name)
        try:
            asked = map(Requirement, requires(name) or [])
        except PackageNotFoundError:  # of another system, by its marker or by a wheel's name
            continue
        left += [one.name for one in asked if not one.marker or one.marker.evaluate({"extra": ""})]
    owners = packages_distributions().items()
    tops = {top for top, dists in owners if seen & {canonicalize_name(d) for d in dists}}
    return sorted(tops | {name.replace("-", "_") for name in seen})


ALONE = """
import importlib.util
assert not any(map(importlib.util.find_spec, ("jaxtyping", "datasets", "accelerate", "matplotlib")))
import headcount
"""
AGAIN = """
model.save_pretrained(folder + " again")
model = AutoModelForSequenceClassification.from_pretrained(folder + " again").eval()
assert model.config.headcount["left"]
folder += " again"
"""
STANDALONE = LOAD.replace("(folder)", "(folder, trust_remote_code=True)")


@pytest.mark.compat
@pytest.mark.parametrize("rung", ["import", "standalone"])
def test_reloading_needs_torch_transformers_and_safetensors_alone(folders, rung):
    place, said = folders
    own = ("headcount", "transformers_modules")
    known = "*allowed, *sys.stdlib_module_names"
    hides = f"not (name in {{{known}}} or name.startswith('_sysconfigdata'))"
    code = (WITHOUT.replace("{hides}", hides), ALONE, STANDALONE if rung == "standalone" else LOAD)
    steps = (AGAIN, SAY) if rung == "import" else (SAY,)
    values = {"allowed": (*belonging(), *own), "folder": str(place / rung), "ids": IDS}
    assert json.loads(run(*code, *steps, **values)) == said


MISSING = """
from headcount import *
import headcount as hc

said = {}
for name in hc.__all__:
    value = getattr(hc, name)
    if value.__module__ == "headcount":
        try:
            value("a", b=1)
        except hc.MissingPackageError as error:
            assert isinstance(error, ImportError)
            said[name] = [error.name, str(error)]
try:
    import headcount.tasks
except hc.MissingPackageError as error:
    said["headcount.tasks"] = [error.name, str(error)]
import json
print(json.dumps(said))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "names"),
    [
        (
            "accelerate",
            {
                *("Options", "Pruned", "PruningTrainer", "Recipe", "evaluate", "prune"),
                *("headcount.tasks", "Task", *TASK_NAMES),
            },
        ),
        (
            "datasets",
            {
                *("Distillation", "Options", "Pruned", "PruningTrainer", "evaluate", "prune"),
                *("headcount.tasks", "Task", "taught"),
                *TASK_NAMES,
            },
        ),
        ("matplotlib", {"Options", "Pruned", "prune"}),
        (
            "sklearn",
            {
                *("Options", "Pruned", "evaluate", "prune", "headcount.tasks", "Task"),
                *TASK_NAMES,
            },
        ),
    ],
)
def test_a_missing_package_is_named_where_it_is_needed(package, names):
    hidden = WITHOUT.replace("{hides}", f"name == {package!r}")
    said = json.loads(run(hidden, MISSING))
    how = f'Install it with: pip install "headcount[{EXTRAS[package]}]"'
    assert said == {name: [package, f"{name}: this needs {package}. {how}"] for name in names}


@pytest.mark.parametrize("package", EXTRAS)
def test_a_name_whose_package_is_missing_can_be_imported_but_not_used(monkeypatch, package):
    def fails(name):
        raise ImportError(f"cannot import {name}") from ModuleNotFoundError(name=f"{package}.part")

    monkeypatch.delitem(vars(hc), "prune", raising=False)
    with monkeypatch.context() as patch:
        patch.setattr(importlib, "import_module", fails)
        absent = hc.prune
    with pytest.raises(hc.MissingPackageError, match=f"^prune: this needs {package}. Install it"):
        absent("model", heads=3)
    assert hc.prune is not absent


def test_an_import_that_fails_for_another_reason_says_that(monkeypatch):
    monkeypatch.setitem(sys.modules, "headcount.surgery.fold", None)
    monkeypatch.delitem(vars(hc), "fold", raising=False)
    with pytest.raises(ModuleNotFoundError, match=r"headcount\.surgery\.fold"):
        hc.fold  # noqa: B018


def test_the_extra_has_the_packages_that_are_named():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    for package, extra in EXTRAS.items():
        name = {"sklearn": "scikit-learn", "PIL": "pillow"}.get(package, package)
        name = name.replace("_", "-")
        assert name in {Requirement(one).name for one in extras[extra]}
        assert name not in {Requirement(one).name for one in project["dependencies"]}
    assert "headcount[train]" in extras["test"]
