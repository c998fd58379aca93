"""Translate data with a trained model, and measure how well it does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import pairwise_distances_argmin
from torch import Tensor

from sparring import pictures
from sparring.data import Domain, Source, batches, located, split_in
from sparring.data.folder import is_image_name
from sparring.data.source import Numbered
from sparring.errors import UserError
from sparring.features import BATCH, Extractor, Tell, choose
from sparring.gallery import write_array
from sparring.generation import MEASURES, SAMPLES, accuracy, as_saved, compare, renamed, table
from sparring.protocol import Translates
from sparring.run import Run

HOME = {"a": "b", "b": "a"}  # the domain that is translated, by the one it goes to
NUMBERS = 50_000_000  # in the images among which partners are looked for, at most
DISTANCES = ("frechet_distance", "kernel_distance")


def write_translations(run: Run, data: Any, out: Path, to: str = "b", **options: Any) -> dict[str, Any]:
    """Translate data image by image into PNG files of the same names; vectors into an .npy file.

    Only a few examples are in memory at a time.

    Args:
        data: As for `open_source`.
        out: A folder, or an .npy file for vectors.
        to: The domain to go to, "a" or "b".
        options: As for `Run.translate`.

    Returns:
        translated (how many), skipped ([name, reason] of each that cannot be read), and notes.

    Raises:
        UserError: For data, a domain or a place that cannot be used.
    """
    if isinstance(data, (str, Path)) and located(data) == str(out.resolve()):
        raise UserError(f"'{out}' holds the images to translate, and would be written over: give another --out.")
    flow = run.flow(data, to, **options)
    count = 0
    if not run.spec.is_image:
        if out.suffix != ".npy":
            raise UserError(f"Vectors are written to one file: give one that ends in .npy, not '{out.name}'.")
        count = len(flow)
        write_array(out, count, (part.numpy() for _, part in run.translated(flow, to)))
    else:
        check_folder(out)
        files = {name: out / file for name, file in zip(flow.names, file_names(flow.names), strict=True)}
        pictures.spare(files.values(), flow.examples.originals)
        for names, part in run.translated(flow, to):
            for name, image in zip(names, part, strict=True):
                pictures.save(pictures.as_picture(image), files[name])
            count += len(names)
    return {"translated": count, "skipped": [list(pair) for pair in flow.skipped], "notes": list(flow.notes)}


def check_folder(out: Path) -> None:
    """Raise a UserError for the name of a file where a folder of images is wanted."""
    if out.suffix == ".npy" or is_image_name(out.name) or out.is_file():
        raise UserError(f"Translated images are written to a folder, each to a file: give a folder, not '{out.name}'.")


def file_names(names: Sequence[str]) -> list[str]:
    """Names of PNG files: another suffix gives way, unless two names would then be the same."""
    stems = [str(Path(name).with_suffix("")) if is_image_name(name) else name for name in names]
    times = Counter(stems)
    return [f"{stem if times[stem] == 1 else name}.png" for stem, name in zip(stems, names, strict=True)]


@dataclass(frozen=True)
class Domains:
    """Examples of both domains that the run was not trained on, and those it was trained on."""

    tests: dict[str, Source]
    learnt: dict[str, Source]

    def partners(self, of_one_set: bool) -> tuple[np.ndarray, np.ndarray]:
        """Numbers in A and in B of the examples that belong together, by equal names; empty unless all of one do.

        Examples of arrays have numbers for names, which tell nothing unless both domains are made of one set.
        """
        a, b = self.tests["a"], self.tests["b"]
        where = {name: k for k, name in enumerate(b.names)}
        pairs = [(k, where[name]) for k, name in enumerate(a.names) if name in where]
        numbered = isinstance(a.names, Numbered) or isinstance(b.names, Numbered)
        if len(pairs) < min(len(a), len(b)) or (numbered and not of_one_set):
            pairs = []
        here, there = np.array(pairs, np.int64).reshape(-1, 2).T
        return here, there


def open_domains(run: Run, data: Any, partner: Any, split: str | None, **options: Any) -> tuple[Source, Source]:
    """Both domains to judge by: the run's own where none are named.

    Raises:
        UserError: Where one is named and not the other, or where they hold what the run was trained on.
    """
    job = run.job
    if run.owns(data) and partner is None and job.domains:
        a, b = (run.open(job.data, split, domain=Domain(job.domains, second), **options) for second in (False, True))
        return a, b
    other = job.partner if partner is None and run.owns(data) else partner
    if other is None:
        raise UserError(f"A translation is judged by examples of both domains: sparring evaluate {run.folder} A B.")
    part = split_in(other, split)
    if other == job.partner and (part is None or part == job.split):
        raise UserError(
            f"The run was trained on all of '{other}': name others to judge by, sparring evaluate {run.folder} A B."
        )
    return run.open(data, split, **options), run.open(other, part, **options)


def learnt_by(run: Run) -> dict[str, Source]:
    """What the run was trained on, of each domain."""
    job = run.job
    options: dict[str, Any] = {"limit": job.limit}
    if job.domains:
        own = {**options, "classes": job.classes or None}
        return {
            name: run.open(job.data, job.split, domain=Domain(job.domains, name == "b", apart=True), **own)
            for name in HOME
        }
    assert job.partner is not None
    return {
        "a": run.open(job.data, job.split, classes=job.classes or None, **options),
        "b": run.open(job.partner, split_in(job.partner, job.split), **options),
    }


def translation(
    run: Run,
    a: Source,
    b: Source,
    evidence: dict[str, Any],
    samples: int = SAMPLES,
    features: str = "default",
    tell: Tell = lambda sentence: None,
) -> dict[str, Any]:
    """Measure both translations on examples that the run was not trained on.

    Args:
        a: Of domain A, b of domain B; at most `samples` of each are used.
        evidence: Of the report; takes "generation", "legend" and more "notes".
        features: See `sparring.features.choose`; the default classifier learns from what the run was trained on.
        tell: Is told what takes long.

    Returns:
        translation: by direction "to_a" and "to_b", the distances to the target domain, what training examples of
        that domain and examples that are not translated reach, the cycle error, and where they are known the share
        of right partners and of classes that are kept.
    """
    domains = Domains({"a": a.limited(samples), "b": b.limited(samples)}, learnt_by(run))
    pairs = domains.partners(run.job.domains is not None and run.owns(a.name) and a.name == b.name)
    found: dict[str, Any] = {"pairs": len(pairs[0])}
    shown: dict[str, Any] = {}
    for to in ("b", "a"):
        own = (pairs[0], pairs[1]) if to == "b" else (pairs[1], pairs[0])
        found[f"to_{to}"] = one = direction(run, domains, to, own, choose(features, domains.learnt[to], tell), evidence)
        way = f"{HOME[to].upper()} to {to.upper()}"
        shown |= {f"{way}: {heading}": row for heading, row in rows_of(one).items()}
    evidence["generation"] = shown
    evidence["legend"] = (
        "Each row of 8 images is followed by their translations, and by what these become on the way back: first from "
        "A to B, then from B to A."
    )
    if found["pairs"]:
        evidence["notes"].append("Images of the same name in both domains count as pairs.")
    evidence["notes"][:] = dict.fromkeys(evidence["notes"])
    return {"translation": found}


@torch.no_grad()
def direction(
    run: Run, domains: Domains, to: str, pairs: tuple[np.ndarray, np.ndarray], extractor: Extractor,
    evidence: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Measure the translation to one domain; `pairs` are numbers in x and y of what belongs together."""
    game, x, y = run.game, domains.tests[HOME[to]], domains.tests[to]
    assert isinstance(game, Translates)
    here, there = (numbers[: max(1, NUMBERS // run.spec.size)] for numbers in pairs)
    paired = np.unique(here)
    lost: list[Tensor] = []
    kept: list[np.ndarray] = []  # translations of what has a partner

    def parts() -> Iterator[Tensor]:
        for start, part in zip(range(0, len(x), BATCH), batches(x, BATCH), strict=True):
            made = game.translate(part, to)
            lost.append((game.translate(made, HOME[to]) - part).abs().flatten(1).mean(1))
            made = as_saved(made) if run.spec.is_image else made
            own = paired[(paired >= start) & (paired < start + BATCH)] - start
            kept.append(made.flatten(1).numpy()[own])
            yield made

    truth, made = extractor.describe(y), extractor(parts())
    scale = 2 if run.spec.is_image else 1  # black to white is 1
    found: dict[str, Any] = {
        "features": extractor.name, "hash": extractor.hash, "translated": len(x), "real": len(y),
        "measures": compare(truth, made, evidence["notes"]),
        "training": compare(truth, extractor.describe(domains.learnt[to].limited(len(x))), []),
        "untranslated": compare(truth, extractor.describe(x), [], apart_only=True),
        "cycle_error": {"value": float(torch.cat(lost).mean() / scale)},
    }  # fmt: skip
    if len(here):
        targets = np.concatenate([part.flatten(1).numpy() for part in batches(y.take(there), BATCH)])
        nearest = pairwise_distances_argmin(np.concatenate(kept)[np.searchsorted(paired, here)], targets)
        found["partner_rate"] = {"value": float((nearest == np.arange(len(here))).mean()), "among": len(here)}
    names = renamed(x, extractor)
    if names is not None and x.labels is not None and made.probabilities is not None and len(x.classes) > 1:
        found["class_agreement"] = {
            "value": float((made.probabilities.argmax(1) == names[x.labels]).mean()),
            "accuracy": accuracy(extractor, y, truth),
        }
    return found


def rows_of(found: dict[str, Any]) -> dict[str, Any]:
    """What the report shows of one direction."""
    shown = table(found["measures"], found["training"])
    for name in DISTANCES:
        row, bare = shown.get(MEASURES[name].heading), found["untranslated"][name]
        if row and bare:
            row["note"] += f"; {bare['value']:.4g} without translation"
    shown["Cycle error"] = {
        **found["cycle_error"], "note": "mean difference of a pixel after the way there and back; black to white is 1"
    }  # fmt: skip
    if "partner_rate" in found:
        rate = found["partner_rate"]
        shown["Right partner"] = {
            **rate, "note": f"share of translations whose nearest image among {rate['among']:,} is their partner"
        }  # fmt: skip
    if "class_agreement" in found:
        right = found["class_agreement"]["accuracy"]
        beside = "" if right is None else f", which is right about {right:.2%} of real images"
        shown["Class kept"] = {**found["class_agreement"], "note": f"by a classifier of the domain{beside}; 1 is best"}
    return shown
