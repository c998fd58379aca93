"""Train: the place where a model, its data, the engine and the judge meet."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn
from torch.multiprocessing import ProcessRaisedException

from sparring import models, pictures
from sparring.calibrating import calibrate
from sparring.closed_set import head_for
from sparring.data import Source, Stream, settled
from sparring.encoders import SEEN
from sparring.engine import LOOKS, Engine, Interrupted, Judge
from sparring.engine.journal import Journal, Line
from sparring.engine.ranks import part
from sparring.errors import NonFinite, UserError, enough_memory
from sparring.files import UMASK, write_text, writing
from sparring.job import Job, read_run, write_run
from sparring.judging import CLOSENESS, Examiner, Painter, panel
from sparring.opening import PATHS, keeps, placed
from sparring.preparation import Setup, ask, describe, reopened, set_up
from sparring.protocol import Classifies, Game, Phase, Scores
from sparring.run import HEAD, Run
from sparring.selection import Selector
from sparring.turns import rounds_by_turns
from sparring.weights import save_weights

Observe = Callable[[Setup], Judge]  # makes a judge that looks every epoch, and at least ten times a phase


def start(fabric: Fabric, setup: Setup, folder: Path | None, watchers: tuple[Callable[[Line], None], ...] = (),
          resume: bool = False, observe: Observe | None = None) -> None:  # fmt: skip
    """Play the game on this process, and write the weights it ends with."""
    job, game = setup.job, setup.game
    if fabric.world_size > 1 and fabric.device.type == "cpu":
        torch.set_num_threads(max(1, torch.get_num_threads() // fabric.world_size))
    game.to(fabric.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if job.compile:
        for network in game.children():
            network.compile()
    stream = Stream(
        setup.fit, setup.recipe.batch, seed=job.seed, rank=fabric.global_rank, world=fabric.world_size,
        device=fabric.device, beside=setup.beside, told=setup.words.told if setup.words else None,
        mismatched="mismatch" in game.needed(setup.recipe),
    )  # fmt: skip
    first = fabric.global_rank == 0
    journal = Journal(folder / "journal.jsonl" if folder and first else None, watchers if first else ())
    judges: list[Judge] = (
        [Painter(folder, setup.fit, setup.beside.get("partner"))] if folder and first and setup.fit.is_image else []
    )
    judges += [Examiner(setup)] if job.judge_every else []
    judges += [observe(setup)] if observe else []
    judges += [Selector(setup)] if setup.select is not None else []
    path = folder / "checkpoint" if folder else None
    every = game.period if setup.select is not None else job.judge_every
    look_every = partial(epoch_of, game) if observe else every
    engine = Engine(game, stream, fabric, job.seed, journal, path, panel(judges), job.checkpoint_seconds, look_every)
    if setup.select is None:
        engine.phases = [replace(phase, keep=None) for phase in engine.phases]  # there is nothing to choose by
    if job.keep_best:
        engine.phases[-1] = replace(engine.phases[-1], keep=CLOSENESS)
    if resume and path is not None and path.exists():
        engine.resume()
    else:
        journal.rewind(0)
    engine.play()
    if folder and first:
        with engine.average.applied():
            save_weights(game, folder / "model.safetensors")
    elif not folder:
        engine.average.settle()


def epoch_of(game: Game, phase: Phase) -> int:
    """Rounds in an epoch of this phase, or a tenth of the phase where that is less."""
    return min(game.rounds_in(1, phase), max(1, phase.rounds // LOOKS))


def make_fabric(job: Job) -> Fabric:
    """The device, precision and processes that a job asks for.

    Raises:
        UserError: For a device that is not there.
    """
    device = job.device if job.device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("There is no CUDA device that PyTorch can use on this machine: use --device cpu.")
    there = torch.cuda.device_count() if device == "cuda" else len(cores())
    if job.devices > there:
        what = "CUDA device(s)" if device == "cuda" else "processor core(s)"
        raise UserError(f"--devices {job.devices} asks for more than the {there} {what} here: use --devices {there}.")
    if job.recipe["batch"] % job.devices:
        raise UserError(
            f"A batch of {job.recipe['batch']} cannot be shared by {job.devices} processes: change --batch."
        )
    precision: Any = "bf16-mixed" if job.precision == "bf16" else "32-true"
    strategy = "ddp_spawn" if job.devices > 1 else "auto"
    return Fabric(accelerator=device, devices=job.devices, strategy=strategy, precision=precision)


def check_batch(setup: Setup) -> None:
    """Raise a UserError where batch norm would see one example at a time, of which there is no deviation."""
    normed = any(isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)) for module in setup.game.modules())
    if normed and setup.recipe.batch < 2 * setup.job.devices:
        raise UserError(
            f"{setup.job.model} normalises over the examples of a minibatch and needs 2 of them a process; got "
            f"{setup.recipe.batch}: use --batch {2 * setup.job.devices} or more."
        )


def cores() -> Sequence[int]:
    """The processor cores this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)


