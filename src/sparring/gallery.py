"""Pictures of what a run can make, as files: samples, classes, texts, walks, neighbours of images, arithmetic."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sparring import pictures
from sparring.data import splits_of, to_tensor
from sparring.errors import UserError, unknown
from sparring.files import whole
from sparring.run import Run
from sparring.sampling import NEIGHBOURS, SPREAD, STEPS, Sampler, terms
from sparring.text import cut

SHOWN = 16  # images that are shown with their neighbours


def draw(
    run: Run, out: Path | None = None, *, n: int | None = None, seed: int = 0, label: str | None = None,
    walk: bool = False, like: str | None = None, arithmetic: str | None = None, group: Sequence[str] = (),
    spread: float = SPREAD, text: str | None = None, texts: Path | None = None,
    interpolate: Sequence[str] | None = None, stage: int | None = None,
) -> tuple[dict[str, Any], str]:  # fmt: skip
    """Do what `sparring sample` is asked for: one of the functions below, into the run's folder by default.

    Returns:
        What was made, of which at most 10 files are listed, and a sentence on where it is.

    Raises:
        UserError: For what does not go together, and as the functions below.
    """
    pictured = {
        "--walk": walk, "--like": like is not None, "--arithmetic": arithmetic is not None,
        "--texts": texts is not None, "--interpolate": bool(interpolate),
    }  # fmt: skip
    asked = [option for option, given in pictured.items() if given]
    if text is not None and (asked or label is not None):
        raise UserError(f"--text and {asked[0] if asked else '--label'} ask for different images: leave one out.")
    check_options(asked, n, label, group, spread)
    run = replace(run, stage=stage)
    path = out or run.folder / f"{asked[0].removeprefix('--') if asked else 'samples'}.png"
    count = (NEIGHBOURS if asked or label == "all" else 64) if n is None else n
    if walk:
        files = write_walk(run, path, seed, label)
    elif like is not None:
        files = write_like(run, path, like, count, seed, spread)
    elif arithmetic is not None:
        files = write_arithmetic(run, path, arithmetic, group, seed, label, spread)
    elif label == "all":
        files = write_classes(run, path, count, seed)
        count *= len(run.spec.classes)
    elif texts is not None:
        files = write_texts(run, path, lines(texts), count, seed)
    elif interpolate:
        files = write_between(run, path, interpolate, count, seed)
    else:
        caption = None if text is None else vectors(run, [text])[0]
        files = write_samples(run, path, count, seed, label, caption)
    where = " and ".join(map(str, files)) if len(files) < 3 else str(path)
    count *= len(lines(texts)) if texts is not None else 1
    what = f"{count} sample(s) are" if not asked else "The pictures are" if len(files) > 1 else "The picture is"
    made = {} if asked else {"n": count}
    return {"run": str(run.folder), **made, "seed": seed, "files": [str(file) for file in files[:10]]}, (
        f"{what} in {where}."
    )


def check_options(asked: list[str], n: int | None, label: str | None, group: Sequence[str], spread: float) -> None:
    """Raise a UserError for options that do not go together, and for numbers out of their range."""
    if len(asked) > 1:
        raise UserError(f"{asked[0]} and {asked[1]} draw different pictures: ask for one at a time.")
    if group and asked != ["--arithmetic"]:
        raise UserError("--group names what --arithmetic adds up: add --arithmetic 'A - B + C', or leave it out.")
    if asked and label == "all":
        raise UserError(f"--label all makes a row of each class: name one for {asked[0]}, or leave --label out.")
    if asked in (["--like"], ["--texts"], ["--interpolate"]) and label is not None:
        raise UserError(f"{asked[0]} says itself what is shown: leave --label out.")
    if asked in (["--walk"], ["--arithmetic"]) and n is not None:
        raise UserError(f"The number of images of {asked[0]} is fixed: leave --n out.")
    if n is not None and n < 1:
        raise UserError(f"--n is the number of images to make and must be 1 or more; got {n}.")
    if not 0 <= spread < math.inf:
        raise UserError(f"--spread is a distance in latent space and must be 0 or more; got {spread:g}.")


def write_samples(
    run: Run, path: Path, n: int = 64, seed: int = 0, label: Any = None, caption: Tensor | None = None
) -> list[Path]:
    """Write n samples, part by part: a grid to a .png file, one array to an .npy file, else single images to a folder.

    Vectors go to an .npy file in any case. An array of images is uint8, (n, H, W) or (n, H, W, C).
    """
    sampler = run.sampler(seed)
    check_picture(run, path)
    if not run.spec.is_image:
        path = path.with_suffix(".npy")
    parts = sampler.parts(n, label, caption)
    if path.suffix == ".npy":
        write_array(path, n, (as_bytes(part) for part in parts) if run.spec.is_image else (y.numpy() for y in parts))
        return [path]
    if path.suffix == ".png":
        pictures.save(pictures.grid(np.concatenate([pictures.as_uint8(part) for part in parts])), path)
        return [path]
    return write_singly(path, n, parts)


def write_classes(run: Run, path: Path, n: int = NEIGHBOURS, seed: int = 0) -> list[Path]:
    """Write n samples of every class: a grid with one row a class, or a folder with a sub-folder a class.

    All classes are made of the same latent vectors.
    """
    sampler = run.sampler(seed)
    classes = sampler.classes
    check_picture(run, path)
    if path.suffix != ".png" or not run.spec.is_image:
        if not run.spec.is_image or path.suffix == ".npy":
            raise UserError("--label all makes a picture or a folder of images: name one class to write an array.")
        folders = {name: path / name.replace("/", "_") for name in classes}
        return [file for name in classes for file in write_singly(folders[name], n, sampler.parts(n, name))]
    rows = [pictures.as_uint8(part) for name in classes for part in sampler.parts(n, name)]
    pictures.save(pictures.grid(np.concatenate(rows), columns=n), path)
    return [path]


def vectors(run: Run, texts: Sequence[str]) -> Tensor:
    """What the text encoder of a run makes of these texts, (N, W); says where one is cut.

    Raises:
        UserError: For an empty text, or a run that reads none.
    """
    encoder = run.text_encoder
    if not all(map(str.strip, texts)):
        raise UserError("The text is empty: say what the images shall show.")
    note = cut(encoder, texts)
    if note:
        print(note, file=sys.stderr)
    return torch.from_numpy(encoder(texts))


def lines(path: Path) -> list[str]:
    """The texts in a file, one a line; empty lines are left out."""
    try:
        found = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"'{path}' is not readable as text ({error}): give a file with one text a line.") from None
    if not found:
        raise UserError(f"'{path}' holds no text: write one a line.")
    return found


def write_texts(run: Run, path: Path, texts: Sequence[str], n: int = NEIGHBOURS, seed: int = 0) -> list[Path]:
    """Write n samples of every text, all of the same latent vectors: a grid, a row a text, or a folder of folders."""
    sampler, captions = run.sampler(seed), vectors(run, texts)
    check_picture(run, path)
    if path.suffix == ".npy":
        raise UserError("--texts makes a picture or a folder of images: ask for one --text to write an array.")
    if path.suffix != ".png":
        folders = [path / f"{k:05d}" for k in range(len(texts))]
        pairs = zip(folders, captions, strict=True)
        return [file for folder, one in pairs for file in write_singly(folder, n, sampler.parts(n, caption=one))]
    rows = [pictures.as_uint8(part) for one in captions for part in sampler.parts(n, caption=one)]
    pictures.save(pictures.grid(np.concatenate(rows), columns=n), path)
    return [path]


def write_between(run: Run, path: Path, ends: Sequence[str], n: int = NEIGHBOURS, seed: int = 0) -> list[Path]:
    """Write a grid that goes straight from one of two texts to the other, each of n rows of its own latent vector."""
    need_png(run, path, "--interpolate")
    sampler, (a, b) = run.sampler(seed), vectors(run, ends)
    way = [torch.lerp(a, b, t) for t in torch.linspace(0, 1, STEPS).tolist()]
    z = sampler.latents(range(n))
    made = torch.stack([sampler.decode(z, caption=caption) for caption in way], 1)
    pictures.save(pictures.grid(made.flatten(0, 1), columns=STEPS), path)
    return [path]


def write_walk(run: Run, path: Path, seed: int = 0, label: Any = None) -> list[Path]:
    """Write a walk through latent space: a grid, one line a row, and beside it an animated .gif."""
    need_png(run, path, "--walk")
    lines = run.sampler(seed).walk(label)
    pictures.save(pictures.grid(lines.flatten(0, 1), columns=lines.shape[1]), path)
    frames = torch.cat([lines[:, :-1].flatten(0, 1), lines[-1:, -1]])  # a line begins where the one before it ended
    film = path.with_suffix(".gif")
    pictures.animate(frames, film)
    return [path, film]


def write_like(
    run: Run, path: Path, data: Any, n: int = NEIGHBOURS, seed: int = 0, spread: float = SPREAD
) -> list[Path]:
    """Write a grid with a row for each of at most 16 images: the image, its reconstruction, n neighbours."""
    need_png(run, path, "--like")
    rows = run.sampler(seed).like(images(run, data, SHOWN), n, spread)
    pictures.save(pictures.grid(rows.flatten(0, 1), columns=rows.shape[1]), path)
    return [path]


def write_arithmetic(
    run: Run, path: Path, expression: str, groups: Sequence[str], seed: int = 0, label: Any = None,
    spread: float = SPREAD,
) -> list[Path]:  # fmt: skip
    """Write the result amid its neighbours, and beside it the groups: a row each, the image of its mean at the end.

    Args:
        expression: Names with + and - between them.
        groups: "name=1,2,3" for numbers of samples of this seed, or "name=FOLDER" for images; one for every name.
    """
    need_png(run, path, "--arithmetic")
    sampler, signs = run.sampler(seed), terms(expression)
    texts: dict[str, str] = {}
    for text in groups:
        name, found, value = (part.strip() for part in text.partition("="))
        if not (name and found and value) or name in texts:
            raise UserError(f"--group takes name=1,2,3 or name=FOLDER, once a name; got '{text}'.")
        if name not in signs:
            raise unknown("name in --arithmetic", name, signs)
        texts[name] = value
    missing = [name for name in signs if name not in texts]
    if missing:
        raise UserError(f"--arithmetic needs to know who '{missing[0]}' is: add --group '{missing[0]}=1,2,3'.")
    latents = {name: latents_of(run, sampler, text) for name, text in texts.items()}
    pictures.save(pictures.grid(sampler.calculate(signs, latents, label, spread), columns=3), path)
    beside = path.with_name(f"{path.stem}-groups.png")
    columns = 1 + max(map(len, latents.values()))
    rows = [padded(sampler.decode(torch.cat([z, z.mean(0)[None]]), label), columns) for z in latents.values()]
    pictures.save(pictures.grid(torch.cat(rows), columns=columns), beside)
    return [path, beside]


def latents_of(run: Run, sampler: Sampler, group: str) -> Tensor:
    """The latent vectors of samples by their numbers, or of the images in files and folders."""
    members = [part.strip() for part in group.split(",")]
    if all(part.isdecimal() for part in members):
        return sampler.latents([int(part) for part in members])
    if re.fullmatch(r"[\d\s,;:.-]+", group) and not Path(group).exists():
        raise UserError(f"The numbers of --group stand with commas between them, as in 1,2,3; got '{group}'.")
    return torch.cat([sampler.encode(images(run, part)) for part in members])


def images(run: Run, data: Any, limit: int | None = None) -> Tensor:
    """Open images as the run was trained to see them, the test split where there are splits: (N, C, H, W)."""
    run.sampler().need_encoder()
    split = "test" if "test" in splits_of(data) else None
    source = run.open(data, split=split, limit=limit)
    return to_tensor(source.read(slice(None)))


def padded(row: Tensor, columns: int) -> Tensor:
    """Put white images before the last, so that there are as many as columns."""
    blank = torch.ones(columns - len(row), *row.shape[1:])
    return torch.cat([row[:-1], blank, row[-1:]])


def need_png(run: Run, path: Path, option: str) -> None:
    """Raise a UserError where there is no picture to draw, or nowhere to put it."""
    if not run.spec.is_image:
        raise UserError(f"'{run.folder}' was trained on vectors, and {option} draws images: leave it out.")
    if path.suffix != ".png":
        raise UserError(f"{option} writes a picture: give a file that ends in .png, not '{path.name}'.")


def check_picture(run: Run, path: Path) -> None:
    """Raise a UserError for the name of a picture that is no .png."""
    if run.spec.is_image and path.suffix != ".png" and path.suffix.lower() in Image.registered_extensions():
        raise UserError(f"Grids are written as PNG: give a file that ends in .png, not '{path.name}', or a folder.")


def write_singly(folder: Path, n: int, parts: Iterator[Tensor]) -> list[Path]:
    """Write each image to a file of its own as it comes.

    Raises:
        UserError: Where that would write over the user's own file.
    """
    digits = max(5, len(str(n - 1)))
    names = [folder / f"{k:0{digits}d}.png" for k in range(n)]
    pictures.spare(names)
    rest = iter(names)
    for part in parts:
        for image in part:
            pictures.save(pictures.as_picture(image), next(rest))
    return names


def as_bytes(part: Tensor) -> np.ndarray:
    """Images (B, C, H, W) as they are stored: uint8, (B, H, W) where grey, else (B, H, W, C)."""
    stored = pictures.as_uint8(part)
    return stored[..., 0] if stored.shape[-1] == 1 else stored


def write_array(path: Path, n: int, parts: Iterator[np.ndarray]) -> None:
    """Write the rows of an .npy file as they come, whole or not at all."""
    with whole(path) as file:
        for k, part in enumerate(parts):
            if k == 0:
                form = {"descr": part.dtype.str, "fortran_order": False, "shape": (n, *part.shape[1:])}
                np.lib.format.write_array_header_1_0(file, form)
            file.write(np.ascontiguousarray(part).data)
