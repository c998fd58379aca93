"""What a trained generator is asked for: samples, classes, walks, neighbours of images, arithmetic; and bad input."""

from __future__ import annotations

import resource
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from sparring import load, train
from sparring.errors import UserError
from sparring.protocol import Game, Recipe, Spec
from sparring.sampling import Sampler, terms
from tiny import VECTORS

pytestmark = pytest.mark.usefixtures("eager")


class Toy(Game):
    """Images whose pixels are known: z fills the image, the class adds a hundredth for each number."""

    needs = ("x", "label")

    def __init__(self, classes=("cat", "dog", "owl"), needs=("x", "label")):
        self.needs = needs
        super().__init__(Spec((1, 2, 2), 10, classes), Recipe())

    @classmethod
    def needed(cls, recipe):
        return ("x",)

    conditional = property(lambda self: "label" in self.needs)

    def latent(self, n):
        return torch.rand(n, 3)

    def generate(self, n, z=None, label=None):
        y = self.latent(n) if z is None else z
        assert len(y) == n
        shift = 0 if label is None else label.float().view(-1, 1, 1, 1) / 100
        return y.mean(1).view(-1, 1, 1, 1).expand(-1, 1, 2, 2) / 2 + shift

    def encode(self, x):
        return 2 * x.flatten(1)[:, :1].expand(-1, 3)

    def players(self):
        return {}

    def round(self, draw, step):
        yield from ()


@dataclass
class Mute(Game):
    """A game that generates nothing."""

    def __init__(self):
        Game.__init__(self, Spec((1, 2, 2), 10), Recipe())

    def players(self):
        return {}

    def round(self, draw, step):
        yield from ()


def sampler(seed=0, **settings):
    return Sampler(Toy(**settings), "toy", seed)


def plain(seed=0):
    return sampler(seed, needs=("x",))


def values(images):
    return images[:, 0, 0, 0]


def made(of, n, label=None):
    return torch.cat(list(of.parts(n, label)))


def test_sample_k_is_the_same_whatever_the_number_of_samples():
    few, many = made(plain(), 5), made(plain(), 200)
    assert torch.equal(few, many[:5])
    assert [len(part) for part in plain().parts(130)] == [64, 64, 2]
    assert not torch.equal(many[:64], many[64:128]), "parts differ"
    assert not torch.equal(few, made(plain(1), 5)), "seeds differ"
    torch.testing.assert_close(plain().decode(plain().latents([0, 70, 199])), many[[0, 70, 199]])


def test_nothing_outside_changes():
    state = torch.get_rng_state()
    for of in (sampler(), plain()):
        made(of, 5)
        of.walk()
        of.like(torch.zeros(2, 1, 2, 2))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("label", ["dog", 1, "1", np.int64(1), torch.ones(70, dtype=torch.int64), ["dog"] * 70])
def test_a_class_by_name_and_by_number(label):
    expected = made(plain(), 70) + 0.01
    torch.testing.assert_close(made(sampler(), 70, label), expected)


def test_without_a_label_every_class_comes():
    shift = made(sampler(), 300) - made(plain(), 300)
    counts = torch.bincount((values(shift) * 100).round().long())
    assert len(counts) == 3
    assert counts.min() > 70
    assert torch.equal(made(sampler(), 10), made(sampler(), 300)[:10])


def test_classes_named_by_numbers_go_by_name():
    of = sampler(classes=("3", "5"))
    assert of.class_number("5") == of.class_number(5) == 1
    assert of.labels([3, "5", 3], 3).tolist() == of.labels(torch.tensor([0, 1, 0]), 3).tolist() == [0, 1, 0]
    with pytest.raises(UserError, match=r"There is no class '1': .*"):
        of.class_number(1)


@pytest.mark.parametrize(
    ("label", "sentence"),
    [
        ("dgo", "There is no class 'dgo': did you mean 'dog'?"),
        ("7", "There is no class '7': choose one of cat, dog, owl."),
        (3, "There is no class '3'"),
        (-1, "There is no class '-1'"),
        ([0, 1], "Labels must be 5 numbers from 0 to 2"),
        ([0, 1, 2, 3, 0], "There is no class '3'"),
        (torch.tensor([0, 1, 2, 3, 0]), "Labels must be 5 numbers from 0 to 2"),
    ],
)
def test_labels_that_are_refused_at_once(label, sentence):
    with pytest.raises(UserError, match=sentence.replace("?", r"\?")):
        sampler().parts(5, label)


