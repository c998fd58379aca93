"""The captions of a training, and the encoder that makes vectors of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from sparring.data import Source
from sparring.data.captions import Told, need_captions, tell
from sparring.files import write_bytes
from sparring.job import Job, read_run
from sparring.protocol import Spec
from sparring.text import FILE, TextEncoder, choose, cut, embed, is_learnt, restore
from sparring.text.characters import Joint


@dataclass(frozen=True)
class Words:
    """The text encoder of a training, and what it makes of the captions."""

    encoder: TextEncoder
    told: Told

    def save(self, folder: Path) -> None:
        """Keep an encoder that was learnt here in the run's folder."""
        if isinstance(self.encoder, Joint):
            write_bytes(folder / FILE, self.encoder.packed())


def spoken(job: Job, source: Source, fit: Source, folder: Path | None, say: Callable[[str], None]) -> Words:
    """Choose the text encoder, or take that of the run which goes on, and read the captions of the training set."""
    if folder is None:
        encoder = choose(job.text, lambda: fit if is_learnt(job.text) else source, say)
    else:
        encoder = restore(folder, job.text, read_run(folder)[1]["text"], lambda: source)
    texts = [text for own in need_captions(fit) for text in own]
    return Words(encoder, tell(fit, embed(encoder, texts)))


def spec_of(fit: Source, words: Words | None) -> Spec:
    """What the training set dictates to a model."""
    return fit.spec() if words is None else replace(fit.spec(), caption=words.encoder.width)


def texts_cut(fit: Source, words: Words | None) -> list[str]:
    """A note on the captions that are longer than the text encoder reads."""
    if words is None:
        return []
    note = cut(words.encoder, sorted({text for own in need_captions(fit) for text in own}))
    return [note] if note else []
