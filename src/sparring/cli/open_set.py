"""Features of one's own network, and what open-set recognition makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from sparring.cli.words import Output, say
from sparring.errors import UserError


@dataclass
class Features:
    """Turn images into features by a network that is trained already, for `train opengan` and others."""

    backbone: Annotated[
        Positional[str],
        arg(metavar="BACKBONE", help="A run, a file of torch.export or TorchScript, module:function, or a timm name."),
    ]
    data: Annotated[Positional[str], arg(metavar="DATA", help="A folder of images, or other data as for train.")]
    out: Annotated[Path, arg(metavar="PATH", help="The .npz file to write.")] = Path("features.npz")
    layer: Annotated[str | None, arg(metavar="TEXT", help="Layer by name; by default what the last one is given.")] = (
        None
    )
    split: Annotated[str | None, arg(metavar="TEXT", help="One part of the data; by default all of them.")] = None
    size: Annotated[int | None, arg(metavar="N", help="Side in pixels, where the network does not say.")] = None
    channels: Annotated[
        Literal[1, 3] | None, arg(metavar="{1,3}", help="1 for grey, 3 for colour, where the network does not say.")
    ] = None
    limit: Annotated[int | None, arg(metavar="N", help="Use a random subset of at most so many of each part.")] = None
    json: Output = False

    def __call__(self) -> dict[str, Any]:
        from sparring.data import open_source, splits_of
        from sparring.data.encoded import save_features
        from sparring.encoders import open_encoder

        if self.out.suffix != ".npz":
            raise UserError(f"'{self.out}' is no file of features that can be written: give one that ends in .npz.")
        encoder = open_encoder(self.backbone, self.layer)
        if encoder.view and (self.size or self.channels):
            raise UserError(f"{encoder.name} says itself what images it takes: leave --size and --channels out.")
        view: dict[str, Any] = {"size": self.size, "channels": self.channels, **encoder.view}
        splits: tuple[str | None, ...] = (self.split,) if self.split else splits_of(self.data) or (None,)
        parts = {
            split: encoder.encode(open_source(self.data, split=split, limit=self.limit, **view), say)
            for split in splits
        }
        save_features(self.out, parts)
        counts = {split or "all": len(part) for split, part in parts.items()}
        width = next(iter(parts.values())).items.shape[1]
        say(f"{self.out} holds {width} features of {sum(counts.values()):,} examples.")
        return {"out": str(self.out), "encoder": encoder.hash, "features": width, "examples": counts}