def test_a_walk_goes_straight_from_sample_to_sample():
    lines = plain().walk()
    assert lines.shape == (8, 10, 1, 2, 2)
    anchors = values(made(plain(), 9))
    torch.testing.assert_close(values(lines[:, 0]), anchors[:-1])
    torch.testing.assert_close(values(lines[:, -1]), anchors[1:])
    steps = lines[:, :, 0, 0, 0].diff(dim=1)
    torch.testing.assert_close(steps, steps[:, :1].expand(-1, 9), atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(sampler().walk("owl"), lines + 0.02)
    shift = sampler().walk() - lines
    assert shift.flatten().std() < 1e-6, "all of one class, of whichever"


def test_neighbours_lie_within_the_spread():
    z = torch.randn(2, 3)
    near = plain().around(z, 500, 0.25) - z[:, None]
    assert near.shape == (2, 500, 3)
    assert 0.24 < float(near.abs().max()) <= 0.25
    assert float(near.mean()) == pytest.approx(0, abs=0.02)
    assert float(near.var()) == pytest.approx(0.5**2 / 12, rel=0.1)
    assert torch.equal(plain(3).around(z, 4, 0.0), z[:, None].expand(2, 4, 3))


def test_like_shows_an_image_its_reconstruction_and_its_neighbours():
    x = torch.tensor([0.1, 0.4]).view(2, 1, 1, 1).expand(2, 1, 2, 2)
    rows = plain().like(x, 5, 0.02)
    assert rows.shape == (2, 7, 1, 2, 2)
    assert torch.equal(rows[:, 0], x)
    torch.testing.assert_close(rows[:, 1], x)
    off = (rows[:, 2:] - x[:, None]).abs()
    assert 0 < float(off.max()) <= 0.01
    torch.testing.assert_close(plain().like(x, 0)[:, 1], x)


@pytest.mark.parametrize(
    ("text", "signs"),
    [
        ("A - B + C", {"A": 1, "B": -1, "C": 1}),
        ("smiling woman-neutral woman +neutral man", {"smiling woman": 1, "neutral woman": -1, "neutral man": 1}),
        ("-A+B", {"A": -1, "B": 1}),
        ("A", {"A": 1}),
        ("A + A - B", {"A": 2, "B": -1}),
    ],
)
def test_arithmetic_is_read(text, signs):
    assert terms(text) == signs


@pytest.mark.parametrize("text", ["", " ", "A -", "A + + B", "+", "- - A"])
def test_what_is_no_arithmetic(text):
    with pytest.raises(UserError, match="is no arithmetic: write names"):
        terms(text)


def test_arithmetic_of_means_by_hand():
    groups = {"A": torch.rand(3, 3), "B": torch.rand(2, 3), "C": torch.rand(1, 3)}
    found = plain().calculate(terms("A - B + C"), groups, spread=0.25)
    assert found.shape == (9, 1, 2, 2)
    middle = (groups["A"].mean(0) - groups["B"].mean(0) + groups["C"][0]).mean() / 2
    assert float(values(found)[4]) == pytest.approx(float(middle), abs=1e-6)
    off = (values(found) - middle).abs()
    assert sorted(off.tolist())[1] > 0
    assert float(off.max()) <= 0.125
    torch.testing.assert_close(
        sampler().calculate(terms("A"), groups, "owl"), plain().calculate(terms("A"), groups) + 0.02
    )


def test_models_that_cannot():
    with pytest.raises(UserError, match=r"A run of mute cannot generate: train a generator, such as dcgan\."):
        Sampler(Mute(), "mute")
    with pytest.raises(UserError, match=r"--seed must be a whole number, 0 or more and below 2\^63; got -1\."):
        plain(-1)
    with pytest.raises(UserError, match="must be 1 or more; got 0"):
        plain().parts(0)
    for ask in (lambda: plain().parts(2, "cat"), lambda: plain().walk("cat")):
        with pytest.raises(UserError, match="makes images of no class in particular: leave --label out"):
            ask()


@pytest.fixture(scope="session")
def bigan(tmp_path_factory):
    """A run of bigan on `digits`; not to be changed."""
    recipe = {"batch": 16, "latent": 4, "hidden": 16, "rounds": 4}
    return train("bigan", "digits", out=tmp_path_factory.mktemp("bigan") / "run", recipe=recipe).folder


@pytest.fixture(scope="session")
def cdcgan(tmp_path_factory):
    """A run of cdcgan on three digits; not to be changed."""
    recipe = {"batch": 16, "latent": 4, "hidden": 16, "width": 4, "rounds": 4}
    out = tmp_path_factory.mktemp("cdcgan") / "run"
    return train("cdcgan", "digits", out=out, size=16, recipe=recipe, classes=("3", "5", "7")).folder


def size(path):
    with Image.open(path) as image:
        return image.size


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_samples_of_a_class(call, cdcgan):
    found = call("sample", cdcgan, "--label", "7", "--n", "6", "--out", "made.png", "--json").json
    assert found == {"run": str(cdcgan), "n": 6, "seed": 0, "files": ["made.png"]}
    run = load(cdcgan)
    assert torch.equal(run.sample(6, label="7"), run.sample(6, label=[7] * 6))
    assert torch.equal(run.sample(6, label="7"), run.sample(6, label=torch.full((6,), 2)))
    assert not torch.equal(run.sample(6, label="7"), run.sample(6, label="3"))
    call("sample", cdcgan, "--label", "3", "--n", "6", "--out", "other.png", "--json")
    assert not np.array_equal(pixels("made.png"), pixels("other.png"))


def test_a_row_of_every_class(call, cdcgan):
    said = call("sample", cdcgan, "--label", "all", "--n", "5", "--out", "all.png", "--json")
    assert (said.json["n"], said.json["files"]) == (15, ["all.png"])
    assert "15 sample(s) are in all.png." in said.err
    assert size("all.png") == (5 * 66 + 2, 3 * 66 + 2)
    rows = [np.rint((load(cdcgan).sample(5, label=k).numpy() + 1) * 127.5) for k in ("3", "5", "7")]
    picture = pixels("all.png")
    for k, row in enumerate(rows):
        tiles = np.stack([picture[2 + 66 * k :, 2 + 66 * j :][:64:4, :64:4] for j in range(5)])
        np.testing.assert_array_equal(tiles, row[:, 0])
    call("sample", cdcgan, "--label", "all", "--n", "2", "--out", "folder", "--json")
    names = sorted(str(path) for path in Path("folder").rglob("*.png"))
    assert names == [f"folder/{kind}/0000{k}.png" for kind in "357" for k in range(2)]


def test_a_walk_is_a_grid_and_a_film(call, bigan):
    said = call("sample", bigan, "--walk", "--out", "made/walk.png", "--json")
    assert said.json["files"] == ["made/walk.png", "made/walk.gif"]
    assert "The pictures are in made/walk.png and made/walk.gif." in said.err
    assert size("made/walk.png") == (10 * 66 + 2, 8 * 66 + 2)
    with Image.open("made/walk.gif") as film:
        assert (film.size, film.info["loop"]) == ((128, 128), 0)
        first = np.asarray(film.convert("L"))
        shown = [frame.info["duration"] for frame in ImageSequence.Iterator(film)]
        assert sum(shown) == 80 * (8 * 9 + 1), "frames that do not differ are one that lasts"
    made = np.rint((load(bigan).sample(1)[0, 0].numpy() + 1) * 127.5)
    np.testing.assert_allclose(first[::16, ::16], made, atol=1)


def test_everything_follows_from_the_seed(call, bigan):
    for options in (["--walk"], ["--like", "digits"], ["--arithmetic", "A - B", "--group", "A=1,2", "--group", "B=3"]):
        for k, seed in enumerate((3, 3, 4)):
            call("sample", bigan, *options, "--seed", seed, "--out", f"{k}.png", "--json")
        assert np.array_equal(pixels("0.png"), pixels("1.png"))
        assert not np.array_equal(pixels("0.png"), pixels("2.png"))


def test_like_an_image_and_like_a_folder(call, bigan, paint):
    paint(*(f"in/{k}.png" for k in range(3)))
    found = call("sample", bigan, "--like", "in", "--out", "like.png", "--json").json
    assert found == {"run": str(bigan), "seed": 0, "files": ["like.png"]}
    assert size("like.png") == (10 * 66 + 2, 3 * 66 + 2)
    call("sample", bigan, "--like", "in/1.png", "--n", "2", "--spread", "0", "--out", "one.png", "--json")
    assert size("one.png") == (4 * 66 + 2, 66 + 2)
    _, rebuilt, *near = np.split(pixels("one.png")[2:, 2:], 4, axis=1)
    assert all(np.array_equal(rebuilt, other) for other in near), "without noise they are the reconstruction"
    call("sample", bigan, "--like", "digits", "--out", "many.png", "--json")
    assert size("many.png")[1] == 16 * 66 + 2, "at most 16 rows"


def test_arithmetic_of_samples_and_of_images(call, bigan, paint):
    paint(*(f"in/{k}.png" for k in range(3)))
    groups = ["--group", "A=0,1,2", "--group", "B=5", "--group", "C=in,in/1.png"]
    found = call("sample", bigan, "--arithmetic", "A - B + C", *groups, "--out", "sum.png", "--json").json
    assert found["files"] == ["sum.png", "sum-groups.png"]
    assert size("sum.png") == (3 * 66 + 2, 3 * 66 + 2)
    assert size("sum-groups.png") == (5 * 66 + 2, 3 * 66 + 2)
    run = load(bigan)
    shown = pixels("sum-groups.png")[2:66:8, 2:][:, : 3 * 66].reshape(8, 3, 66)[:, :, :64:8]
    expected = np.rint((run.sample(3)[:, 0].numpy() + 1) * 127.5).transpose(1, 0, 2)
    np.testing.assert_array_equal(shown, expected)
    call("sample", bigan, "--arithmetic", "A", "--group", "A=4", "--spread", "0", "--out", "same.png", "--json")
    middle = pixels("same.png")[68:132:8, 68:132:8]
    np.testing.assert_array_equal(middle, np.rint((run.sample(5)[4, 0].numpy() + 1) * 127.5))


def test_samples_as_an_array(call, bigan):
    found = call("sample", bigan, "--n", "70", "--out", "made.npy", "--json").json
    stored = np.load(found["files"][0])
    assert (stored.shape, stored.dtype) == ((70, 8, 8), np.uint8)
    np.testing.assert_array_equal(stored, np.rint((load(bigan).sample(70)[:, 0].numpy() + 1) * 127.5))


def test_many_samples_never_fill_the_memory(call, bigan, monkeypatch):
    """Ten thousand single images: parts of 64 are written as they come."""
    alive = []
    monkeypatch.setattr("sparring.pictures.save", lambda image, path: alive.append(path))
    generate, sizes = load(bigan).game.generate, []
    monkeypatch.setattr(
        type(load(bigan).game), "generate", lambda self, n, z=None: sizes.append((n, len(alive))) or generate(n, z)
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    call("sample", bigan, "--n", "10000", "--out", "many", "--json")
    assert sizes == [(min(64, 10_000 - k), k) for k in range(0, 10_000, 64)], "one part at a time, then its files"
    assert len(alive) == 10_000
    assert alive[-1] == Path("many/09999.png")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB


def left():
    return sorted(path.name for path in Path().iterdir() if path.name not in ("in", "in.png"))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--label", "7"], "A run of bigan makes images of no class in particular: leave --label out"),
        (["--label", "all"], "A run of bigan makes images of no class in particular"),
        (["--walk", "--label", "7"], "makes images of no class in particular"),
        (["--n", "0"], "--n is the number of images to make and must be 1 or more; got 0."),
        (["--label", "7", "--n", "-3"], "must be 1 or more; got -3."),
        (["--seed", "-1"], "--seed must be a whole number, 0 or more and below 2^63; got -1."),
        (["--walk", "--seed", "-1"], "--seed must be a whole number"),
        (["--walk", "--like", "in"], "--walk and --like draw different pictures: ask for one at a time."),
        (["--walk", "--n", "5"], "The number of images of --walk is fixed: leave --n out."),
        (["--walk", "--label", "all"], "name one for --walk, or leave --label out."),
        (["--walk", "--out", "folder"], "--walk writes a picture: give a file that ends in .png, not 'folder'."),
        (["--walk", "--out", "walk.gif"], "give a file that ends in .png, not 'walk.gif'."),
        (["--like", "nowhere.png"], "There is no file or folder 'nowhere.png'"),
        (["--like", "in"], "The folder 'in' is empty"),
        (["--like", "digits", "--label", "3"], "leave --label out."),
        (["--like", "digits", "--n", "0"], "must be 1 or more; got 0."),
        (
            ["--like", "digits", "--spread", "-1"],
            "--spread is a distance in latent space and must be 0 or more",
        ),
        (["--like", "digits", "--spread", "nan"], "--spread is a distance"),
        (["--like", "digits", "--out", "like.jpg"], "give a file that ends in .png, not 'like.jpg'."),
        (["--group", "A=1"], "--group names what --arithmetic adds up"),
        (["--arithmetic", "A -", "--group", "A=1"], "'A -' is no arithmetic"),
        (["--arithmetic", "", "--group", "A=1"], "'' is no arithmetic"),
        (["--arithmetic", "A - B", "--group", "A=1"], "--arithmetic needs to know who 'B' is: add --group 'B=1,2,3'."),
        (["--arithmetic", "A", "--group", "B=1"], "There is no name in --arithmetic 'B'"),
        (["--arithmetic", "A", "--group", "A"], "--group takes name=1,2,3 or name=FOLDER, once a name; got 'A'."),
        (["--arithmetic", "A", "--group", "A="], "--group takes name=1,2,3"),
        (["--arithmetic", "A", "--group", "A=1", "--group", "A=2"], "once a name; got 'A=2'."),
        (["--arithmetic", "A", "--group", "A=nowhere"], "There is no file or folder 'nowhere'"),
        (["--arithmetic", "A", "--group", "A=1,-2"], "commas between them, as in 1,2,3; got '1,-2'."),
        (["--arithmetic", "A", "--group", "A=1-3"], "The numbers of --group stand with commas between them"),
    ],
)
def test_sample_refuses(call, bigan, options, sentence):
    Path("in").mkdir()
    assert sentence in call("sample", bigan, *options, status=2).sentence
    assert left() == []