def worker(fabric: Fabric, folder: str, resume: bool, progress: bool, failures: Any) -> None:
    """Train a run on this process, knowing nothing but its folder, and tell how it failed."""
    try:
        job, _ = read_run(Path(folder))
        _launch_one(fabric, set_up(job, folder=Path(folder)), Path(folder), resume, progress)
    except Interrupted as error:  # every process stops in the same round
        failures.put(error)
    except (UserError, NonFinite) as error:
        failures.put(error)
        raise
    part(fabric)


def _launch_many(fabric: Fabric, folder: Path, resume: bool, progress: bool) -> None:
    """Train a run on several processes, and fail as they do."""
    failures = multiprocessing.get_context("spawn").SimpleQueue()
    launch: Callable[..., Any] = fabric.launch  # its annotation leaves the arguments out
    others = set(multiprocessing.active_children())
    try:
        launch(worker, str(folder), resume, progress, failures)
    except ProcessRaisedException as error:
        if failures.empty():
            raise
        raise failures.get() from error
    except KeyboardInterrupt:
        for child in set(multiprocessing.active_children()) - others:
            child.terminate()  # politely: it saves and ends
            child.join()
        if failures.empty():
            raise
    if not failures.empty():
        raise failures.get()


def _launch_one(
    fabric: Fabric, setup: Setup, folder: Path, resume: bool, progress: bool, observe: Observe | None = None
) -> None:
    from sparring.watch import watching

    with enough_memory(), watching(setup, folder, progress and fabric.global_rank == 0) as watchers:
        start(fabric, setup, folder, watchers, resume, observe)


def _launch(fabric: Fabric, setup: Setup, folder: Path, resume: bool, progress: bool, observe: Observe | None) -> None:
    """Train a run on as many processes as its job asks for."""
    try:
        if setup.job.devices > 1:
            _launch_many(fabric, folder, resume, progress)
        else:
            fabric.launch()
            _launch_one(fabric, setup, folder, resume, progress, observe)
    except KeyboardInterrupt as error:
        stopped = str(error) or "stopped before the first checkpoint"
        raise Interrupted(f"{stopped}: go on with 'sparring train --resume --out {folder}'.") from None


def new_folder(job: Job, out: str | Path | None, force: bool) -> Path:
    """Choose the run's folder.

    Raises:
        UserError: Where another run stands there and `force` is not given, or what the job reads lies in it.
    """
    if out is None:
        stem = Path("runs") / f"{job.model}-{Path(job.data.rstrip('/')).stem or 'data'}"
        number = 1
        out = stem
        while Path(out).exists():
            number += 1
            out = f"{stem}-{number}"
    folder = Path(out)
    with writing(folder):
        is_run = (folder / "run.yaml").exists()
        taken = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    if taken and not (force and is_run):
        remedy = "add --force to replace it, or --resume to go on" if is_run else "choose another"
        raise UserError(f"The output '{folder}' is already there: {remedy}.")
    inside = [path for name in PATHS if (path := getattr(job, name)) and Path(path).is_relative_to(folder.resolve())]
    if taken and inside:
        raise UserError(f"'{inside[0]}' lies in '{folder}', and would be replaced with it: choose another --out.")
    return folder


