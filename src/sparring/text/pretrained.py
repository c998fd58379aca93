"""Sentence encoders of `sentence-transformers` or `transformers`, by name or from a folder."""

from __future__ import annotations

import os
import warnings
from bisect import bisect_right
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sparring.errors import UserError
from sparring.text.encoder import digest

BATCH = 64  # texts read at once


class Pretrained:
    """A trained sentence encoder: the mean of the last layer over the tokens of a text, or as its own recipe says.

    Args:
        name: On the Hugging Face hub, or a folder.

    Raises:
        UserError: Where no library for it is installed, or where it cannot be had on this machine.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        library = next((known for known in ("sentence_transformers", "transformers") if find_spec(known)), None)
        if library is None:
            raise UserError(
                f"The text encoder '{name}' needs sentence-transformers or transformers, and neither is installed: "
                "pip install 'sparring[text]', or leave --text out for the encoder that is built in."
            )
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        self.model: Any
        self.tokens: Any
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.model, self.tokens = sentences(name) if library == "sentence_transformers" else words(name)
                self.width = self(["a"]).shape[1]
        except Exception as error:  # the hub, the network and damaged files raise a dozen kinds
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"The text encoder '{name}' cannot be had on this machine, or reads no texts ({reason}): check its "
                "name and the connection, or give the folder that holds it."
            ) from None
        self.hash = digest(library.encode(), *(bytes_of(tensor) for tensor in self.model.state_dict().values()))

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        if hasattr(self.model, "encode"):
            found = self.model.encode(list(texts), batch_size=BATCH, show_progress_bar=False, convert_to_numpy=True)
            return np.asarray(found, np.float32)
        parts = [self.means(list(texts[k : k + BATCH])) for k in range(0, len(texts), BATCH)]
        return torch.cat(parts).float().numpy()

    def means(self, texts: list[str]) -> Tensor:
        """Mean of the last layer over the tokens of each text, (B, W)."""
        given = self.tokens(texts, padding=True, truncation=True, max_length=self.longest, return_tensors="pt")
        there = given["attention_mask"][..., None].float()
        return (self.model(**given).last_hidden_state * there).sum(1) / there.sum(1)

    @property
    def longest(self) -> int:
        """Tokens that are read."""
        places = getattr(getattr(self.model, "config", None), "max_position_embeddings", 512)
        own = getattr(self.model, "max_seq_length", None)
        return int(min(own or places, self.tokens.model_max_length))

    def read(self, text: str) -> int:
        def needed(count: int) -> int:  # tokens
            return len(self.tokens(text[:count], truncation=False, verbose=False)["input_ids"])

        if needed(len(text)) <= self.longest:
            return len(text)
        return len(text[: bisect_right(range(len(text)), self.longest, key=needed) - 1].rstrip())


def sentences(name: str) -> tuple[Any, Any]:
    """A model of sentence-transformers and its tokenizer."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(name, device="cpu").eval()
    return model, getattr(model.tokenizer, "tokenizer", model.tokenizer)  # of a processor of texts and images


def words(name: str) -> tuple[nn.Module, Any]:
    """The part of a model of transformers that reads texts, and its tokenizer."""
    from transformers import AutoModel, AutoTokenizer

    model, tokens = AutoModel.from_pretrained(name), AutoTokenizer.from_pretrained(name)
    if model.config.is_encoder_decoder:
        model = model.get_encoder()
    model = getattr(model, "text_model", model)  # beside a model of images
    if tokens.pad_token is None:
        tokens.pad_token = tokens.eos_token
    return model.eval().requires_grad_(False), tokens


def bytes_of(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes() if tensor.ndim else b""