def test_classes_that_are_not_there(call, cdcgan):
    for options in ([], ["--walk"], ["--arithmetic", "A", "--group", "A=1"]):
        said = call("sample", cdcgan, *options, "--label", "8", "--out", "out/a.png", status=2)
        assert said.sentence.startswith("There is no class '8': ")
    assert "There is no class '1'" in call("sample", cdcgan, "--label", "1", status=2).sentence, (
        "names outweigh numbers"
    )
    assert "name one class to write an array" in call(
        "sample", cdcgan, "--label", "all", "--out", "a.npy", status=2
    ).sentence  # fmt: skip
    assert left() == []


def test_images_need_an_encoder(call, generator, detector):
    wanted = "A run of dcgan cannot encode images: train a generator with an encoder, such as bigan or wali."
    assert call("sample", generator, "--like", "digits", status=2).sentence == wanted
    options = ["--arithmetic", "A", "--group", "A=digits"]
    assert call("sample", generator, *options, status=2).sentence == wanted
    assert "cannot generate" in call("sample", detector, "--walk", status=2).sentence
    assert left() == []


def test_vectors_are_not_pictured(call, features):
    settings = [f"--set={key}={value}" for key, value in VECTORS.items()]
    call("train", "gan", features, *settings, "--out", "run", "--json")
    said = call("sample", "run", "--walk", status=2)
    assert said.sentence == "'run' was trained on vectors, and --walk draws images: leave it out."
    call("sample", "run", "--n", "70", "--out", "made.npy", "--json")
    np.testing.assert_array_equal(np.load("made.npy"), load("run").sample(70).numpy())


def test_images_of_another_form_are_seen_as_the_run_was_trained(call, bigan, paint):
    paint("in/0.png", size=(64, 40))
    call("sample", bigan, "--like", "in/0.png", "--out", "like.png", "--json")
    assert size("like.png") == (10 * 66 + 2, 66 + 2)
