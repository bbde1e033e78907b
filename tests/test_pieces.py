"""The modules that take the place of what was cut, and how a dense model is given a cut shape."""

import ast
import copy
import io
import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import headcount as hc
from headcount import pieces
from headcount.checkpoints.dense import plan_again
from headcount.pieces import BiasOnly, Overridden, Zeros, rebuild, wrappers
from headcount.zoo.decisions import random_decision
from headcount.zoo.inputs import dummy_inputs
from headcount.zoo.outputs import equal_bits
from headcount.zoo.tiny import tiny_model

DTYPES = (torch.float64, torch.float16, torch.bfloat16)


def bias_only() -> BiasOnly:
    return BiasOnly(3, torch.tensor([1.0, 2.0, 3.0]))


def test_zeros_puts_out_zeros_of_the_input_s_type():
    x = torch.ones(2, 5, 4, dtype=torch.bfloat16)
    out = Zeros(3)(x)
    assert out.shape == (2, 5, 3)
    assert out.dtype == torch.bfloat16
    assert not out.any()


@pytest.mark.parametrize("batch", [(2,), (2, 5), (2, 5, 7)])
def test_bias_only_puts_out_its_bias(batch):
    out = bias_only()(torch.zeros(*batch, 0))
    assert torch.equal(out, torch.tensor([1.0, 2.0, 3.0]).expand(*batch, 3))


def test_bias_only_without_a_bias_puts_out_zeros():
    assert not BiasOnly(3, None)(torch.zeros(2, 0)).any()


def test_the_output_of_bias_only_can_be_added_to_in_place():
    """Falcon and others add to what a projection puts out."""
    module = bias_only()
    out = module(torch.zeros(2, 5, 0))
    out += 1
    assert torch.equal(out, torch.tensor([2.0, 3.0, 4.0]).expand(2, 5, 3))
    assert torch.equal(module.bias, torch.tensor([1.0, 2.0, 3.0]))


def test_the_bias_gets_a_gradient_from_every_position():
    module = bias_only()
    module(torch.zeros(2, 5, 0)).sum().backward()
    assert torch.equal(module.bias.grad, torch.full((3,), 10.0))


@pytest.mark.parametrize(("module", "keys"), [(Zeros(3), []), (bias_only(), ["bias"])], ids=str)
def test_the_weight_is_never_saved(module, keys):
    assert [*module.state_dict()] == keys
    assert [name for name, _ in module.named_parameters()] == keys
    assert [*module.named_buffers()] == []


def test_a_missing_bias_is_not_saved_either():
    assert [*BiasOnly(3, None).state_dict()] == []


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("make", [lambda: Zeros(3), bias_only], ids=["zeros", "bias"])
def test_the_weight_s_type_follows_the_module(make, dtype):
    module = nn.Sequential(make()).to(dtype)[0]
    assert module.weight.dtype == dtype
    assert module(torch.zeros(2, 0, dtype=dtype)).dtype == dtype


@pytest.mark.parametrize("make", [lambda: Zeros(3), bias_only], ids=["zeros", "bias"])
def test_the_weight_s_device_follows_the_module(make):
    module = nn.Sequential(make()).to("meta")[0]
    assert module.weight.device.type == "meta"
    assert module.weight.numel() == 0


@pytest.mark.parametrize("make", [lambda: Zeros(3), bias_only], ids=["zeros", "bias"])
def test_copies_share_nothing(make):
    module = make()
    other = copy.deepcopy(module)
    assert type(other) is type(module)
    assert other.weight is not module.weight
    for name, parameter in other.named_parameters():
        assert parameter.data_ptr() != module.get_parameter(name).data_ptr()
        assert torch.equal(parameter, module.get_parameter(name))


@pytest.mark.parametrize("make", [lambda: Zeros(3), bias_only], ids=["zeros", "bias"])
def test_pieces_are_pickled(make):
    module = make()
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    again = torch.load(file, weights_only=False)
    x = torch.zeros(2, 0)
    assert torch.equal(again(x), module(x))


def test_overridden_reads_through_and_stays_apart():
    base = SimpleNamespace(heads=4, size=8, inner=[1])
    view = Overridden(base, {"heads": 2})
    assert (view.heads, view.size) == (2, 8)
    base.size = 9
    assert view.size == 9
    other = copy.deepcopy(view)
    other._base.inner.append(2)
    assert base.inner == [1]
    assert (other.heads, other.size) == (2, 9)
    with pytest.raises(AttributeError):
        _ = view.nonesuch


def test_overridden_is_pickled():
    again = pickle.loads(pickle.dumps(Overridden(SimpleNamespace(heads=4, size=8), {"heads": 2})))
    assert (again.heads, again.size) == (2, 8)


