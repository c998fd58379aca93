"""Charts as PNG, each for a light and for a dark page."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve, roc_curve

from sparring.report.reading import Estimate

SIZE = (4.2, 3.0)  # inches; small, so that the letters are readable on a telephone
DPI = 200
SMOOTH = 150  # points above which a curve is drawn as its running mean over a pale original
MOST = 4000  # points of a curve; more are not seen


@dataclass(frozen=True)
class Theme:
    """Colours of Okabe and Ito, which colour-blind people can tell apart, on a background."""

    back: str
    ink: str
    faint: str
    curves: tuple[str, ...]  # the first is normal, the second anomalous


LIGHT = Theme("#ffffff", "#1c2330", "#c9ced6", ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00"))
DARK = Theme("#1b2029", "#e6e9ee", "#454d5a", ("#56b4e9", "#ff9d4d", "#2cc79a", "#e59ac4", "#f0e442"))
LEGEND: dict[str, Any] = {
    "loc": "lower left",
    "bbox_to_anchor": (0, 1),
    "borderaxespad": 0.2,
    "handlelength": 1,
    "columnspacing": 0.8,
}
Draw = Callable[[Axes, Theme], None]


def render(draw: Draw, theme: Theme) -> bytes:
    """Draw one chart as PNG."""
    style: Any = {
        "font.family": "DejaVu Sans",
        "font.size": 9.5,
        "text.color": theme.ink,
        "axes.labelcolor": theme.ink,
        "axes.edgecolor": theme.faint,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": theme.faint,
        "grid.alpha": 0.45,
        "xtick.color": theme.ink,
        "ytick.color": theme.ink,
        "legend.frameon": False,
        "legend.fontsize": 8.5,
        "figure.facecolor": theme.back,
        "axes.facecolor": theme.back,
    }
    with mpl.rc_context(style):
        figure = Figure(figsize=SIZE, layout="constrained")
        draw(figure.add_subplot(), theme)
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None})
    return file.getvalue()


def players(journal: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Names of the loss terms under each player, in the order in which they first appear."""
    found: dict[str, dict[str, None]] = {}
    for line in journal:
        for key in line:
            player, slash, term = key.partition("/")
            if slash:
                found.setdefault(player, {})[term] = None
    return {player: list(terms) for player, terms in found.items()}


def losses(journal: list[dict[str, Any]], player: str, terms: list[str]) -> Draw:
    """The loss terms of one player over the rounds."""
    return _curves({term: _series(journal, f"{player}/{term}") for term in terms}, "loss")


def norms(journal: list[dict[str, Any]]) -> Draw:
    """The l2 norm of each player's gradient over the rounds."""
    names = dict.fromkeys(name for line in journal for name in line.get("gradient_norm", {}))
    lines = [{**line.get("gradient_norm", {}), "round": line["round"]} for line in journal]
    return _curves({name: _series(lines, name) for name in names}, "gradient norm")


