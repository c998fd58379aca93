"""How faithful images are to the texts that they were made of, and how varied where the text is the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sparring.data import Source, to_tensor
from sparring.data.captions import need_captions
from sparring.data.pixels import decode_pictures
from sparring.data.shapes import ATTRIBUTES, SHAPES, asked, attributes, shapes
from sparring.features import BATCH, Extractor, Tell, classifier
from sparring.metrics.classes import inception_score
from sparring.randomness import seeded
from sparring.run import Run
from sparring.sampling import Sketches
from sparring.text import embed
from sparring.text.characters import Joint, learnt

SEED = 2  # of what is made to be compared with its text
JUDGE = 1  # seed of the encoder that retrieves texts, which is none that a generator was trained with
CANDIDATES = 100  # texts that an image is to be told by, its own among them
MOST = 2000  # images at most that are compared with their texts
VARIED = 16  # captions, and images of each, that tell diversity
GROUPS = (("colour", "shape"), ("size", "place", "ground"))  # attributes of shapes that one classifier learns


@dataclass(frozen=True)
class Asked:
    """Captions drawn from a source, one an example at a time, and their embeddings (N, W)."""

    texts: list[str]
    examples: np.ndarray
    embeddings: Tensor


def ask(run: Run, source: Source, count: int, seed: int = SEED) -> Asked:
    """Draw captions of random examples of a source, each example as often as any other."""
    captions = need_captions(source)
    random = np.random.default_rng(seed)
    rounds = -(-count // len(source))
    examples = np.concatenate([random.permutation(len(source)) for _ in range(rounds)])[:count]
    texts = [captions[k][random.integers(len(captions[k]))] for k in examples]
    vectors = embed(run.text_encoder, texts)
    return Asked(texts, examples, torch.from_numpy(np.stack([vectors[text] for text in texts])))


@torch.no_grad()
def parts(run: Run, captions: Tensor, sketched: bool = False) -> Iterator[Tensor]:
    """Make an image of each caption (N, W), some at a time; `sketched` gives those of the first stage."""
    game: Any = run.game
    make = game.sketch if sketched else game.generate
    with seeded(SEED):
        for part in captions.split(BATCH):
            yield make(len(part), z=game.latent(len(part)), caption=part)


def faithfulness(
    run: Run, training: Source, real: Source, extractor: Extractor, samples: int, tell: Tell = lambda text: None
) -> dict[str, Any]:
    """Compare what a run makes of the captions of examples that it never saw with these captions.

    Args:
        run: Of a model that reads captions.
        training: What it was trained on; the judge learns from it.
        real: The examples.
        extractor: Gives the features by which diversity is told.
        samples: Images to make, 2,000 at most.
        tell: Is told what takes long.

    Returns:
        encoder: what the run reads by, and the judge. r_precision, diversity, and of captioned shapes how often
        each attribute is as asked, and the class score over pairs of colour and shape, by stage; each with what
        real images reach.
    """
    tell("Texts are retrieved by an encoder of their own, which learns from the training set first; it is kept.")
    judge, _ = learnt(training, JUDGE)
    wanted = ask(run, real, min(samples, MOST))
    truth = to_tensor(real.read(wanted.examples))
    seen = torch.cat([judge.seen(part) for part in parts(run, wanted.embeddings)])
    shown = torch.cat([judge.seen(part) for part in truth.split(BATCH)])
    own = [need_captions(real)[k] for k in wanted.examples]
    found: dict[str, Any] = {
        "text_encoder": f"{run.text_encoder.name}, hash {run.text_encoder.hash}",
        "r_precision": {
            "value": r_precision(judge, seen, wanted.texts, own),
            "reference": r_precision(judge, shown, wanted.texts, own),
            "judge": f"{judge.name} of seed {JUDGE}, hash {judge.hash}",
            "candidates": min(CANDIDATES, len(set(wanted.texts))),
        },
        "diversity": diversity(run, real, extractor),
    }
    if real.name == SHAPES and real.captions is not None:
        found["attributes"], found["class_score"] = accuracy_of_stages(run, wanted, truth, tell)
    return found


def r_precision(judge: Joint, images: Tensor, texts: Sequence[str], own: Sequence[Sequence[str]]) -> float:
    """Share of images (N, width) whose own text has the largest inner product among 100 texts.

    The 99 others are drawn from the texts of other images, without those that also belong to the example whose text
    was asked for (`own`, one list an image).

    Reference: Xu et al. (2018), AttnGAN, arXiv:1711.10485, which proposed it.
    """
    distinct = sorted(set(texts))
    vectors = torch.from_numpy(judge(distinct))
    number = {text: k for k, text in enumerate(distinct)}
    random = np.random.default_rng(SEED)
    right = 0
    for image, text, same in zip(images, texts, own, strict=True):
        others = np.setdiff1d(np.arange(len(distinct)), [number[one] for one in (text, *same) if one in number])
        drawn = random.choice(others, min(CANDIDATES - 1, len(others)), replace=False)
        right += bool((vectors[drawn] @ image < vectors[number[text]] @ image).all())
    return right / len(texts)


def diversity(run: Run, real: Source, extractor: Extractor) -> dict[str, float]:
    """Mean distance between features of images of one caption, as a share of that between images of different ones."""
    wanted = ask(run, real, VARIED)
    captions = wanted.embeddings.repeat_interleave(VARIED, 0)
    features = extractor(parts(run, captions)).features.reshape(len(wanted.texts), VARIED, -1)
    within = float(np.mean([distances(one, one).sum() / (VARIED * (VARIED - 1)) for one in features]))
    between = float(np.mean([distances(features[k], features[k - 1]).mean() for k in range(len(features))]))
    return {"value": within / between if between > 0 else 0.0, "one_caption": within, "captions": between}


def distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Euclidean distances (N, M) between rows."""
    from scipy.spatial.distance import cdist

    return np.asarray(cdist(x, y))


