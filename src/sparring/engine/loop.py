"""The loop: ask the game for its next move, carry it out, note it, keep it."""

from __future__ import annotations

import itertools
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.optim import Optimizer

from sparring.engine import checkpoint
from sparring.engine.average import Average
from sparring.engine.journal import Journal
from sparring.engine.ranks import anywhere, average, average_buffers
from sparring.errors import NonFinite, UserError
from sparring.protocol import Game, Phase, Update
from sparring.randomness import number_of

Judge = Callable[[Game, str, int], Mapping[str, float]]  # (game in eval mode, phase, rounds done) to named scores

LINES = 200  # journal lines a phase
LOOKS = 10  # calls of the judge a phase
BEGINNING = 2**31  # stands for a process in the seed of what all of them draw alike: the players of a phase


class Interrupted(KeyboardInterrupt):
    """Training was stopped from outside, and everything is saved."""


@dataclass
class Engine:
    """Play a game to its end.

    All randomness of round k of a phase follows from (seed, phase, k, process), and the data from the number
    of minibatches drawn; so weights, optimizers and two counters are everything, and a training that is
    resumed ends with the weights of one that was never disturbed.

    Args:
        game: The networks and their rules, on the device.
        draw: Gives the next minibatch of this process; `position` counts them and can be set.
        fabric: Launched; says device, precision and processes.
        seed: See above.
        journal: Where loss terms are noted.
        path: The checkpoint file; None keeps none.
        judge: Looks at the game in eval mode. What it returns is noted, and must be the same on every process.
        seconds: Between checkpoints.
        look_every: Rounds between looks of the judge, or what tells them of a phase; None looks ten times a phase.
    """

    game: Game
    draw: Any
    fabric: Fabric
    seed: int = 0
    journal: Journal = field(default_factory=Journal)
    path: Path | None = None
    judge: Judge | None = None
    seconds: float = 60.0
    look_every: int | Callable[[Phase], int] | None = None

    def __post_init__(self) -> None:
        recipe = self.game.recipe
        self.phases = self.game.phases()
        self.average = Average(self.game, self.game.averages, recipe.ema)
        self.phase, self.step = 0, 0  # rounds done in this phase
        self.players: dict[str, Optimizer] = {}
        self.best: dict[str, Any] = {}
        self.measuring = False  # whether a journal line may follow this round
        self.stop = False
        self.saved = time.perf_counter()

    @property
    def done(self) -> int:
        """Rounds done in all phases."""
        return sum(phase.rounds for phase in self.phases[: self.phase]) + self.step

    @property
    def _cuda(self) -> list[torch.device]:
        return [self.fabric.device] if self.fabric.device.type == "cuda" else []

    @property
    def total(self) -> int:
        return sum(phase.rounds for phase in self.phases)

    def play(self) -> None:
        """Train until the last phase ends.

        Raises:
            NonFinite: Where a loss term becomes NaN or infinite; the last checkpoint stays.
            Interrupted: After Ctrl-C or a polite kill, once everything is saved.
        """
        with torch.random.fork_rng(self._cuda), self._listening():
            while self.phase < len(self.phases):
                phase = self.phases[self.phase]
                if not self.players:
                    self._seed(BEGINNING)
                    self.players = phase.players()
                self._play(phase)
                self._end(phase)
            self.save()

    def _play(self, phase: Phase) -> None:
        note_every = max(1, math.ceil(phase.rounds / LINES))
        look_every = self.look_every(phase) if callable(self.look_every) else self.look_every
        look_every = look_every or max(1, math.ceil(phase.rounds / LOOKS))
        self.game.train()
        noted, waited = self.draw.position, self.draw.waited
        while self.step < phase.rounds:
            number = self.step + 1
            due = number == phase.rounds or number % note_every == 0
            looking = self.judge is not None and (number == phase.rounds or number % look_every == 0)
            self.measuring = due or looking
            self._seed(self.fabric.global_rank)
            self._schedule(phase)
            self._round(phase)
            self.step = number
            average_buffers(self.game, self.fabric)
            self.average.follow(self.done)
            scores = self._look(phase) if looking else {}
            noting = due or bool(scores)
            if noting:
                images = (self.draw.position - noted) * self.game.recipe.batch
                wait = round(self.draw.waited - waited, 4)
                line = self.journal.note(phase.name, self.done, images, waited=wait, **scores)
                self._check(line)
                noted, waited = self.draw.position, self.draw.waited
            self._keep(noting)

    def _round(self, phase: Phase) -> None:
        """One pass through the game's algorithm: a handshake of Updates and losses."""
        game = phase.play(self.draw, self.step)
        answer: Tensor | None = None
        while True:
            try:
                with self.fabric.autocast():
                    move = game.send(answer)  # type: ignore[arg-type]  # a generator starts with None
            except StopIteration:
                return
            updates = move if isinstance(move, tuple) else (move,)
            try:
                losses = self._move(updates)
            except NonFinite as error:
                game.throw(error.with_traceback(None))  # shows the line of the paper's loss, not ours
                raise
            answer = losses if isinstance(move, tuple) else losses[0]

    def _move(self, updates: tuple[Update, ...]) -> Tensor:
        """Carry updates out: every gradient first, then every step; return the mean losses over processes."""
        losses = [update.loss for update in updates]
        answer = torch.stack([loss.detach() for loss in losses])
        for update in updates:
            self.journal.add(update.player, update.terms, whole=not update.holds)
        gradients: dict[str, list[Tensor]] = {}
        for update, loss in zip(updates, losses, strict=True):
            parameters = [p for group in self.players[update.player].param_groups for p in group["params"]]
            # Simultaneous updates may share a graph; no weight changes before the last of them is through.
            self.fabric.backward(loss, inputs=parameters, retain_graph=update is not updates[-1])
            if not update.holds:
                gradients[update.player] = [p.grad for p in parameters if p.grad is not None]
        average([*itertools.chain(*gradients.values()), answer], self.fabric)
        # On a CPU this look costs no wait. All processes see the same mean, so none is left waiting for another.
        if self.fabric.device.type == "cpu" and not bool(torch.isfinite(answer).all()):
            self._refuse(updates)
        for player, own in gradients.items():
            if self.measuring or player not in self.journal.norms:  # so that who rests in that round is noted too
                self.journal.measure(player, own)
            self.players[player].step()
            self.players[player].zero_grad(set_to_none=True)
        return answer

    def _refuse(self, updates: tuple[Update, ...]) -> None:
        for update in updates:
            for term, value in update.terms.items():
                if not bool(torch.isfinite(value).all()):
                    self._stop_at(f"loss term '{update.player}/{term}'", float(value.detach()), self.done + 1)
        self._stop_at(f"loss of '{updates[0].player}' on another process", math.nan, self.done + 1)

    def _check(self, line: Mapping[str, Any]) -> None:
        """Look for NaN where looking every round would make the device wait."""
        for name, value in line.items():
            if "/" in name and not math.isfinite(value):
                self._stop_at(f"loss term '{name}'", value, self.done)

    def _stop_at(self, what: str, value: float, number: int) -> None:
        kept = "the last good checkpoint stays" if self.path is not None and self.path.exists() else "nothing was saved"
        raise NonFinite(
            f"The {what} became {value} in round {number} of {self.total}: {kept}; "
            "lower the learning rate with --set rate=..., or look at the data."
        )

    def _seed(self, process: int) -> None:
        number = number_of(self.seed, self.phase, self.step, process)
        torch.default_generator.manual_seed(number)  # torch.manual_seed spends 2 ms on devices that are not there
        if self.fabric.device.type == "cuda":
            torch.cuda.manual_seed(number)

    def _schedule(self, phase: Phase) -> None:
        rate, momentum = phase.rate(self.step), phase.momentum
        for optimizer in self.players.values():
            for group in optimizer.param_groups:
                group.setdefault("initial_lr", group["lr"])
                group["lr"] = group["initial_lr"] * rate
                if momentum is not None:
                    group["momentum"] = momentum(self.step)

    def _look(self, phase: Phase) -> Mapping[str, float]:
        """Let the judge see the game, off the journal's clock, and remember the best weights of a phase that keeps."""
        assert self.judge is not None
        began = time.perf_counter()
        self.game.eval()
        with torch.random.fork_rng(self._cuda), torch.no_grad(), self.average.applied():
            scores = self.judge(self.game, phase.name, self.done)
            with suppress(KeyError):  # no score is given where what was made is not finite
                if phase.keep is not None and scores[phase.keep] > self.best.get("score", -math.inf):
                    weights = {key: tensor.clone() for key, tensor in self.game.state_dict().items()}
                    self.best = {"score": float(scores[phase.keep]), "round": self.done, "weights": weights}
        self.game.train()
        self.journal.since += time.perf_counter() - began
        return scores

    def _end(self, phase: Phase) -> None:
        if phase.keep is not None:
            if not self.best:
                raise UserError(
                    f"Phase '{phase.name}' keeps the best {phase.keep}: it needs validation data to judge by."
                )
            self.game.load_state_dict(self.best["weights"])
            self.average.load({key: self.best["weights"][key] for key in self.average.shadow})
        self.phase, self.step, self.players, self.best = self.phase + 1, 0, {}, {}

    def _keep(self, noting: bool) -> None:
        """Checkpoint when it is time, and stop when asked to; processes agree on both at journal lines."""
        due = time.perf_counter() - self.saved > self.seconds
        if self.fabric.world_size > 1:
            if not noting:
                return
            due, self.stop = anywhere(due, self.fabric), anywhere(self.stop, self.fabric)
        if due or self.stop:
            self.save()
        if self.stop:
            raise Interrupted(f"stopped at round {self.done} of {self.total}")

    def save(self) -> None:
        """Write the checkpoint, once for all processes; weights that are not finite never replace a good one."""
        self.saved = time.perf_counter()
        if self.path is None:
            return
        self._check({name: float(total) for name, total in self.journal.sums.items()})
        for name, parameter in self.game.named_parameters():
            if not bool(torch.isfinite(parameter).all()):
                self._stop_at(f"weight '{name}'", math.nan, self.done)
        if self.fabric.global_rank != 0:
            return
        content = {
            "model": type(self.game).__name__,
            "phase": self.phase,
            "step": self.step,
            "position": self.draw.position,
            "game": self.game.state_dict(),
            "players": {name: optimizer.state_dict() for name, optimizer in self.players.items()},
            "average": self.average.shadow,
            "best": self.best,
        }
        checkpoint.save(self.path, content)

    def resume(self) -> None:
        """Go on from the checkpoint.

        Raises:
            UserError: For a checkpoint that is missing, damaged or of another model.
        """
        assert self.path is not None
        content = checkpoint.load(self.path, self.fabric.device)
        if content["model"] != type(self.game).__name__:
            raise UserError(
                f"'{self.path}' is a checkpoint of {content['model']}, not of {type(self.game).__name__}: "
                "name its own run."
            )
        self.phase, self.step, self.best = content["phase"], content["step"], content["best"]
        self.draw.position = content["position"]
        try:
            if self.phase < len(self.phases) and content["players"]:
                self.players = self.phases[self.phase].players()  # before the weights: it may set some
                for name, optimizer in self.players.items():
                    optimizer.load_state_dict(content["players"][name])
            self.game.load_state_dict(content["game"])
            self.average.load(content["average"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise UserError(
                f"'{self.path}' is a checkpoint of {content['model']} with another recipe or other data: "
                "name the run that it belongs to."
            ) from error
        self.journal.rewind(self.done)

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """Turn Ctrl-C and a polite kill into a stop after the current round."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def ask(number: int, frame: object) -> None:
            if self.stop:  # asked twice: do not wait for the round
                raise Interrupted(f"stopped within round {self.done + 1}; go on from the last checkpoint")
            self.stop = True

        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
