"""What the loop does with a move: gradients, steps, schedules, seeds, phases, journal, judge."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import pytest
import torch
from lightning_fabric import Fabric
from torch import nn
from toy import SPEC, Regression, Together, Toy, ToyRecipe, end, make

from sparring.engine.average import Average
from sparring.engine.journal import Journal, read_journal
from sparring.errors import UserError
from sparring.losses import is_fake, is_real, squared_error
from sparring.protocol import Update, frozen
from sparring.testing.rig import same


def test_a_round_is_what_one_would_write_by_hand():
    engine = make(recipe=ToyRecipe(rounds=3))
    engine.phases = engine.phases[:1]
    engine.play()
    other = make(recipe=ToyRecipe(rounds=3))
    game, draw = other.game.train(), other.draw
    critic = torch.optim.SGD(game.critic.parameters(), 0.1, momentum=0.5)
    maker = torch.optim.Adam(game.maker.parameters(), 0.01)
    with torch.random.fork_rng([]):
        for step in range(3):
            other.phase, other.step = 0, step
            other._seed(0)
            for optimizer, rate in ((critic, 0.1), (maker, 0.01)):
                optimizer.param_groups[0]["lr"] = rate * 0.9**step
            x = draw().x
            y = game.generate(8)
            critic.zero_grad()
            (is_real(game.critic(x)) + is_fake(game.critic(y.detach()))).backward()
            critic.step()
            maker.zero_grad()
            is_real(game.critic(y)).backward()
            maker.step()
    assert same(engine.game.state_dict(), game.state_dict())


class Still(Toy):
    """Without dropout in the critic, so that a batch and its parts see the same."""

    def __init__(self, spec=SPEC, recipe=None):
        super().__init__(spec, recipe)
        self.critic[2].p = 0.0


class InParts(Still):
    """The critic's batch in two parts: its first update is held."""

    def round(self, draw, step):
        x = draw().x
        y = self.generate(len(x))
        a, b = x.chunk(2)
        yield Update("critic", real=is_real(self.critic(a)) / 2).held()
        yield Update("critic", real=is_real(self.critic(b)) / 2, fake=is_fake(self.critic(y.detach())))
        with frozen(self.critic):
            fooled = is_real(self.critic(y))
        yield Update("maker", fooled=fooled)


def test_held_gradients_add_up_and_so_do_their_terms():
    engines = [make(kind, recipe=ToyRecipe(rounds=1)) for kind in (Still, InParts)]
    for engine in engines:
        engine.phases = engine.phases[:1]
        engine.play()
    whole, parts = engines
    for name, weight in whole.game.critic.state_dict().items():
        torch.testing.assert_close(parts.game.critic.state_dict()[name], weight, msg=name)
    line, other = (engine.journal.lines[0] for engine in engines)
    for name in ("critic/real", "critic/fake", "maker/fooled"):
        assert other[name] == pytest.approx(line[name], abs=2e-6)
    assert other["gradient_norm"]["critic"] == pytest.approx(line["gradient_norm"]["critic"], rel=1e-3)


def test_simultaneous_updates_take_every_gradient_before_any_step():
    engine = make(Together, recipe=ToyRecipe(rounds=1))
    engine.phases = engine.phases[:1]
    engine.play()
    other = make(Together, recipe=ToyRecipe(rounds=1))
    game, x = other.game.train(), other.draw().x
    with torch.random.fork_rng([]):
        other._seed(0)
        y = game.generate(8)
        logit = game.critic(y)
        blame, fooled = is_real(game.critic(x)) + is_fake(logit), is_real(logit)
    mine, yours = list(game.critic.parameters()), list(game.maker.parameters())
    slopes = torch.autograd.grad(blame, mine, retain_graph=True), torch.autograd.grad(fooled, yours)
    players = game.players()
    for parameters, gradients in zip((mine, yours), slopes, strict=True):
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
    for player in players.values():
        player.step()
    assert same(engine.game.state_dict(), game.state_dict())
    assert torch.equal(engine.game.answers[0], torch.stack([blame, fooled]).detach())


def test_no_gradient_is_left_or_wasted(monkeypatch):
    engine = make()
    seen = []

    move = engine._move

    def watched(updates):
        answer = move(updates)
        seen.append([p.grad for p in engine.game.parameters() if p.grad is not None])
        return answer

    monkeypatch.setattr(engine, "_move", watched)
    engine.play()
    assert len(seen) == 2 * 6 + 4
    assert not any(seen)


def test_only_the_player_is_differentiated():
    engine = make()
    touched = Counter()
    for name, network in engine.game.named_children():
        for parameter in network.parameters():
            parameter.register_hook(lambda gradient, name=name: touched.update([name]))
    engine.players = engine.phases[0].players()
    move = next(engine.game.round(engine.draw, 0))
    engine._move((move,))
    assert set(touched) == {"critic"}


