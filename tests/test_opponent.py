"""The opponent at the end of a training: right where it can be, fooled where it must, clipped where it is."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sparring import evaluate, models, opponent, train
from sparring.data import open_source
from sparring.protocol import Discriminates
from sparring.testing.rig import cases
from tiny import TINY

pytestmark = pytest.mark.usefixtures("no_report")


class Says(nn.Module):
    """Answers what it was told to, of real and of made examples."""

    def __init__(self, real: Any, made: Any, boundary: float | None = 0.0, conditional: bool = False) -> None:
        super().__init__()
        self.real, self.made, self.boundary, self.conditional = real, made, boundary, conditional
        self.labels: list[int] = []
        self.sizes: list[int] = []

    def discriminate(self, x: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        self.sizes.append(len(x))
        if label is not None:
            self.labels += label.tolist()
        return self.real(len(x)), self.made(len(x))


def judged(game: Any, classes: tuple[str, ...] = tuple("0123456789"), of: Any = None) -> dict[str, Any]:
    run: Any = SimpleNamespace(game=game, spec=SimpleNamespace(classes=classes))
    return opponent.discrimination(run, open_source("digits", split="test") if of is None else of)


def test_it_is_counted_how_often_it_is_right():
    game = Says(lambda n: torch.linspace(-1, 3, n), lambda n: torch.linspace(-3, 1, n))
    found = judged(game)
    assert found["count"] == sum(game.sizes) == 500
    assert max(game.sizes) <= 64
    assert found["real"] == pytest.approx(0.75, abs=0.02)
    assert found["made"] == pytest.approx(0.75, abs=0.02)
    assert found["ranked"] == pytest.approx(1 - 0.5**3, abs=0.02), "of two uniform numbers that overlap by half"
    assert not game.labels, "it makes images of no class in particular"
    assert json.loads(json.dumps(found)) == found


def test_a_constant_answer_is_never_right():
    found = judged(Says(torch.zeros, torch.zeros))
    assert (found["real"], found["made"], found["ranked"]) == (0, 0, 0.5)


def test_a_boundary_elsewhere_and_none():
    half, one = (lambda n: torch.full((n,), 0.6)), torch.ones
    assert judged(Says(one, half, 0.5))["made"] == 0
    found = judged(Says(one, half, None))
    assert (found["real"], found["made"], found["ranked"]) == (None, None, 1)


def test_it_follows_from_nothing_but_the_run():
    game = Says(torch.randn, torch.randn)
    state = torch.get_rng_state()
    found = judged(game)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    assert judged(game) == found


def test_classes_go_by_the_run_s_own_numbers():
    source = open_source("digits", split="test", classes=["2", "7"])
    assert source.classes == ("2", "7")
    game = Says(torch.ones, torch.zeros, conditional=True)
    judged(game, ("7", "4", "2"), source)
    names = [("2", "7")[k] for k in source.labels[: len(game.labels)]]
    assert [("7", "4", "2")[k] for k in game.labels] == names
    assert judged(game, ("a", "b")) == {}, "it knows none of these classes"


def test_a_game_that_does_not_say_has_none():
    assert judged(nn.Identity()) == {}
    assert opponent.clipping(SimpleNamespace(recipe=SimpleNamespace())) == {}


def test_every_generator_says():
    for name in models.names():
        game = next(cases(models.find(name))).build()
        asked = hasattr(game, "generate") and not hasattr(game, "score") and not game.captioned
        assert isinstance(game, Discriminates) == asked, name


@pytest.mark.parametrize("name", [name for name in models.names() if hasattr(models.find(name).game, "discriminate")])
def test_a_boundary_is_where_the_losses_say(name):
    """A trained discriminator with a boundary is trained to stand on its right side, or it is none."""
    case = next(cases(models.find(name)))
    game, losses = case.build(), set()
    draw = case.engine().draw
    for move in game.round(draw, 0):
        losses |= {(update.player, *update.terms) for update in (move if isinstance(move, tuple) else (move,))}
    players = {player for player, *_ in losses}
    relativistic = any("relativistic" in terms for terms in losses)
    assert (game.boundary is None) == ("critic" in players or relativistic)


def test_clipped_weights_are_counted():
    critic = nn.Linear(100, 1)
    game: Any = SimpleNamespace(critic=critic, recipe=SimpleNamespace(clip=0.01))
    with torch.no_grad():
        critic.weight.copy_(torch.linspace(-0.009, 0.009, 100))
        critic.weight[0, :30] = 0.01
        critic.weight[0, 30:40] = -0.0099
        critic.weight[0, 40:42] = 5.0
        critic.bias.zero_()
    found = opponent.clipping(game)
    assert (found["bound"], found["count"]) == (0.01, 101)
    assert found["at_bounds"] == pytest.approx(42 / 101)
    assert sum(found["histogram"]["shares"]) == pytest.approx(1), "what lies beyond is in the outermost bars"
    assert len(found["histogram"]["edges"]) == len(found["histogram"]["shares"]) + 1


@pytest.mark.usefixtures("quick")
def test_an_evaluation_tells_of_the_opponent(tmp_path, monkeypatch):
    shown: dict[str, Any] = {}
    monkeypatch.setattr("sparring.evaluation.write_report", lambda path, evidence: shown.update(vars(evidence)))
    recipe = {**TINY, "rounds": 3, "eager_steps": 3}
    run = train("wgan", "digits", out=tmp_path / "run", size=16, recipe=recipe)
    found = evaluate(run, features="pixels")
    part = found["opponent"]
    assert part["count"] == 500
    assert 0 <= part["ranked"] <= 1
    assert part["real"] is None
    assert 0 < part["clipping"]["at_bounds"] <= 1
    assert "histogram" not in part["clipping"]
    assert np.sum(shown["opponent"]["clipping"]["histogram"]["shares"]) == pytest.approx(1)
    assert evaluate(run, features="pixels")["opponent"] == part


def test_the_opponent_of_a_run_without_unseen_images(tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 256, (60, 16, 16), dtype=np.uint8))
    settings: Any = {"size": 16, "recipe": {**TINY, "rounds": 1}}
    assert "opponent" not in evaluate(train("dcgan", tmp_path / "x.npy", out=tmp_path / "dcgan", **settings))
    settings["recipe"]["eager_steps"] = 1
    found = evaluate(train("wgan", tmp_path / "x.npy", out=tmp_path / "wgan", **settings))
    assert set(found["opponent"]) == {"clipping"}
