"""Passes that run twice: first without gradients, later again with them."""

import hashlib
from collections import deque
from collections.abc import Callable
from typing import final

import torch
from torch import Generator, Tensor

from headcount.gates.passes import in_backward

MOST = 4096
"""Most passes without gradients that are remembered within a step."""


@final
class Reruns:
    """Draws gates; a pass that runs again gets the same gates as before.

    Contrastive losses over large batches (GradCache, and the ``Cached...`` losses of
    sentence-transformers) embed the parts of a batch without gradients, and later each part again
    with gradients. Both embeddings must agree, so these losses restore the state of torch's random
    generator for dropout. A pass that begins in a state seen before is therefore a rerun.

    Example:
        >>> generator = Generator().manual_seed(0)
        >>> reruns = Reruns(generator)
        >>> draw, cpu = lambda: torch.rand(2, generator=generator), torch.device("cpu")
        >>> state, firsts = torch.get_rng_state(), []
        >>> with torch.no_grad():
        ...     for _ in range(2):
        ...         firsts.append(reruns.gates(draw, cpu))
        ...         _ = torch.rand(1)         # dropout
        >>> _ = torch.set_rng_state(state)
        >>> torch.equal(reruns.gates(draw, cpu), firsts[0])
        True

    Source: Gao, Zhang, Han, Callan 2021, arXiv 2101.06983 (GradCache).
    """

    def __init__(self, generator: Generator) -> None:
        """Draw gates with this generator; no pass has run yet."""
        self._generator = generator
        self._seen: deque[tuple[bytes, Tensor]] = deque(maxlen=MOST)
        self._last = b""

    def step(self) -> None:
        """Forget the passes before the optimizer's step."""
        self._seen.clear()

    def gates(self, draw: Callable[[], Tensor], device: torch.device) -> Tensor:
        """Gates of a training pass that begins now; ``device`` is where its dropout is drawn."""
        if not torch.is_grad_enabled():
            self._last = _random_state(device)
            self._seen.append((self._last, self._generator.get_state()))
            return draw()
        found = self._find(device) if self._seen else None
        if found is None:
            return draw()
        # A rerun draws from the old state. New passes must not depend on it, so it is put back.
        now = self._generator.get_state()
        self._generator.set_state(found)
        try:
            return draw()
        finally:
            self._generator.set_state(now)

    def _find(self, device: torch.device) -> Tensor | None:
        """The gates' generator at the first run of this pass, which is then forgotten; or None.

        Without dropout torch's state never moves, and all passes look alike. Then only a pass that
        begins inside a backward pass counts as a rerun.
        """
        state = _random_state(device)
        moved, self._last = state != self._last, state
        found = next((pair for pair in self._seen if pair[0] == state), None)
        if found is None or not (moved or in_backward()):
            return None
        self._seen = deque((pair for pair in self._seen if pair is not found), maxlen=MOST)
        return found[1]


def _random_state(device: torch.device) -> bytes:
    state = torch.get_rng_state().numpy().tobytes()
    if device.type == "cuda":
        state += torch.cuda.get_rng_state(device).numpy().tobytes()
    return hashlib.blake2b(state, digest_size=16).digest()
