"""What a person sees while a model trains: a progress bar, and TensorBoard events where asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from sparring.errors import UserError

if TYPE_CHECKING:
    from sparring.engine.journal import Line
    from sparring.preparation import Setup

Watcher = Callable[["Line"], None]


@contextmanager
def watching(setup: Setup, folder: Path, progress: bool) -> Iterator[tuple[Watcher, ...]]:
    """Give the watchers of a training's journal, and close them at its end."""
    with ExitStack() as stack:
        watchers: list[Watcher] = []
        if progress:
            total = sum(phase.rounds for phase in setup.game.phases())
            watchers.append(stack.enter_context(bar(setup.job.model, total)))
        if setup.job.tensorboard:
            watchers.append(stack.enter_context(events(folder)))
        yield tuple(watchers)


class Display(Progress):
    """A progress bar with the loss terms below it, where a narrow terminal has room for them."""

    terms = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        yield Text.from_markup(self.terms)


@contextmanager
def bar(title: str, total: int) -> Iterator[Watcher]:
    """Show rounds, time left, images per second and the loss terms on standard error."""
    columns = (
        TextColumn("[bold]{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[speed]}"),
    )  # fmt: skip
    with Display(*columns, console=Console(stderr=True)) as display:
        task = display.add_task(title, total=total, speed="")

        def watch(line: Line) -> None:
            display.terms = " ".join(f"{name}=[cyan]{value:.3g}[/]" for name, value in line.items() if "/" in name)
            display.update(task, completed=line["round"], speed=f"{line['images_per_second']:.0f}/s")

        yield watch


def need_tensorboard() -> None:
    """Raise a UserError where TensorBoard is not installed."""
    if find_spec("tensorboard") is None:
        raise UserError("--tensorboard needs a package that is missing: pip install 'sparring[tensorboard]'.")


@contextmanager
def events(folder: Path) -> Iterator[Watcher]:
    """Write the loss terms and the norms of gradients as TensorBoard events."""
    need_tensorboard()
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder / "events"))

    def watch(line: Line) -> None:
        norms = {f"gradient_norm/{player}": norm for player, norm in line.get("gradient_norm", {}).items()}
        for name, value in (line | norms).items():
            if isinstance(value, (int, float)) and name != "round":
                writer.add_scalar(name, value, line["round"])

    try:
        yield watch
    finally:
        writer.close()
