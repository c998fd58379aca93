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
        needs += " of two domains" if "partner" in entry["needs"] else ""
        table.add_row(f"[bold]{name}", entry["about"], entry["paper"], needs, ", ".join(entry["variants"]))
    Console().print(table)


def show_recipe(name: str, reference: str, rows: Iterable[tuple[str, Any, str, str]]) -> None:
    table = Table("key", "value", "symbol", "place in the paper", title=f"{name}: {reference}", title_justify="left")
    for key, value, symbol, place in rows:
        table.add_row(f"[bold]{key}", "" if value is None else str(value), symbol, place)
    Console().print(table)


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
        if found.get("pixel_auroc") is not None:
            table.add_row("pixel auroc", f"{found['pixel_auroc']:.3f}", "")
        console.print(table)
    for name, other in found.get("baselines", {}).items():
        pixels = f", pixel AUROC {other['pixel_auroc']:.3f}" if other.get("pixel_auroc") is not None else ""
        console.print(f"{name}: AUROC {other['auroc']['value']:.3f}{pixels}")
    if "distances" in found:
        show_distances(console, found["distances"])
    for way in ("to_b", "to_a") if "translation" in found else ():
        show_translation(console, way, found["translation"][way])
    if "parzen" in found:
        parzen = found["parzen"]
        console.print(f"Parzen log-likelihood {parzen['mean']:.1f} +- {parzen['standard_error']:.1f} nats")
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


def show_probe(found: dict[str, Any]) -> None:
    """Print the accuracies of a probe, and the margins of the discriminator."""
    title = f"Linear classifier fitted on {found['fitted_on']:,} examples, {found['examples']:,} judged"
    table = Table("", "features", "accuracy", "95 % interval", "margin of the discriminator", title=title)
    for name in ("discriminator", "random weights", "pixels"):
        own, margin = found[name]["accuracy"], found[name].get("margin")
        ahead = f"{margin['value']:+.3f} ({margin['low']:+.3f} to {margin['high']:+.3f})" if margin else ""
        interval = f"{own['low']:.3f} to {own['high']:.3f}"
        table.add_row(name, f"{found[name]['features']:,}", f"{own['value']:.3f}", interval, ahead)
    Console().print(table)
