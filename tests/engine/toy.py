"""Games that show one thing each, and an engine for them."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer

from sparring.engine import Engine
from sparring.losses import is_fake, is_real, squared_error
from sparring.protocol import Draw, Game, Phase, Recipe, Round, Spec, Update, frozen, hyper
from sparring.testing import TinyDraw

SPEC = Spec((5,), 64)


@dataclass(frozen=True)
class ToyRecipe(Recipe):
    batch: int = hyper(8, "", "none", least=1)
    rounds: int | None = hyper(6, "", "none", least=1)
    second: int = hyper(4, "", "none: rounds of the second phase", least=1)
    keep: bool = hyper(False, "", "none: whether the second phase ends with its best weights")


class Toy(Game):
    """Two phases with dropout, batch norm, momentum, schedules and an average."""

    averages = ("maker",)

    def __init__(self, spec: Spec = SPEC, recipe: ToyRecipe | None = None) -> None:
        super().__init__(spec, recipe or ToyRecipe())
        hidden = [nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3)]
        self.maker = nn.Sequential(*hidden, nn.Linear(8, spec.size))
        self.critic = nn.Sequential(nn.Linear(spec.size, 8), nn.LeakyReLU(0.2), nn.Dropout(0.3), nn.Linear(8, 1))
        self.judge = nn.Linear(spec.size, 1)
        self.began: list[str] = []

    def generate(self, n: int) -> Tensor:
        return self.maker(torch.randn(n, 3))

    def round(self, draw: Draw, step: int) -> Round:
        x = draw().x
        y = self.generate(len(x))
        yield Update("critic", real=is_real(self.critic(x)), fake=is_fake(self.critic(y.detach())))
        with frozen(self.critic):
            fooled = is_real(self.critic(y))
        yield Update("maker", fooled=fooled)

    def second(self, draw: Draw, step: int) -> Round:
        x = draw().x
        with torch.no_grad():
            y = self.generate(len(x))
        yield Update("judge", real=is_real(self.judge(x)), fake=is_fake(self.judge(y)))

    def players(self) -> dict[str, Optimizer]:
        self.began.append("one")
        return {
            "critic": torch.optim.SGD(self.critic.parameters(), 0.1, momentum=0.5),
            "maker": torch.optim.Adam(self.maker.parameters(), 0.01),
        }

    def judges(self) -> dict[str, Optimizer]:
        self.began.append("two")
        nn.init.normal_(self.judge.weight)  # what a phase begins with may be drawn at random
        return {"judge": torch.optim.SGD(self.judge.parameters(), 0.1, momentum=0.9)}

    def phases(self) -> list[Phase]:
        r = self.recipe
        assert isinstance(r, ToyRecipe)
        keep = "auroc" if r.keep else None
        return [
            Phase("one", self.rounds, self.round, self.players, rate=lambda step: 0.9**step),
            Phase("two", r.second, self.second, self.judges, momentum=lambda step: 0.5 + 0.1 * step, keep=keep),
        ]


class Poisoned(Toy):
    """The maker's loss is not finite in one round, on one process."""

    at, rank = 3, 0

    def round(self, draw: Draw, step: int) -> Round:
        rank = getattr(draw, "rank", 0)
        for move in super().round(draw, step):
            if isinstance(move, Update) and move.player == "maker" and step == self.at and rank == self.rank:
                move.terms["fooled"] = move.terms["fooled"] * float("nan")
            yield move


class Steep(Toy):
    """The maker's loss is finite in every round, and its gradient is not."""

    def round(self, draw: Draw, step: int) -> Round:
        for move in super().round(draw, step):
            if isinstance(move, Update) and move.player == "maker" and step == 3:
                move.terms["fooled"] = (0 * move.terms["fooled"]).sqrt()
            yield move


class CtrlC(Toy):
    """Someone presses Ctrl-C in the middle of a round, once or more often."""

    at, signal, presses = 2, signal.SIGINT, 1

    def round(self, draw: Draw, step: int) -> Round:
        for k, move in enumerate(super().round(draw, step)):
            if step == self.at and k < self.presses:
                os.kill(os.getpid(), self.signal)
            yield move


class Together(Toy):
    """Both players step at once, down losses of one graph."""

    answers: tuple[Tensor, ...] = ()

    def round(self, draw: Draw, step: int) -> Round:
        x = draw().x
        y = self.generate(len(x))
        logit = self.critic(y)
        answer = yield (
            Update("critic", real=is_real(self.critic(x)), fake=is_fake(logit)),
            Update("maker", fooled=is_real(logit)),
        )
        self.answers = (*self.answers, answer)


class Regression(Game):
    """One player, no randomness and no batch statistics."""

    def __init__(self, spec: Spec = SPEC, recipe: ToyRecipe | None = None) -> None:
        super().__init__(spec, recipe or ToyRecipe())
        self.net = nn.Sequential(nn.Linear(spec.size, 8), nn.Tanh(), nn.Linear(8, 1))
        self.answers: list[float] = []

    def round(self, draw: Draw, step: int) -> Round:
        x = draw().x
        answer = yield Update("net", error=squared_error(self.net(x)[:, 0], x.sum(1)))
        self.answers.append(float(answer))

    def players(self) -> dict[str, Optimizer]:
        return {"net": torch.optim.SGD(self.net.parameters(), 0.1, momentum=0.9)}


def make(kind: type[Game] = Toy, seed: int = 0, recipe: Recipe | None = None, **more: Any) -> Engine:
    """Make an engine for a fresh game whose first weights follow from the seed."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        game = kind(SPEC, recipe or ToyRecipe(ema=0.9))
    fabric = more.pop("fabric", None) or Fabric(accelerator="cpu", devices=1)
    draw = TinyDraw(SPEC, game.recipe.batch // fabric.world_size, fabric.global_rank)
    return Engine(game, more.pop("draw", draw), fabric, **more)


def end(engine: Engine) -> dict[str, Any]:
    """Play, and return everything that is left of it."""
    engine.play()
    return {"game": engine.game.state_dict(), "average": engine.average.shadow, "position": engine.draw.position}
