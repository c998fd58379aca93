"""The closed-set classifier that OpenGAN stands on: no adversary, but the same engine."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Optimizer

from sparring.errors import UserError
from sparring.nets.augment import translation
from sparring.nets.resnet import resnet18, small_resnet
from sparring.protocol import Draw, Game, Phase, Recipe, Round, Spec, Update, hyper

SIDE = 64  # pixels that OpenGAN's authors show a ResNet-18


@dataclass(frozen=True)
class ClassifierRecipe(Recipe):
    batch: int = hyper(128, "", "section 4.2: mini-batch size of 128", least=1)
    epochs: float = hyper(30, "", "ours", above=0)
    architecture: str = hyper(
        "small", "", "ours for about 32 pixels; resnet18 with OpenGAN's stem for 64", choices=("small", "resnet18")
    )
    width: int = hyper(32, "", "feature maps of the small network at full size; features are 8 times as many", least=1)
    flip: bool | None = hyper(None, "", "mirror images at random, section 4.2; empty: those in colour")
    crop: bool = hyper(True, "", "shift images at random by up to an eighth of the side, as section 4.2: 4 of 32")
    rate: float = hyper(0.1, "", "highest learning rate, section 4.2", above=0)
    warm: float = hyper(0.2, "", "share of the rounds in which the rate rises; then it falls to 0, both in a line",
                        least=0, most=0.99)  # fmt: skip
    momentum: float = hyper(0.9, "", "section 4.2; Nesterov's", above=0, most=0.999)
    weight_decay: float = hyper(5e-4, "", "ours; section 4.2: 1e-4", least=0)


RESNET18 = ClassifierRecipe(architecture="resnet18")


class Classifier(Game):
    """Learn to name the classes of images, as a basis for telling what is of none of them.

    Its features, the means of the last maps, are what OpenGAN learns from. A tenth of the examples is held out of
    training, so that what stands on it can be calibrated on features that it has not fitted.

    Reference: Kaiming He, Xiangyu Zhang, Shaoqing Ren, Jian Sun (2015), Deep Residual Learning for Image
    Recognition, arXiv:1512.03385. The stem of `resnet18` is that of OpenGAN's authors, aimerykong/OpenGAN.

    Departures:
        The rate rises and falls in straight lines instead of in steps, and 30 epochs end it. The default network
        is smaller than any of the paper's. Images are in [-1, 1], and shifts leave grey where nothing comes in.
    """

    needs = ("x", "label")

    def __init__(self, spec: Spec, recipe: ClassifierRecipe) -> None:
        super().__init__(spec, recipe)
        self.recipe: ClassifierRecipe = recipe
        if not spec.is_image:
            raise UserError(f"classifier works on images, not on vectors of {spec.size} numbers: use scikit-learn's.")
        if len(spec.classes) < 2:
            raise UserError(f"classifier tells classes apart, and the data have {len(spec.classes)}: give 2 or more.")
        channels, classes = spec.shape[0], len(spec.classes)
        deep = recipe.architecture == "resnet18"
        self.classifier = resnet18(channels, classes) if deep else small_resnet(channels, classes, recipe.width)

    @classmethod
    def fit_side(cls, native: int, recipe: Recipe) -> int:
        assert isinstance(recipe, ClassifierRecipe)
        return SIDE if recipe.architecture == "resnet18" else native

    def classify(self, x: Tensor) -> Tensor:
        """Logits (B, classes)."""
        return self.classifier(x).float()

    def features(self, x: Tensor) -> Tensor:
        """What the last layer sees, (B, width)."""
        return self.classifier.features(x).float()

    def round(self, draw: Draw, step: int) -> Round:
        batch = draw()
        assert batch.label is not None
        yield Update("classifier", entropy=F.cross_entropy(self.classify(self.augmented(batch.x)), batch.label))

    def augmented(self, x: Tensor) -> Tensor:
        """Mirror and shift images at random, as the recipe says."""
        r = self.recipe
        if r.flip or (r.flip is None and x.shape[1] == 3):
            mirrored = torch.rand(len(x), 1, 1, 1, device=x.device) < 0.5
            x = torch.where(mirrored, x.flip(-1), x)
        return translation(x) if r.crop else x

    def players(self) -> dict[str, Optimizer]:
        r = self.recipe
        sgd = torch.optim.SGD(
            self.classifier.parameters(), r.rate, r.momentum, weight_decay=r.weight_decay, nesterov=True, fused=True
        )
        return {"classifier": sgd}

    def rate(self, step: int) -> float:
        """Factor on the learning rate: up to 1 in a line, then down to 0."""
        peak = self.recipe.warm * self.rounds
        return (step + 1) / (peak + 1) if step < peak else (self.rounds - step) / (self.rounds - peak)

    def phases(self) -> list[Phase]:
        return [Phase("train", self.rounds, self.round, self.players, rate=self.rate)]