def test_the_file_imports_only_torch_and_the_standard_library():
    """It is written beside the weights of models that load without headcount."""
    tree = ast.parse(pieces.source())
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            found.add(node.module)
    tops = {name.partition(".")[0] for name in found}
    assert tops <= {"torch", *sys.stdlib_module_names}


def test_the_file_runs_alone(tmp_path):
    """Neither headcount nor transformers is loaded with it."""
    path = tmp_path / "pieces.py"
    path.write_text(pieces.source(), encoding="utf-8")
    code = (
        "import runpy, sys, torch\n"
        f"space = runpy.run_path({str(path)!r})\n"
        "assert not {'headcount', 'transformers'} & sys.modules.keys()\n"
        "model = torch.nn.Sequential(torch.nn.Linear(4, 2), torch.nn.Linear(2, 4))\n"
        "space['rebuild'](model, {'zeros': {'0': 2}, 'bias_only': {'1': [4, True]}})\n"
        "assert torch.equal(model(torch.ones(3, 4)), model[1].bias.expand(3, 4))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.compat
@pytest.mark.parametrize("kind", ["bert", "gpt2", "llama", "t5", "bart", "vit", "bloom", "olmo2"])
def test_a_dense_model_takes_the_cut_shape_and_then_the_weights(kind):
    model = tiny_model(kind)
    small = hc.cut(model, random_decision(hc.units(model, "head", "neuron"), seed=2, empty=True))
    _, planned = plan_again(small)
    dense = tiny_model(kind, seed=1)
    rebuild(dense, planned.structure)
    dense.load_state_dict(small.state_dict())
    inputs = dummy_inputs(model)
    with torch.no_grad():
        assert equal_bits(dense.eval()(**inputs), small(**inputs))


WRAPPED = ["t5", "mpnet", "bloom", "olmo2", "phi3", "bert"]
"""All wrappers, T5 after an empty layer two of them on one module; and none."""


def pickled(kind: str, folder: Path) -> tuple[nn.Module, Path]:
    """A cut model with empty layers, and where it is pickled with what it puts out."""
    model = tiny_model(kind)
    small = hc.cut(model, random_decision(hc.units(model), seed=2, empty=True))
    inputs, path = dummy_inputs(model), folder / f"{kind}.pt"
    with torch.no_grad():
        torch.save({"inputs": inputs, "outputs": small(**inputs), "model": small}, path)
    return small, path


@pytest.mark.parametrize("kind", WRAPPED)
def test_a_cut_model_is_pickled(kind, tmp_path):
    small, path = pickled(kind, tmp_path)
    again = torch.load(path, weights_only=False)["model"]
    assert [type(m) for m in again.modules()] == [type(m) for m in small.modules()]
    assert again.state_dict().keys() == small.state_dict().keys()
    with torch.no_grad():
        inputs = dummy_inputs(small)
        assert equal_bits(again(**inputs), small(**inputs))
    assert hc.units(again) == hc.units(small)


@pytest.mark.slow
def test_a_pickle_is_read_by_a_process_that_has_imported_nothing(tmp_path):
    """Whatever it imports, or in which order."""
    for kind in WRAPPED[:4]:
        pickled(kind, tmp_path)
    code = (
        "import sys, torch\n"
        "for path in sys.argv[1:]:\n"
        "    found = torch.load(path, weights_only=False)\n"
        "    with torch.no_grad():\n"
        "        again = found['model'](**found['inputs'])[0]\n"
        "    assert torch.equal(again, found['outputs'][0]), path\n"
    )
    paths = [str(path) for path in sorted(tmp_path.iterdir())]
    command = [sys.executable, "-c", code, *paths]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_class_is_made_once():
    made = wrappers.skipped(nn.Linear)
    assert wrappers.skipped(nn.Linear) is made
    assert wrappers.own_slopes(made, ["alibi", 1]) is wrappers.own_slopes(made, ["alibi", 1])
    assert wrappers.own_slopes(made, ["alibi", 1]) is not wrappers.own_slopes(made, ["alibi", 0])


@pytest.mark.parametrize("kind", ["bert", "gpt2", "llama", "t5", "bloom", "olmo2", "phi3"])
def test_a_cut_model_is_copied(kind):
    model = tiny_model(kind)
    small = hc.cut(model, random_decision(hc.units(model), seed=2, empty=True))
    other = copy.deepcopy(small)
    inputs = dummy_inputs(model)
    with torch.no_grad():
        assert equal_bits(other(**inputs), small(**inputs))
    assert not {p.data_ptr() for p in other.parameters() if p.numel()} & {
        p.data_ptr() for p in small.parameters() if p.numel()
    }