def accuracy_of_stages(
    run: Run, wanted: Asked, truth: Tensor, tell: Tell
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, float]]]:
    """How often each attribute of captioned shapes is as the caption asks, by classifiers of real renders.

    Args:
        run: Of a model that reads captions.
        wanted: The captions.
        truth: The real images of these captions.
        tell: Is told what takes long.

    Returns:
        "stage 1" where there is one, and "images": by attribute the share that is right, the share among real
        images of that size (`reference`), and the number of captions that mention it: of these alone. Beside
        that, by stage, the class score (an Inception score) over pairs of colour and shape.
    """
    stages = {"images": False}
    if isinstance(run.game, Sketches) and getattr(run.game.recipe, "stages", 2) > 1:
        stages = {"stage 1": True, **stages}
    found: dict[str, dict[str, Any]] = {}
    scores: dict[str, dict[str, float]] = {}
    for stage, sketched in stages.items():
        made = torch.cat(list(parts(run, wanted.embeddings, sketched)))
        side = made.shape[-1]
        found[stage] = {}
        for group in GROUPS:
            network = classifier(labelled(group, truth.shape[-1], side, made.shape[1]), tell).network
            shown = {"value": made, "reference": F.adaptive_avg_pool2d(truth, side)}
            likely = {of: likelihoods(network, images) for of, images in shown.items()}
            if group == GROUPS[0]:
                scores[stage] = {of: inception_score(rows.numpy())["value"] for of, rows in likely.items()}
            said = {of: named(rows, group) for of, rows in likely.items()}
            for name in group:
                asks = [(k, words[name]) for k, words in enumerate(map(asked, wanted.texts)) if name in words]
                found[stage][name] = {"of": len(asks)} | {
                    of: sum(values[name][k] == value for k, value in asks) / len(asks) if asks else None
                    for of, values in said.items()
                }
    return found, scores


def labelled(group: Sequence[str], whole: int, side: int, channels: int) -> Source:
    """Renders of all pairs of attributes, labelled by what they show of these.

    They are decoded at the side `whole` and reduced to `side` by the means of square blocks, as for stage I.
    """
    source = decode_pictures(shapes("all"), whole, channels, False)
    if side < whole:
        blocks = source.read(slice(None)).reshape(len(source), side, whole // side, side, whole // side, channels)
        source = replace(source, items=np.rint(blocks.mean((2, 4), np.float32)).astype(np.uint8), index=None)
    classes = [" ".join(values) for values in product(*(ATTRIBUTES[name] for name in group))]
    drawn = attributes("all")
    number = {name: k for k, name in enumerate(classes)}
    labels = [number[" ".join(values)] for values in zip(*(drawn[name] for name in group), strict=True)]
    return replace(source, labels=np.array(labels, np.int64), classes=tuple(classes))


@torch.no_grad()
def likelihoods(network: Any, images: Tensor) -> Tensor:
    """The probability of each class for each image, (N, K)."""
    return torch.cat([network(part)[1] for part in images.split(BATCH)])


def named(likely: Tensor, group: Sequence[str]) -> dict[str, list[str]]:
    """What each image shows of each attribute, by probabilities (N, K) of their pairs: the most likely value."""
    likely = likely.unflatten(1, [len(ATTRIBUTES[name]) for name in group])
    found = {}
    for k, name in enumerate(group):
        rest = [axis + 1 for axis in range(len(group)) if axis != k]
        found[name] = [ATTRIBUTES[name][best] for best in likely.sum(rest).argmax(1).tolist()]
    return found


def rows(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What the report shows of it."""
    retrieved, varied = found["r_precision"], found["diversity"]
    note = (
        f"share of images whose own text is found among {retrieved['candidates']}, by {retrieved['judge']}; 1 is best"
    )
    shown: dict[str, dict[str, Any]] = {
        "R-precision": {"value": retrieved["value"], "reference": retrieved["reference"], "note": note},
        "Diversity of a text": {
            "value": varied["value"],
            "note": "distance between images of one text, as a share of that between texts; 0 is always the same image",
        },
    }
    for stage, by_name in found.get("attributes", {}).items():
        where = "" if stage == "images" else f", {stage}"
        shown[f"Class score{where}"] = {
            **found["class_score"][stage], "note": "sure and varied pairs of colour and shape; higher is better",
        }  # fmt: skip
        for name, one in by_name.items():
            shown[f"{name.capitalize()} as asked{where}"] = {
                **one, "note": f"of {one['of']:,} captions that name it, by a classifier of real renders; 1 is best",
            }  # fmt: skip
    return shown
