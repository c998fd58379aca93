"""Tables for a person at a terminal, on standard output."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table


def show_models(found: dict[str, dict[str, Any]]) -> None:
    table = Table("model", "what it does", "paper", "data", "variants", show_lines=True)
    for name, entry in found.items():
        needs = "images" + (" with labels" if "label" in entry["needs"] else "")
        needs += " with captions" if "caption" in entry["needs"] else ""
        needs += " of two domains" if "partner" in entry["needs"] else ""
        table.add_row(f"[bold]{name}", entry["about"], entry["paper"], needs, ", ".join(entry["variants"]))
    Console().print(table)


def show_recipe(
    name: str, variant: str, others: Iterable[str], reference: str, rows: Iterable[tuple[str, Any, str, str]]
) -> None:
    title = f"{name}, variant {variant}: {reference}"
    table = Table("key", "value", "symbol", "place in the paper", title=title, title_justify="left")
    for key, value, symbol, place in rows:
        table.add_row(f"[bold]{key}", "" if value is None else str(value), symbol, place)
    console = Console()
    console.print(table)
    if others := ", ".join(others):
        console.print(f"Other variants: {others}.")


def show_evaluation(found: dict[str, Any]) -> None:
    """Print the numbers of an evaluation, with their intervals."""
    console = Console()
    part = found.get("detection")
    if part:
        table = Table(
            "", "value", "95 % interval", title=f"{found['model']} on {found['data']}, {found['examples']:,} examples"
        )
        for name in ("auroc", "average_precision", "fpr_at_95_tpr", "f1", "accuracy", "recall", "false_alarms"):
            if part[name] is not None:
                low, high = part[name]["low"], part[name]["high"]
                table.add_row(name.replace("_", " "), f"{part[name]['value']:.3f}", f"{low:.3f} to {high:.3f}")
        for name in ("pixel_auroc", "aupro"):
            if found.get(name) is not None:
                table.add_row(name.replace("_", " "), f"{found[name]:.3f}", "")
        console.print(table)
    for name, other in found.get("baselines", {}).items():
        pixels = ""
        if other.get("pixel_auroc") is not None:
            pixels = f", pixel AUROC {other['pixel_auroc']:.3f}, AUPRO {other['aupro']:.3f}"
        console.print(f"{name}: AUROC {other['auroc']['value']:.3f}{pixels}")
    if "accuracy" in found:
        console.print(f"Accuracy {found['accuracy']['value']:.3f} on {found['accuracy']['of']:,} examples")
    if found.get("recognition"):
        show_recognition(console, found["recognition"])
    if "distances" in found:
        show_distances(console, found["distances"])
    for way in ("to_b", "to_a") if "translation" in found else ():
        show_translation(console, way, found["translation"][way])
    if "memorisation" in found:
        console.print(found["memorisation"]["verdict"])
    if "opponent" in found:
        show_opponent(console, found["opponent"])
    if "parzen" in found:
        parzen = found["parzen"]
        console.print(f"Parzen log-likelihood {parzen['mean']:.1f} +- {parzen['standard_error']:.1f} nats")
    for note in found["notes"]:
        console.print(f"* {note}", style="yellow", markup=False, highlight=False)
    console.print(f"The report is {found['report']}.")


def show_translation(console: Console, way: str, found: dict[str, Any]) -> None:
    """Print how far translations are from their domain, and what else is known of them."""
    show_distances(console, {"made": found["translated"], **found})
    untranslated = found["untranslated"]["kernel_distance"]
    said = [f"cycle error {found['cycle_error']['value']:.4f}"]
    said += [f"kernel distance without translation {untranslated['value']:.4g}"] if untranslated else []
    said += [
        f"{key.replace('_', ' ')} {found[key]['value']:.4f}"
        for key in ("partner_rate", "class_agreement")
        if key in found
    ]
    console.print(f"{way.replace('_', ' ')}: {', '.join(said)}")


def show_distances(console: Console, found: dict[str, Any]) -> None:
    """Print how far what is made is from real data, beside what training examples reach."""
    title = f"{found['made']:,} made against {found['real']:,} real, by: {found['features']} ({found['hash']})"
    table = Table("", "value", "training examples", title=title, title_justify="left")
    for name, measure in found["measures"].items():
        error = f" +- {measure['standard_error']:.2g}" if measure and "standard_error" in measure else ""
        value = f"{measure['value']:.4g}{error}" if measure else "too few examples"
        other = found["training"].get(name)
        table.add_row(name.replace("_", " "), value, f"{other['value']:.4g}" if other else "")
    console.print(table)


def show_opponent(console: Console, found: dict[str, Any]) -> None:
    """Print what the discriminator or critic still tells apart, and how many of its weights sit at their bounds."""
    if "ranked" in found:
        real, made = found["real"], found["made"]
        right = "" if real is None else f" (right about {real:.1%} of real, {made:.1%} of made)"
        console.print(f"The opponent ranks {found['ranked']:.1%} of real and made pairs rightly{right}")
    if "clipping" in found:
        console.print(f"{found['clipping']['at_bounds']:.1%} of the critic's weights sit at the bounds of the clipping")


def show_probe(found: dict[str, Any]) -> None:
    """Print the accuracies of a probe, and the margins of the player that was looked into."""
    player = found["player"]
    kind = "Nearest neighbour among" if player == "encoder" else "Linear classifier fitted on"
    title = f"{kind} {found['fitted_on']:,} examples, {found['examples']:,} judged"
    table = Table("", "features", "accuracy", "95 % interval", f"margin of the {player}", title=title)
    for name in (name for name in (player, "code", "random weights", "pixels") if name in found):
        own, margin = found[name]["accuracy"], found[name].get("margin")
        ahead = f"{margin['value']:+.3f} ({margin['low']:+.3f} to {margin['high']:+.3f})" if margin else ""
        interval = f"{own['low']:.3f} to {own['high']:.3f}"
        table.add_row(name, f"{found[name]['features']:,}", f"{own['value']:.3f}", interval, ahead)
    Console().print(table)


def show_comparison(found: dict[str, Any]) -> None:
    """Print who is ahead, by class where there are several, and how calm the trainings were."""
    from sparring.report.comparison import by_group, calmness, numbers, terms

    console = Console()
    for head, rows in (numbers(found), by_group(found), calmness(found)):
        if rows:
            table = Table(*head)
            for row in rows:
                table.add_row(*row)
            console.print(table)
    console.print(terms(found))
    console.print(f"The report is {found['report']}.")


def show_reproduction(found: dict[str, Any]) -> None:
    """Print a paper's figures, its own evaluation of ours, and a clean one."""
    from sparring.reproduction import NUMBERS

    console = Console()
    rows = found["rows"]
    names = [name for name in next(iter(rows.values()))["clean"] if name.startswith(NUMBERS)]
    leaky = "leaky" if found["leaky"] else "no leak known"
    table = Table("case", "measure", "published", f"authors' evaluation ({leaky})", "clean", title=found["protocol"])
    for case, row in rows.items():
        for name in names:
            published = row["published"] if name == names[0] else ""
            cells = (row[side].get(name) for side in ("authors", "clean"))
            table.add_row(case, name.replace("_", " "), published, *("" if v is None else f"{v:.3f}" for v in cells))
    console.print(table)
    for sentence in (*found["leaks"], found["open"]):
        console.print(f"* {sentence}", highlight=False)


def show_recognition(console: Console, found: dict[str, Any]) -> None:
    """Print how an open-set model recognises, beside detectors on the same features and logits."""
    names = [name for name in found if name != "baselines"]
    table = Table("", *(name.replace("_", " ") for name in names), title="Known and unknown", title_justify="left")
    for who, part in {"this model": found, **found.get("baselines", {})}.items():
        table.add_row(who, *(f"{part[name]:.3f}" for name in names))
    console.print(table)
