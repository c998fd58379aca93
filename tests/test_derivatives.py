"""Layers that are differentiated twice give what PyTorch's own give, to the precision of float64."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sparring.derivatives import TwiceDifferentiable
from sparring.losses import gradient_penalty, zero_penalty

NETWORKS = {
    "halving": [nn.Conv2d(2, 3, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True), nn.Conv2d(3, 2, 5, 2, 2)],
    "rows that no stride reaches": [nn.Conv2d(2, 3, 3, 3), nn.ReLU(), nn.Conv2d(3, 2, 2, 2, 1, bias=False)],
    "groups, dilation, an uneven kernel": [nn.Conv2d(2, 4, (3, 1), (1, 2), (2, 0), (2, 1), 2), nn.LeakyReLU(0.2)],
    "padding by name": [nn.Conv2d(2, 3, 3, padding="same"), nn.LeakyReLU(-0.3)],
    "smooth": [nn.Conv2d(2, 3, 3, 1, 1), nn.Tanh(), nn.GroupNorm(1, 3), nn.Conv2d(3, 3, 3)],
    "no convolution": [nn.Flatten(), nn.Linear(2 * 11 * 11, 5), nn.ReLU()],
}


def critic_of(layers):
    torch.manual_seed(0)
    network = nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(1), nn.Flatten(0)).double()
    network(torch.zeros(2, 2, 11, 11, dtype=torch.float64))
    for parameter in network.parameters():
        nn.init.normal_(parameter, 0, 0.5)
    return network


def twice(critic, x, parameters):
    """Gradients of a penalty on slopes, of a loss on values, and of both in one graph."""
    x = x.clone().requires_grad_()
    value = critic(x)
    (slope,) = torch.autograd.grad(value.sum(), x, create_graph=True)
    penalty, loss = (slope.flatten(1).norm(dim=1) - 1).square().mean(), F.softplus(value).mean()
    grad = partial(torch.autograd.grad, inputs=parameters, retain_graph=True, materialize_grads=True)
    return [grad(of) for of in (penalty, loss, penalty + loss)], slope.detach()


@pytest.mark.parametrize("name", NETWORKS)
def test_they_are_those_of_pytorch(name):
    critic = critic_of(NETWORKS[name])
    x, parameters = torch.randn(4, 2, 11, 11, dtype=torch.float64), list(critic.parameters())
    expected, slope = twice(critic, x, parameters)
    with TwiceDifferentiable():
        found, own = twice(critic, x, parameters)
    torch.testing.assert_close(own, slope)
    for a, b in zip(found, expected, strict=True):
        for one, other in zip(a, b, strict=True):
            torch.testing.assert_close(one, other)
    assert max(float(g.abs().max()) for g in found[0]) > 0


def test_functions_are_served_as_modules_are():
    torch.manual_seed(0)
    weight = torch.randn(2, 1, 3, 3, dtype=torch.float64, requires_grad=True)

    def critic(x):
        y = F.conv2d(x, weight, stride=2, padding=1, groups=2)
        return F.leaky_relu(F.relu(y), 0.1).flatten(1).sum(1) ** 2

    x = torch.randn(3, 2, 8, 8, dtype=torch.float64)
    expected, _ = twice(critic, x, [weight])
    with TwiceDifferentiable():
        found, _ = twice(critic, x, [weight])
    for (one,), (other,) in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_an_unbatched_image_is_left_to_pytorch():
    layer, x = nn.Conv2d(1, 1, 3), torch.randn(1, 5, 5)
    with TwiceDifferentiable():
        assert torch.equal(layer(x), F.conv2d(x, layer.weight, layer.bias))


@pytest.mark.parametrize("penalty", [partial(gradient_penalty, fake=torch.zeros(4, 2, 11, 11)), zero_penalty])
def test_penalties_take_them_and_leave_nothing_behind(penalty, monkeypatch):
    critic = critic_of(NETWORKS["halving"]).float()
    torch.manual_seed(0)
    found = torch.autograd.grad(penalty(critic, x := torch.randn(4, 2, 11, 11)), critic[0].weight)[0]
    seen = []
    monkeypatch.setattr("sparring.losses.TwiceDifferentiable", lambda: seen.append(1) or torch.enable_grad())
    torch.manual_seed(0)
    x = torch.randn(4, 2, 11, 11)
    expected = torch.autograd.grad(penalty(critic, x), critic[0].weight)[0]
    assert seen
    torch.testing.assert_close(found, expected)