def test_a_graph_is_kept_only_for_updates_at_once(monkeypatch):
    """Section 16.21: no player's turn keeps its graph for another turn."""
    engine = make()
    kept = []
    backward = engine.fabric.backward

    def watched(*args, **settings):
        kept.append(settings["retain_graph"])
        backward(*args, **settings)

    monkeypatch.setattr(engine.fabric, "backward", watched)
    engine.play()
    assert kept
    assert not any(kept)


def test_a_graph_that_went_stale_is_noticed():
    """Section 16.21: a loss through the old discriminator, after it has moved, is an error, not a number."""

    class Stale(Toy):
        def round(self, draw, step):
            x = draw().x
            y = self.generate(len(x))
            logit = self.critic(y)
            yield Update("critic", real=is_real(self.critic(x)), fake=is_fake(self.critic(y.detach())))
            yield Update("maker", fooled=is_real(logit))

    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        make(Stale).play()


def test_schedules():
    engine = make()
    seen = []
    keep = engine._keep

    def watched(noting):
        groups = {name: player.param_groups[0] for name, player in engine.players.items()}
        seen.append({name: (group["lr"], group.get("momentum")) for name, group in groups.items()})
        keep(noting)

    engine._keep = watched
    engine.play()
    for step, found in enumerate(seen[:6]):
        assert found["critic"] == pytest.approx((0.1 * 0.9**step, 0.5))
        assert found["maker"][0] == pytest.approx(0.01 * 0.9**step)
    for step, found in enumerate(seen[6:]):
        assert found["judge"] == pytest.approx((0.1, 0.5 + 0.1 * step))


def test_answers_are_mean_losses():
    engine = make(Regression)
    engine.play()
    assert engine.game.answers == pytest.approx([line["net/error"] for line in engine.journal.lines], abs=1e-6)


def test_everything_follows_from_the_seed_and_nothing_else():
    state = torch.get_rng_state()
    first = end(make(seed=0))
    assert torch.equal(torch.get_rng_state(), state), "the caller's random state was touched"
    torch.rand(7)
    second = end(make(seed=0))
    assert same(first, second)
    other = make()
    other.seed = 1
    assert not same(first, end(other))


def test_journal_lines(tmp_path):
    seen = []
    journal = Journal(tmp_path / "journal.jsonl", (seen.append,))
    make(journal=journal).play()
    assert seen == journal.lines == read_journal(tmp_path / "journal.jsonl")
    assert [line["round"] for line in seen] == list(range(1, 11))
    assert [line["phase"] for line in seen] == ["one"] * 6 + ["two"] * 4
    assert all({"critic/real", "critic/fake", "maker/fooled"} <= line.keys() for line in seen[:6])
    assert all({"judge/real", "judge/fake"} <= line.keys() for line in seen[6:])
    assert all(math.isfinite(value) for line in seen for key, value in line.items() if "/" in key)


def test_long_phases_note_means():
    engine = make(Regression, recipe=ToyRecipe(rounds=400))
    engine.play()
    lines = engine.journal.lines
    assert len(lines) == 200
    for k, line in enumerate(lines):
        assert line["net/error"] == pytest.approx(sum(engine.game.answers[2 * k : 2 * k + 2]) / 2, abs=1e-5)


def test_norms_of_gradients_are_noted():
    engine, other = make(Regression, recipe=ToyRecipe(rounds=3)), make(Regression)
    engine.play()
    sgd, norms = torch.optim.SGD(other.game.parameters(), 0.1, momentum=0.9), []
    for _ in range(3):
        x = other.draw().x
        sgd.zero_grad()
        squared_error(other.game.net(x)[:, 0], x.sum(1)).backward()
        norms.append(torch.cat([p.grad.flatten() for p in other.game.parameters()]).norm().item())
        sgd.step()
    found = [line["gradient_norm"]["net"] for line in engine.journal.lines]
    assert found == pytest.approx(norms, rel=1e-3)


@pytest.mark.parametrize("kind", [Toy, Together])
def test_norms_are_of_the_round_of_the_line(kind):
    whole = make(kind, recipe=ToyRecipe(rounds=400))
    whole.play()
    short = make(kind, recipe=ToyRecipe(rounds=200))
    short.phases[0] = replace(short.phases[0], rounds=200)
    short.play()
    norms = {line["round"]: line["gradient_norm"] for line in short.journal.lines if line["phase"] == "one"}
    assert list(norms) == list(range(1, 201))
    for line in whole.journal.lines[:100]:
        assert line["gradient_norm"] == norms[line["round"]], "a line of two rounds has the norms of the second"