def found_run(folder: Path, job: Job, setup: Setup, force: bool) -> None:
    """Put a folder with run.yaml in place; a run that it replaces stays until then."""

    def write(place: Path) -> None:
        if setup.region is not None:  # a copy, so that the run judges without the file
            pictures.save(setup.region.picture, place / "roi.png")
        if setup.words is not None:
            setup.words.save(place)
        write_run(place, job, describe(setup))

    if folder.is_dir() and not any(folder.iterdir()):
        return write(folder)
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        write(fresh)
        with writing(folder):
            fresh.chmod(0o777 & ~UMASK)
            if force and folder.exists():
                shutil.rmtree(folder.resolve())
            fresh.replace(folder.resolve())
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def train(
    model: str | None = None,
    data: str | Path | None = None,
    *,
    out: str | Path | None = None,
    recipe: dict[str, Any] | None = None,
    resume: bool = False,
    force: bool = False,
    progress: bool = False,
    observe: Observe | None = None,
    **settings: Any,
) -> Run:
    """Train a model on data and leave a run behind.

    Args:
        model: A name of `sparring models`.
        data: A folder, a file or a name, see `sparring.data`; None is "digits".
        out: The run's folder; None makes one under runs/.
        recipe: Hyper-parameters that differ from the variant's, by name.
        resume: Go on with the run in `out`, exactly as if it had never stopped.
        force: Replace the run in `out`.
        progress: Show a progress bar on standard error.
        observe: Makes a judge of the opened job that looks every epoch, and at least ten times a phase; what it
            returns stands in the journal. On one process only.
        settings: Fields of `sparring.job.Job`: variant, size, normal, seed, device, devices, precision, ...

    Raises:
        UserError: One sentence on what cannot be used; nothing is written by then.
    """
    if resume:
        folder = Path(out or "")
        if out is None:
            raise UserError("--resume needs the run to go on with: name it with --out RUN.")
        job, facts = read_run(folder)
        if model is not None and model != job.model:
            raise UserError(f"'{folder}' is a run of {job.model}, not of {model}: name that, or another --out.")
        if data is not None and settled(data) != job.data:
            raise UserError(f"'{folder}' is a run on {job.data}, not on {data}: name that, or another --out.")
        fabric = make_fabric(job)
        setup = reopened(folder, job, facts)
    else:
        if model is None:
            raise UserError("Say which model to train: one of " + ", ".join(models.names()) + ".")
        job = ask(model, "digits" if data is None else data, recipe or {}, **settings)
        fabric = make_fabric(job)
        if job.tensorboard:
            from sparring.watch import need_tensorboard

            need_tensorboard()
        setup = timed(set_up(job, say=partial(print, file=sys.stderr) if progress else lambda text: None))
        check_batch(setup)
        job = placed(setup.job)
        folder = new_folder(job, out, force)
        found_run(folder, job, setup, force)
    _launch(fabric, setup, folder, resume, progress, observe)
    return finish(Run(folder), setup)


def timed(setup: Setup) -> Setup:
    """The same training, as long as suits known classes left out in turn, where the job asks for that."""
    job = setup.job
    if job.select != "classes" or setup.select is not None or not keeps(setup.game):
        return setup
    return set_up(job.model_copy(update={"recipe": job.recipe | {"rounds": rounds_by_turns(setup)}}))


def finish(run: Run, setup: Setup) -> Run:
    """Calibrate a detector on the normal examples that were held out; a classifier notes what it has seen.

    A model of known classes gets a linear one that names them where its features bring no logits that do.
    """
    fit = setup.fit
    if isinstance(setup.game, Classifies):
        seen = [settled(setup.job.data), setup.job.split or "train", *fit.names]
        write_text(run.folder / SEEN, "\n".join(seen))
    if setup.held is None or not isinstance(setup.game, Scores):
        return run
    if setup.recognised and fit.labels is not None and isinstance(setup.held, Source) and not fit.is_image:
        head, notes = head_for(fit, setup.held, setup.recognised)
        if head is not None:
            head.save(run.folder / HEAD)
            run = run.noted(notes)
    calibrate(run, setup.held)
    return run
