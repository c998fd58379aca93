"""The built-in text encoders: letters and images of the training set, learnt to find each other.

Reference: Scott Reed, Zeynep Akata, Bernt Schiele, Honglak Lee (2016), Learning Deep Representations of Fine-grained
Visual Descriptions, arXiv:1605.05395; details of the authors' code, reedscot/cvpr2016.

Departures:
    The image network is a small one that learns from scratch, not a trained one that is held fixed. `characters` reads
    by one convolution; the authors' network, which is recurrent, is `characters-recurrent`: narrower here, with a GRU
    for its recurrence and Adam for RMSprop. Texts are as long as the longest of the training, at most 201 letters.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from safetensors.torch import save as safetensors_bytes
from torch import Tensor, nn

from sparring.data import Source, Stream, cache_folder
from sparring.data.captions import need_captions, tell
from sparring.data.fingerprint import fingerprint
from sparring.errors import UserError
from sparring.files import write_bytes
from sparring.nets.characters import LONGEST, CharacterNetwork, known, plain, spelt
from sparring.nets.classifier import Classifier
from sparring.randomness import seeded
from sparring.text.encoder import digest

CHARACTERS = "characters"
RECURRENT = f"{CHARACTERS}-recurrent"
FILE = "text.safetensors"  # in a run
BATCH = 256  # texts read at once


@dataclass(frozen=True)
class Lesson:
    """How the two networks are trained: Adam, on minibatches of images with one of their captions each."""

    rounds: int = 1500
    batch: int = 40
    rate: float = 1e-3
    width: int = 128
    side: int = 32  # images are reduced to this


LESSON = Lesson()


class Joint(nn.Module):
    """Texts and images in one space (width): what belongs together has a large inner product.

    Args:
        width: Numbers in a vector.
        length: Letters of a text that are read.
        channels: Of the images.
        side: To which images are reduced.
        recurrent: Whether the network of letters is.
    """

    def __init__(self, width: int, length: int, channels: int, side: int, recurrent: int = 0) -> None:
        super().__init__()
        self.width, self.length, self.channels, self.side, self.recurrent = width, length, channels, side, recurrent
        self.letters = CharacterNetwork(width, bool(recurrent))
        self.images = Classifier(channels, side, width)
        self.name = RECURRENT if recurrent else CHARACTERS

    @property
    def hash(self) -> str:
        return digest(*(tensor.numpy().tobytes() for tensor in self.state_dict().values()))

    @torch.no_grad()
    def forward(self, texts: Sequence[str]) -> np.ndarray:
        parts = [
            self.letters(torch.stack([self.spell(text) for text in texts[k : k + BATCH]]))
            for k in range(0, len(texts), BATCH)
        ]
        return torch.cat(parts).numpy()

    def spell(self, text: str) -> Tensor:
        """The numbers of the letters of a text, (length,).

        Raises:
            UserError: For a text without any.
        """
        letters = spelt(text, self.length)
        if not any(letter.isalnum() for letter in known(text)):
            raise UserError(
                f"'{text}' has no letter that the encoder '{self.name}' knows, which are a to z, 0 to 9 and "
                "punctuation: write it in these, or train with --text and an encoder of that language."
            )
        return letters

    def read(self, text: str) -> int:
        whole = plain(text)
        return len(text) if len(whole) <= self.length else min(len(text), self.length)

    def seen(self, x: Tensor) -> Tensor:
        """Images (B, C, S, S) in [-1, 1] as vectors (B, width)."""
        if x.shape[-1] > self.side:
            x = F.adaptive_avg_pool2d(x, self.side)
        return self.images(x)[1]

    def packed(self) -> bytes:
        """As a file that `restored` reads."""
        facts = {name: str(getattr(self, name)) for name in ("width", "length", "channels", "side", "recurrent")}
        return safetensors_bytes(self.state_dict(), facts)


def restored(path: Path) -> Joint:
    """Read what `Joint.packed` wrote.

    Raises:
        UserError: For a file that is missing or damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            facts = {name: int(value) for name, value in (file.metadata() or {}).items()}
        with seeded():  # its first weights are drawn, and thrown away
            joint = Joint(**facts).eval().requires_grad_(False)
        joint.load_state_dict(load_file(path))
    except (FileNotFoundError, SafetensorError, RuntimeError, TypeError, ValueError):
        raise UserError(f"'{path}', the text encoder of the run, is missing or damaged: restore it.") from None
    return joint


def is_learnt(name: str | None) -> bool:
    """Whether an encoder of this name learns from the training set; None is the default."""
    return name in (None, CHARACTERS, RECURRENT)


def learnt(source: Source, seed: int = 0, name: str = CHARACTERS) -> tuple[Joint, bool]:
    """The encoder of these images and captions, out of the cache or learnt here, and whether it was learnt."""
    texts = need_captions(source)
    said = json.dumps([asdict(LESSON), seed, fingerprint(source), texts])
    path = cache_folder() / "text" / f"{name}-{digest(said.encode())}.safetensors"
    with suppress(UserError):
        return restored(path), False
    joint = learn(source, seed, name == RECURRENT)
    with suppress(UserError):
        write_bytes(path, joint.packed())
    return joint, True


def learn(source: Source, seed: int = 0, recurrent: bool = False) -> Joint:
    """Train both networks; the same on one machine with one number of threads."""
    captions = need_captions(source)
    longest = max(len(plain(text)) for own in captions for text in own)
    channels, side, _ = source.spec().shape
    with seeded(seed):
        joint = Joint(LESSON.width, min(LONGEST, longest), channels, min(LESSON.side, side), int(recurrent)).train()
        letters = {text: joint.spell(text).numpy() for own in captions for text in own}
        told = tell(source, letters)
        draw = Stream(source, min(LESSON.batch, len(source)), seed=seed, told=told)
        optimizer = torch.optim.Adam(joint.parameters(), LESSON.rate, fused=True)
        for _ in range(LESSON.rounds):
            kinds = torch.from_numpy(told.kinds[draw.indices(draw.position)])
            batch = draw()
            assert batch.caption is not None
            loss = joint_embedding(joint.seen(batch.x), joint.letters(batch.caption.long()), kinds)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    return joint.eval().requires_grad_(False)


def joint_embedding(images: Tensor, texts: Tensor, kinds: Tensor) -> Tensor:
    """The structured joint embedding loss of pairs (B, W), both ways, a scalar.

    Each image shall be closer to its text than to those of other kinds by a margin of 1, and each text to its image.
    """
    scores = images @ texts.T
    own = scores.diagonal()
    short = F.relu(1 + scores - own[:, None]) + F.relu(1 + scores - own)
    return (short * (kinds[:, None] != kinds)).mean()
