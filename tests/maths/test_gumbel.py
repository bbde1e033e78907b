import math

import pytest
import torch

from headcount.maths.gumbel import gumbel_noise

EULER = 0.5772156649015329


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_moments_are_those_of_the_gumbel_distribution() -> None:
    noise = gumbel_noise((200_000,), seeded())
    assert noise.mean().item() == pytest.approx(EULER, abs=0.01)
    assert noise.std().item() == pytest.approx(math.pi / math.sqrt(6), abs=0.01)


def test_highest_logit_is_a_draw_from_the_softmax() -> None:
    logits = torch.tensor([1.0, 0.0, -1.0], dtype=torch.float64)
    winners = (logits + gumbel_noise((100_000, 3), seeded())).argmax(-1)
    shares = winners.bincount(minlength=3) / len(winners)
    torch.testing.assert_close(shares.double(), logits.softmax(-1), atol=0.01, rtol=0)


@pytest.mark.parametrize("uniform", [0.0, 2.0**-53, 1 - 2.0**-53])
def test_noise_is_finite_at_the_ends_of_the_uniform(
    uniform: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = torch.full((4,), uniform, dtype=torch.float64)
    monkeypatch.setattr(torch, "rand", lambda *_, **__: ends)
    noise = gumbel_noise((4,), seeded())
    assert noise.isfinite().all()
    assert -3.7 < noise[0].item() < 36.8


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_same_seed_gives_the_same_noise_in_every_dtype(dtype: torch.dtype) -> None:
    noise = gumbel_noise([3, 5], seeded(7), dtype=dtype)
    assert noise.shape == (3, 5)
    assert noise.equal(gumbel_noise([3, 5], seeded(7)).to(dtype))


def test_generator_moves_on() -> None:
    generator = seeded()
    assert not gumbel_noise((5,), generator).equal(gumbel_noise((5,), generator))


def test_noise_goes_to_the_device_asked_for() -> None:
    assert gumbel_noise((2,), seeded(), device="cpu").device.type == "cpu"
    assert gumbel_noise((2,), seeded(), device="meta").device.type == "meta"