def test_who_rests_in_the_round_of_the_line_has_a_norm_too():
    class Resting(Toy):
        def round(self, draw, step):
            for move in super().round(draw, step):
                if move.player == "maker" or step % 3 == 0:
                    yield move

    engine = make(Resting, recipe=ToyRecipe(rounds=400))
    engine.play()
    for line in engine.journal.lines:
        assert set(line["gradient_norm"]) == {name.partition("/")[0] for name in line if "/" in name}
    assert {len(line["gradient_norm"]) for line in engine.journal.lines[:200]} == {1, 2}


def test_judge_looks_ten_times_in_eval_mode():
    looks = []

    def judge(game, phase, done):
        torch.manual_seed(0)  # must not reach the training
        torch.rand(1)
        looks.append((phase, done, game.training, torch.is_grad_enabled()))
        return {}

    expected = end(make(recipe=ToyRecipe(rounds=40, ema=0.9)))
    assert same(end(make(recipe=ToyRecipe(rounds=40, ema=0.9), judge=judge)), expected)
    assert [done for phase, done, *_ in looks if phase == "one"] == list(range(4, 41, 4))
    assert not any(training or grad for *_, training, grad in looks)


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_keep_ends_a_phase_with_its_best_weights(ema):
    weights = {}

    def judge(game, phase, done):
        weights[done] = {key: tensor.clone() for key, tensor in game.state_dict().items()}
        return {"auroc": {7: 0.5, 8: 0.9, 9: 0.9, 10: 0.1}.get(done, 1.0)}

    engine = make(recipe=ToyRecipe(keep=True, ema=ema), judge=judge)
    engine.play()
    assert same(engine.game.state_dict(), weights[8]), "the first of the best"
    with engine.average.applied():
        assert same(engine.game.state_dict(), weights[8]), "also where the average is used"


def test_keep_needs_a_judge():
    with pytest.raises(UserError, match="Phase 'two' keeps the best auroc: it needs validation data"):
        make(recipe=ToyRecipe(keep=True)).play()
    with pytest.raises(UserError, match="needs validation data"):
        make(recipe=ToyRecipe(keep=True), judge=lambda game, phase, done: {}).play()  # nothing finite was made


def test_average_is_the_recursion_it_says():
    torch.manual_seed(0)
    game = nn.Module()
    game.net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = Average(game, ("net",), 0.7)
    shadow = game.net[0].weight.detach().clone()
    for t in range(1, 12):
        with torch.no_grad():
            game.net[0].weight.normal_()
            game.net[1].running_mean.normal_()
        average.follow(t)
        decay = min(0.7, (1 + t) / (10 + t))
        shadow = decay * shadow + (1 - decay) * game.net[0].weight.detach()
        torch.testing.assert_close(average.shadow["net.0.weight"], shadow)
        assert torch.equal(average.shadow["net.1.running_mean"], game.net[1].running_mean), "buffers are copied"
    live = game.net[0].weight.detach().clone()
    with average.applied():
        torch.testing.assert_close(game.net[0].weight.detach(), shadow)
    assert torch.equal(game.net[0].weight, live)
    average.settle()
    torch.testing.assert_close(game.net[0].weight.detach(), shadow)


def test_average_switched_off():
    engine = make(recipe=ToyRecipe(ema=0.0))
    engine.play()
    assert engine.average.shadow == {}


def test_bf16():
    fabric = Fabric(accelerator="cpu", devices=1, precision="bf16-mixed")
    engine, exact = make(fabric=fabric), make()
    seen = []
    engine.game.critic[0].register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    engine.play()
    exact.play()
    assert set(seen) == {torch.bfloat16}
    assert all(tensor.dtype != torch.bfloat16 for tensor in engine.game.state_dict().values())
    for found, expected in zip(engine.game.parameters(), exact.game.parameters(), strict=True):
        torch.testing.assert_close(found, expected, atol=0.1, rtol=0.1)


def test_frozen_lets_gradients_through_and_takes_none():
    net, x = nn.Linear(3, 1), torch.ones(2, 3, requires_grad=True)
    net.bias.requires_grad_(False)  # stays as it was
    with frozen(net):
        assert not net.weight.requires_grad
        loss = net(x).sum()
    loss.backward()
    assert net.weight.grad is None
    assert x.grad is not None
    assert net.weight.requires_grad
    assert not net.bias.requires_grad


def test_frozen_thaws_after_an_error():
    net = nn.Linear(3, 1)
    with pytest.raises(ZeroDivisionError), frozen(net):
        raise ZeroDivisionError
    assert net.weight.requires_grad


def test_rounds_follow_from_epochs():
    recipe = ToyRecipe(rounds=None, epochs=2.5)
    game = Toy(SPEC, recipe)
    assert game.rounds == 20, "64 examples in batches of 8, two and a half times"
    game.draws = 2
    assert game.rounds == 10
    assert Toy(type(SPEC)((5,), 3), recipe).rounds == 2
