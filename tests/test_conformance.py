"""Every model of the catalogue keeps every law, and the laws catch a game that breaks them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from sparring import models
from sparring.errors import UserError
from sparring.losses import is_fake, is_real
from sparring.protocol import Draw, Game, Recipe, Round, Spec, Update, frozen, hyper
from sparring.testing import TinyDraw, as_entry, check_game, checks, small
from sparring.testing.conduct import agree
from sparring.testing.rig import cases

CHECKS = [pytest.param(check, id=name) for name, check in checks()]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", models.names())
def test_model(name, check):
    check(name)


def test_two_processes_agree_on_every_model():
    agree(
        [next(cases(models.find(name), ema=0.9)) for name in models.names()]
    )  # in one launch, which is what takes time


@pytest.mark.parametrize("name", [name for name in models.names() if hasattr(models.find(name).game, "generate")])
def test_what_generates_and_encodes_can_be_averaged(name):
    """`--set ema=0.999` gives other weights of exactly these networks, and the same training."""
    ends = {}
    for decay in (0.0, 0.999):
        case = next(cases(models.find(name), ema=decay))
        engine = case.engine(rounds=2)
        engine.play()
        assert {"generator", "encoder"} & dict(engine.game.named_children()).keys() <= {*case.game.averages}
        ends[decay] = {key: tensor.clone() for key, tensor in engine.game.state_dict().items()}
        with engine.average.applied():
            ends[decay, "sampled"] = {key: tensor.clone() for key, tensor in engine.game.state_dict().items()}
    assert all(torch.equal(ends[0.0][key], tensor) for key, tensor in ends[0.999].items())
    moved = {key.partition(".")[0] for key, x in ends[0.999, "sampled"].items() if not torch.equal(x, ends[0.0][key])}
    assert moved == {*case.game.averages}


@dataclass(frozen=True)
class OwnRecipe(Recipe):
    latent: int = hyper(100, "dim z", "section 1", least=1)
    hidden: tuple[int, ...] = hyper((500,), "", "section 1", least=1)


class Own(Game):
    """Make vectors and score them, as a user's own model does.

    Reference: Ada Author, Ben Author (2020), A Game for Tests, arXiv:2001.00001.

    Departures:
        None.
    """

    averages = ("generator",)

    def __init__(self, spec: Spec, recipe: OwnRecipe) -> None:
        super().__init__(spec, recipe)
        if spec.is_image:
            raise UserError("Own works on vectors, not on images: flatten them.")
        (width,) = recipe.hidden
        self.generator = nn.Sequential(nn.Linear(recipe.latent, width), nn.ReLU(), nn.Linear(width, spec.size))
        self.discriminator = nn.Sequential(nn.Linear(spec.size, width), nn.LeakyReLU(0.2), nn.Linear(width, 1))

    def generate(self, n: int) -> Tensor:
        return self.generator(torch.randn(n, self.recipe.latent))

    def round(self, draw: Draw, step: int) -> Round:
        x = draw().x
        y = self.generate(len(x))
        real, fake = self.discriminator(x), self.discriminator(y.detach())
        yield Update("discriminator", real=is_real(real), fake=is_fake(fake))
        with frozen(self.discriminator):
            fooled = is_real(self.discriminator(y))
        yield Update("generator", fooled=fooled)

    def players(self) -> dict[str, Optimizer]:
        networks = {"discriminator": self.discriminator, "generator": self.generator}
        return {name: torch.optim.Adam(network.parameters(), 1e-3) for name, network in networks.items()}


def test_a_game_from_outside():
    check_game((Own, OwnRecipe()))


class ByClass(Own):
    """Make vectors of a class.

    Reference: Ada Author, Ben Author (2020), A Game for Tests, arXiv:2001.00001.

    Departures:
        None.
    """

    needs = ("x", "label")

    def __init__(self, spec: Spec, recipe: OwnRecipe) -> None:
        super().__init__(spec, recipe)
        (width,), k = recipe.hidden, len(spec.classes)
        self.generator[0] = nn.Linear(recipe.latent + k, width)
        self.discriminator[0] = nn.Linear(spec.size + k, width)

    def told(self, x: Tensor, label: Tensor) -> Tensor:
        return torch.cat([x, F.one_hot(label, len(self.spec.classes)).float()], 1)

    def latent(self, n: int) -> Tensor:
        return torch.randn(n, self.recipe.latent)

    def generate(self, n: int, z: Tensor | None = None, label: Tensor | None = None) -> Tensor:
        z = self.latent(n) if z is None else z
        return self.generator(self.told(z, torch.randint(len(self.spec.classes), (n,)) if label is None else label))

    def round(self, draw: Draw, step: int) -> Round:
        batch = draw()
        y = self.generate(len(batch), label=batch.label)
        real = self.discriminator(self.told(batch.x, batch.label))
        fake = self.discriminator(self.told(y.detach(), batch.label))
        yield Update("discriminator", real=is_real(real), fake=is_fake(fake))
        with frozen(self.discriminator):
            fooled = is_real(self.discriminator(self.told(y, batch.label)))
        yield Update("generator", fooled=fooled)


def test_a_game_by_class_from_outside():
    check_game((ByClass, OwnRecipe()))


def test_classes_can_be_told_apart():
    spec = Spec((2,), 64, ("a", "b", "c"))
    batch = TinyDraw(spec, 50, make=lambda spec, n, generator: torch.full((n, *spec.shape), 0.25))()
    assert set(batch.label.tolist()) == {0, 1, 2}
    assert torch.equal(batch.x, torch.where(batch.label == 1, -0.25, 0.25)[:, None].expand(50, 2))


def test_small_cuts_what_it_knows():
    recipe = small(OwnRecipe(), ema=0.5)
    assert (recipe.latent, recipe.hidden, recipe.batch, recipe.ema) == (8, (16,), 8, 0.5)
    assert as_entry("gan") == models.find("gan") == as_entry(models.find("gan"))


def test_processes_are_left_out_unless_asked_for():
    assert {name for name, _ in checks(processes=True)} - {name for name, _ in checks()} == {"processes_agree"}


class Mute(Own):
    """Make vectors."""


@dataclass(frozen=True)
class Placeless(OwnRecipe):
    slope: float = 0.2


class Faceless(Own):
    generate = None


class Rude(Own):
    def __init__(self, spec, recipe):
        if spec.size == 5:
            raise IndexError("list index out of range")
        super().__init__(spec, recipe)


class Idle(Own):
    def players(self):
        return {"discriminator": super().players()["discriminator"]}


class Shared(Own):
    def players(self):
        return {"discriminator": torch.optim.SGD(self.parameters(), 0.1), "generator": super().players()["generator"]}


class Wasteful(Own):
    def round(self, draw, step):
        x = draw().x
        y = self.generate(len(x))
        yield Update("discriminator", real=is_real(self.discriminator(x)), fake=is_fake(self.discriminator(y)))
        yield Update("generator", fooled=is_real(self.discriminator(self.generate(len(x)))))


class Meddling(Own):
    def round(self, draw, step):
        yield from super().round(draw, step)
        with torch.no_grad():
            self.discriminator[0].weight.clamp_(-0.01, 0.01)


class Numb(Own):
    def round(self, draw, step):
        moves = super().round(draw, step)
        yield next(moves)
        yield Update("generator", fooled=self.generator[2].bias.sum())


class Poisoned(Own):
    def round(self, draw, step):
        for move in super().round(draw, step):
            move.terms = {name: term * float("inf") for name, term in move.terms.items()}
            yield move


class Unreduced(Own):
    def round(self, draw, step):
        yield Update("discriminator", real=self.discriminator(draw().x)[:, 0])


class Forgetful(Own):
    """Counts its rounds where no checkpoint sees it."""

    count = 0

    def round(self, draw, step):
        for move in super().round(draw, step):
            move.terms = {name: term * (1 + self.count) for name, term in move.terms.items()}
            yield move
        self.count += 1


class Loud(Own):
    def generate(self, n):
        return super().generate(n) if self.training else super().generate(n).double()


class Fickle(Own):
    def generate(self, n):
        return super().generate(n) + torch.rand(n, 1, generator=TRUE_RANDOM)


TRUE_RANDOM = torch.Generator().manual_seed(3)


class Gregarious(Own):
    def score(self, x):
        return (x - x.mean(0)).square().sum(1)


class Blind(Own):
    def score(self, x):
        return -x.square().sum(1)


class Lazy(Own):
    def players(self):
        networks = {"discriminator": self.discriminator, "generator": self.generator}
        return {name: torch.optim.Adam(network.parameters(), 1e-9) for name, network in networks.items()}


class Deaf(ByClass):
    def generate(self, n, z=None, label=None):
        return super().generate(n, z, label if label is None else torch.zeros_like(label))


class Stubborn(ByClass):
    def generate(self, n, z=None, label=None):
        return super().generate(n, z, torch.zeros(n, dtype=torch.long) if label is None else label)


class Mixing(ByClass):
    def generate(self, n, z=None, label=None):
        y = super().generate(n, z, label)
        return y - y.mean(0) if n > 1 else y


class Absent(ByClass):
    """Makes what it is asked for, but learns from labels that it draws itself."""

    def round(self, draw, step):
        batch = draw()
        return super().round(lambda: replace(batch, label=batch.label[torch.randperm(len(batch))]), step)


@pytest.mark.parametrize(
    ("game", "law", "sentence"),
    [
        (Mute, "is_documented", "The docstring of Mute does not say 'Departures:'"),
        (Faceless, "has_a_face", "has none of the faces"),
        (Rude, "refuses_politely", r"meets data of shape \(5,\) with IndexError"),
        (Idle, "one_player_each", r"No player of Idle .* moves generator\.0\.weight"),
        (Shared, "one_player_each", r"'generator' and 'discriminator' of Shared .* both move generator\.0"),
        (Wasteful, "moves_its_own", r"The loss of 'discriminator' .* also sends gradients to generator\.0\.weight"),
        (
            Meddling,
            "moves_its_own",
            r"An update of 'generator' .* was followed by a change of discriminator\.0\.weight",
        ),
        (Numb, "moves_its_own", r"never moves generator\.0\.weight, generator\.0\.bias, generator\.2\.weight"),
        (Poisoned, "moves_its_own", "The term 'discriminator/real' of Poisoned .* is inf"),
        (Unreduced, "moves_its_own", "The term 'discriminator/real' of Unreduced .* is not a scalar"),
        (Forgetful, "resumes_exactly", "resumed after round 1 of 3, plays another round 2"),
        (Loud, "generates_examples", r"is of torch\.float64, not torch\.float32"),
        (Fickle, "generates_examples", "generates something else for the same seed"),
        (Deaf, "generates_by_class", "makes the same of one z under two labels"),
        (Stubborn, "generates_by_class", "not told a class, always makes the same one"),
        (Mixing, "generates_by_class", "makes something else of the same z and label alone"),
        (Absent, "learns_to_generate", "makes means that are"),
        (Gregarious, "scores_each_alone", "scores the same example differently alone"),
        (Blind, "learns_to_score", "AUROC of 0"),
        (Lazy, "learns_to_generate", "sees 0.5 everywhere and makes means that are"),
    ],
)
def test_a_law_that_is_broken(game, law, sentence, monkeypatch):
    monkeypatch.setattr("sparring.testing.conduct.PATIENCE", 50)
    with pytest.raises(AssertionError, match=sentence):
        dict(checks())[law]((game, OwnRecipe()))


def test_a_recipe_without_a_source():
    with pytest.raises(AssertionError, match="The 'slope' of Placeless does not say where it comes from"):
        dict(checks())["recipe_is_plain"]((Own, Placeless()))
