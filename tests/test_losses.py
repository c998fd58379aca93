"""Loss terms at known values: closed forms, and what gradients may and may not reach."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from sparring.losses import absolute_error, gradient_penalty, is_fake, is_real, squared_error, zero_penalty


def linear(*weights: float):
    """A critic w.x + b on rows, and its weights."""
    w = torch.tensor(weights, requires_grad=True)
    return (lambda x: x @ w + 5.0), w


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_logistic_losses():
    assert is_real(torch.zeros(3)).item() == is_fake(torch.zeros(3)).item() == pytest.approx(math.log(2))
    logit = torch.tensor([-200.0, 0.0, 200.0])
    assert is_real(logit).item() == is_fake(-logit).item() == pytest.approx((200 + math.log(2)) / 3)


def test_errors_are_in_float32():
    x, y = torch.tensor([1.0, 2.0], dtype=torch.bfloat16), torch.tensor([4.0, 0.0], dtype=torch.bfloat16)
    assert squared_error(x, y).item() == 6.5
    assert absolute_error(x, y).item() == 2.5
    assert squared_error(x, y).dtype == absolute_error(x, y).dtype == torch.float32


@pytest.mark.parametrize("seed", [0, 1])
def test_penalty_of_a_linear_critic(seed):
    """(|w| - 1)^2 whatever the data; its gradient is 2 (|w| - 1) w / |w|."""
    critic, w = linear(3.0, 4.0)
    penalty = gradient_penalty(critic, noise(8, 2, seed=seed), 7 * noise(8, 2, seed=seed + 9))
    assert penalty.shape == ()
    assert penalty.item() == pytest.approx(16)
    penalty.backward()
    assert w.grad.tolist() == pytest.approx([4.8, 6.4])


def test_penalty_of_another_target_and_one_sided():
    x, y = noise(4, 2), noise(4, 2, seed=1)
    steep, flat = linear(3.0, 4.0)[0], linear(0.3, 0.4)[0]
    assert gradient_penalty(steep, x, y, target=5.0).item() == pytest.approx(0, abs=1e-10)
    assert gradient_penalty(steep, x, y, target=0.0).item() == pytest.approx(25)
    assert gradient_penalty(steep, x, y, one_sided=True).item() == pytest.approx(16)
    assert gradient_penalty(flat, x, y).item() == pytest.approx(0.25)
    assert gradient_penalty(flat, x, y, one_sided=True).item() == 0


def test_penalty_of_a_quadratic():
    """f = a |x|^2 / 2, real at 0, made at v: the mean over epsilon is (a|v|)^2 / 3 - a|v| + 1, here 1."""
    made = torch.tensor([[0.9, 1.2]]).expand(200_000, 2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        penalty = gradient_penalty(lambda x: x.square().sum(1), torch.zeros(200_000, 2), made)
    assert penalty.item() == pytest.approx(1.0, abs=0.01)


def test_penalty_of_a_linear_joint_critic():
    """The norm is that of both gradients together: (5 - 1)^2; two penalties would give (3 - 1)^2 + (4 - 1)^2 = 13."""

    def critic(x, z):
        return 3 * x[:, 0, 0, 0] + 4 * z[:, 1]

    real, fake = (noise(6, 2, 1, 1), noise(6, 3)), (noise(6, 2, 1, 1, seed=1), noise(6, 3, seed=2))
    assert gradient_penalty(critic, real, fake).item() == pytest.approx(16)
    assert zero_penalty(critic, real).item() == pytest.approx(12.5)


def test_one_epsilon_an_example_for_all_its_parts():
    seen = []

    def critic(x, z):
        seen.extend([x.detach(), z.detach()])
        return x.flatten(1).sum(1) + z.sum(1)

    ones, zeros = ((fill(50, 3, 2, 2), fill(50, 4)) for fill in (torch.ones, torch.zeros))
    gradient_penalty(critic, ones, zeros)
    x, z = seen
    epsilon = z[:, 0]
    assert torch.equal(z, epsilon[:, None].expand(50, 4))
    assert torch.equal(x, epsilon[:, None, None, None].expand(50, 3, 2, 2))
    assert len(epsilon.unique()) == 50
    assert 0 <= epsilon.min() < 0.2 < 0.8 < epsilon.max() <= 1


def test_flat_critics_have_finite_gradients():
    """Where the slope is 0 the norm has no derivative; the penalty is 1 there, and says nothing of where to go."""
    critic, w = linear(0.0, 0.0)
    penalty = gradient_penalty(critic, noise(4, 2), noise(4, 2, seed=1))
    assert penalty.item() == 1
    penalty.backward()
    assert w.grad.tolist() == [0, 0]

    dead = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    with torch.no_grad():
        dead[0].bias.fill_(-100.0)
    gradient_penalty(dead, noise(4, 2), noise(4, 2, seed=1)).backward()
    grads = [p.grad for p in dead.parameters() if p.grad is not None]
    assert grads
    assert all(torch.isfinite(grad).all() for grad in grads)


def test_no_gradient_reaches_the_examples():
    network = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
    real, fake = noise(4, 2).requires_grad_(), noise(4, 2, seed=1).requires_grad_()
    (gradient_penalty(network, real, fake) + zero_penalty(network, fake)).backward()
    assert real.grad is None
    assert fake.grad is None
    assert all(p.grad.abs().sum() > 0 for p in network[::2].parameters() if p.ndim == 2)


def test_penalties_are_in_float32_under_autocast():
    network = nn.Sequential(nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 1))
    real, fake = noise(16, 6), noise(16, 6, seed=1)
    values = []
    for mixed in (False, True):
        with torch.random.fork_rng(), torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            torch.manual_seed(0)
            made = fake.bfloat16().float() if not mixed else fake.bfloat16()
            values.append((gradient_penalty(network, real, made).item(), zero_penalty(network, made).item()))
    assert values[0] == values[1]


def test_zero_penalty_of_a_linear_and_a_quadratic_discriminator():
    """R1 with gamma 1: |w|^2 / 2; of f = a |x|^2 / 2 it is a^2 E|x|^2 / 2."""
    critic, w = linear(3.0, 4.0)
    penalty = zero_penalty(critic, noise(5, 2))
    assert penalty.item() == pytest.approx(12.5)
    penalty.backward()
    assert w.grad.tolist() == pytest.approx([3, 4])
    x = noise(5, 3)
    assert zero_penalty(lambda x: x.square().sum(1), x).item() == pytest.approx(2 * x.square().sum(1).mean().item())


def test_zero_penalty_of_a_constant():
    critic, w = linear(0.0, 0.0)
    penalty = zero_penalty(critic, noise(5, 2))
    assert penalty.item() == 0
    penalty.backward()
    assert w.grad.tolist() == [0, 0]


def test_parts_must_match():
    with pytest.raises(ValueError, match="shorter"):
        gradient_penalty(lambda x, z: x.sum(1), (torch.ones(2, 1), torch.ones(2, 1)), (torch.ones(2, 1),))