def _curves(series: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]], what: str) -> Draw:
    """Curves over the rounds, each under its name; long ones as their running mean over a pale original."""

    def draw(axes: Axes, theme: Theme) -> None:
        everything = []
        for index, (name, (rounds, values)) in enumerate(series.items()):
            colour = theme.curves[index % len(theme.curves)]
            style = ("-", "--", ":")[index // len(theme.curves) % 3]
            if len(values) > SMOOTH:
                axes.plot(rounds, values, color=colour, alpha=0.22, linewidth=0.7)
                values = _smooth(values, len(values) // 40)
            marker = "." if len(values) < 3 else ""
            axes.plot(rounds, values, style, color=colour, linewidth=1.6, label=name, marker=marker)
            everything.append(values)
        _scale(axes, np.concatenate(everything) if everything else np.empty(0))
        label_rounds(axes, what)
        axes.legend(ncols=min(len(series), 3), **LEGEND)

    return draw


def estimate(found: Estimate) -> Draw:
    """A critic's estimate of the Wasserstein distance over the rounds: pale as noted, and its median if it has one."""

    def draw(axes: Axes, theme: Theme) -> None:
        axes.plot(found.rounds, found.raw, color=theme.curves[0], alpha=0.22, linewidth=0.7)
        marker = "." if len(found.rounds) < 3 else ""
        axes.plot(found.rounds, found.median, color=theme.curves[0], linewidth=1.6, marker=marker)
        _scale(axes, found.median)
        label_rounds(axes, "Wasserstein estimate")

    return draw


def histogram(
    score: NDArray[np.floating],
    anomalous: NDArray[np.bool_] | None,
    calibration: NDArray[np.floating] | None,
    threshold: float | None,
) -> Draw:
    """How scores are spread, each group adding up to 100 %, and where the alarm begins."""

    def draw(axes: Axes, theme: Theme) -> None:
        if anomalous is None:
            groups = [("judged images", score, theme.curves[2])]
        else:
            truth = np.asarray(anomalous, dtype=bool)
            groups = [("normal", score[~truth], theme.curves[0]), ("anomalous", score[truth], theme.curves[1])]
        groups = [group for group in groups if len(group[1])]
        bars = int(np.clip(2.5 * min(len(values) for _, values, _ in groups) ** 0.5, 12, 50))
        edges, logarithmic = _bins(score, calibration, threshold, bars)
        for label, values, colour in groups:
            axes.stairs(_shares(values, edges), edges, fill=True, color=colour, alpha=0.55, label=label)
        if calibration is not None and len(calibration):
            axes.stairs(_shares(calibration, edges), edges, color=theme.ink, linewidth=1, label="calibration")
        if threshold is not None and np.isfinite(threshold):
            axes.axvline(threshold, color=theme.ink, linestyle="--", linewidth=1.4, label="threshold")
        if logarithmic:
            axes.set_xscale("log")
        axes.set_xlabel("score, logarithmic (higher is stranger)" if logarithmic else "score (higher is stranger)")
        axes.set_ylabel("% of the group")
        axes.set_ylim(bottom=0)
        axes.legend(ncols=4, **LEGEND)

    return draw


def weights(shares: list[float], edges: list[float], bound: float) -> Draw:
    """How weights are spread, and the bounds [-bound, bound] that they are clipped to."""

    def draw(axes: Axes, theme: Theme) -> None:
        axes.stairs(100 * np.asarray(shares), edges, fill=True, color=theme.curves[0], alpha=0.55)
        for edge in (-bound, bound):
            axes.axvline(edge, color=theme.ink, linestyle="--", linewidth=1.4)
        axes.set(xlabel="weight", ylabel="% of the weights")

    return draw


def receiver(score: NDArray[np.floating], anomalous: NDArray[np.bool_], at: tuple[float, float] | None) -> Draw:
    """The ROC curve: anomalies found against normal images flagged, as the threshold falls."""

    def draw(axes: Axes, theme: Theme) -> None:
        false, true, _ = roc_curve(anomalous, score)
        keep = _thin(len(false))
        axes.plot([0, 1], [0, 1], color=theme.faint, linestyle="--", label="guessing")
        axes.plot(false[keep], true[keep], color=theme.curves[1], linewidth=1.8, label="this detector", clip_on=False)
        _mark(axes, theme, at)
        _unit(axes, "normal images flagged", "anomalies found")
        axes.legend(loc="lower right")

    return draw


def precision(score: NDArray[np.floating], anomalous: NDArray[np.bool_], at: tuple[float, float] | None) -> Draw:
    """The precision-recall curve: how right the flags are against anomalies found."""

    def draw(axes: Axes, theme: Theme) -> None:
        right, found, _ = precision_recall_curve(anomalous, score)
        # the last point (recall 0, precision 1) is a convention, not a threshold
        right, found = right[:-1], found[:-1]
        keep = _thin(len(right))
        base = float(np.mean(anomalous))
        axes.plot([0, 1], [base, base], color=theme.faint, linestyle="--", label="guessing")
        axes.plot(found[keep], right[keep], color=theme.curves[1], linewidth=1.8, label="this detector", clip_on=False)
        _mark(axes, theme, at)
        _unit(axes, "anomalies found", "right when flagged")
        axes.legend(loc="lower left")

    return draw


@mpl.ticker.FuncFormatter
def _thousands(value: float, _: Any) -> str:
    return f"{value:,.0f}"


def label_rounds(axes: Axes, what: str) -> None:
    axes.set(xlabel="round", ylabel=what)
    axes.xaxis.set_major_formatter(_thousands)
    axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(5, integer=True))


def _mark(axes: Axes, theme: Theme, at: tuple[float, float] | None) -> None:
    """Where the verdicts stand on a curve."""
    if at:
        axes.plot(*at, "o", color=theme.ink, markersize=6, label="its verdicts", clip_on=False, zorder=5)


def _unit(axes: Axes, x: str, y: str) -> None:
    axes.set(xlim=(0, 1), ylim=(0, 1.01), xlabel=x, ylabel=y)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(mpl.ticker.PercentFormatter(1, decimals=0))


def _series(journal: list[dict[str, Any]], key: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rounds and values of one term, without gaps; a journal of a resumed run may repeat a round."""
    points = {line["round"]: line[key] for line in journal if isinstance(line.get(key), (int, float))}
    pairs = np.asarray(sorted(points.items()), dtype=np.float64).reshape(-1, 2)
    pairs = pairs[np.isfinite(pairs).all(1)]
    step = max(1, len(pairs) // MOST)
    return pairs[::step, 0], pairs[::step, 1]


def _smooth(values: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Running mean over `width` neighbours; near the ends over those there are."""
    ones = np.ones(max(1, width))
    return np.convolve(values, ones, "same") / np.convolve(np.ones(len(values)), ones, "same")


def _scale(axes: Axes, values: NDArray[np.float64]) -> None:
    """A logarithmic axis where terms differ by orders of magnitude."""
    size = np.abs(values[values != 0])
    if not len(size) or np.quantile(size, 0.99) < 50 * np.quantile(size, 0.1):
        return
    if (values > 0).all():
        axes.set_yscale("log")
    else:
        axes.set_yscale("symlog", linthresh=float(np.quantile(size, 0.1)))


def _bins(
    score: NDArray[np.floating], calibration: NDArray[np.floating] | None, threshold: float | None, bars: int
) -> tuple[NDArray[np.float64], bool]:
    """Edges of the bars, and whether they are logarithmic; a few far scores do not squeeze the others."""
    values = np.asarray(score if calibration is None else np.concatenate([score, calibration]), dtype=np.float64)
    low, middle, high = np.quantile(values, [0, 0.5, 0.998])
    if threshold is not None and np.isfinite(threshold):
        high = max(high, threshold)
    if low > 0 and high > 6 * middle:
        return np.geomspace(low, high, bars + 1), True
    if high <= low:
        return np.linspace(low - 0.5, low + 0.5, bars + 1), False
    return np.linspace(low, high, bars + 1), False


def _shares(values: NDArray[np.floating], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Per cent of the values between each two edges; the outermost bars take what lies beyond."""
    return 100 * np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0] / len(values)


def _thin(count: int) -> NDArray[np.intp]:
    return np.unique(np.linspace(0, count - 1, min(count, MOST)).astype(np.intp))


def both(draw: Draw) -> tuple[bytes, bytes]:
    """The chart for a light and for a dark page."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # letters that the font lacks, in names that users chose
        return render(draw, LIGHT), render(draw, DARK)
