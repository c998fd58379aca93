"""What a discriminator has learnt: its features under a linear classifier, and its filters as pictures."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from sparring import load, train
from sparring.data import batches, open_source, to_tensor
from sparring.errors import UserError
from sparring.filters import Guided, filters, guided, most_excited, scaled, traced
from sparring.models import find
from sparring.probe import features, fit_svm, interval, judge_of, of_judge, probe, settle
from sparring.protocol import Spec


def test_features_of_the_published_widths():
    """Section 16.23, for the networks here: every convolutional layer, pooled to 4x4."""
    discriminator = find("dcgan").game(Spec((3, 32, 32), 8), find("dcgan").variant("four")).discriminator.eval()
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    found = features(discriminator, x)
    assert found.shape == (2, (64 + 128 + 256) * 16)
    maps, expected = x, []
    for layer in discriminator.features:
        maps = layer(maps)
        if isinstance(layer, nn.LeakyReLU):
            expected.append(maps.unfold(2, k := maps.shape[-1] // 4, k).unfold(3, k, k).amax((4, 5)).flatten(1))
    torch.testing.assert_close(found, torch.cat(expected, 1))


def test_features_of_the_imagenet_model():
    """Section 16.23: 28,672 features of the six layers, in their order, by plain pooling windows of 8 to 1 pixels."""
    game = find("dcgan").game(Spec((3, 32, 32), 8), find("dcgan").variant("imagenet32")).eval()
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    found = features(game.discriminator, x)
    assert found.shape == (2, (128 + 128 + 256 + 256 + 512 + 512) * 16) == (2, 28_672)
    maps, windows, expected = x, iter([8, 4, 4, 2, 2, 1]), []
    for layer in game.discriminator.features:
        maps = layer(maps)
        if isinstance(layer, nn.LeakyReLU):
            expected.append(nn.functional.max_pool2d(maps, next(windows)).flatten(1))
    torch.testing.assert_close(found, torch.cat(expected, 1))


def test_features_know_nothing_of_the_batch():
    discriminator = find("dcgan").game(Spec((1, 16, 16), 8), find("dcgan").variant("four")).discriminator.eval()
    x = torch.rand(5, 1, 16, 16)
    torch.testing.assert_close(features(discriminator, x)[2:3], features(discriminator, x[2:3]))


def test_probe(generator):
    run = load(generator)
    found = probe(run, "digits", limit=300)
    assert found["fitted_on"] == 300
    assert found["pixels"]["features"] == 256
    assert found["discriminator"]["features"] == found["random weights"]["features"]
    for name in ("discriminator", "random weights", "pixels"):
        accuracy = found[name]["accuracy"]
        assert 0.5 < accuracy["low"] <= accuracy["value"] <= accuracy["high"] <= 1
    margin = found["pixels"]["margin"]["value"]
    assert margin == pytest.approx(found["discriminator"]["accuracy"]["value"] - found["pixels"]["accuracy"]["value"])
    assert probe(run, "digits", limit=300) == found


def test_a_fifth_is_held_out_of_data_without_splits(generator, larger):
    run = load(generator)
    found = probe(run, larger / "train")
    assert (found["fitted_on"], found["examples"]) == (80, 20)
    assert probe(run, larger / "train") == found
    with pytest.raises(UserError, match="has no splits: leave 'test' out"):
        probe(run, larger / "train", split="test")


def test_probe_of_an_encoder(tmp_path):
    """The features are what enters the encoder's last layer; each image's own label is the nearest one's."""
    run = train("bigan", "digits", out=tmp_path / "run", recipe={"rounds": 3, "hidden": 32, "latent": 8})
    found = probe(run, player="encoder", limit=None)
    assert (found["encoder"]["features"], found["code"]["features"]) == (32, 8)
    assert found["random weights"]["features"] == 32
    assert 0.5 < found["code"]["accuracy"]["value"] < found["encoder"]["accuracy"]["value"] <= 1
    train_part, test_part = open_source("digits", split="train"), open_source("digits", split="test")
    game = copy.deepcopy(run.game)
    settle(game.encoder, game.seen, train_part)
    with torch.no_grad():
        of = [game.encoder[:-1](game.seen(torch.cat(list(batches(part, 512))))) for part in (train_part, test_part)]
    right = train_part.labels[torch.cdist(of[1], of[0]).argmin(1).numpy()] == test_part.labels
    assert found["encoder"]["accuracy"]["value"] == pytest.approx(right.mean(), abs=0.003)
    margin = found["pixels"]["margin"]["value"]
    assert margin == pytest.approx(found["encoder"]["accuracy"]["value"] - found["pixels"]["accuracy"]["value"])


def test_statistics_are_those_of_the_images_that_the_classifier_learns_from(generator):
    """Section 2.4: batch norm keeps those of the training set, not of what was made, nor 0 and 1."""
    run, source = load(generator), open_source("digits", split="train", size=16).limited(256)
    game, x = copy.deepcopy(run.game), torch.cat(list(batches(source, 128)))
    network = judge_of(game, "dcgan").eval()
    settle(network, game.seen, source)
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    inputs = []
    handle = norms[0].register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    network(x)
    handle.remove()
    torch.testing.assert_close(norms[0].running_mean, inputs[0].mean((0, 2, 3)), atol=1e-5, rtol=1e-4)
    before = next(m for m in judge_of(run.game, "dcgan").modules() if isinstance(m, nn.BatchNorm2d))
    assert not torch.allclose(before.running_mean, norms[0].running_mean), "the run keeps its own"
    assert not norms[0].training


@pytest.fixture(scope="module")
def larger(tmp_path_factory):
    """A folder of digits, 32 pixels a side."""
    folder = tmp_path_factory.mktemp("larger")
    for split in ("train", "test"):
        source = open_source("digits", split=split)
        for k in range(100):
            path = folder / split / source.classes[source.labels[k]] / f"{k}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.kron(source.read(slice(k, k + 1))[0, :, :, 0], np.ones((4, 4), np.uint8))).save(path)
    return folder


JUDGES = [
    ("sngan", "default", [8, 8]), ("wgan_gp", "cifar10_resnet", 8), ("wgan_gp", "mnist", 8), ("wali", "default", 16),
    ("bigan", "ali_cifar10", 2), ("bigan", "ali_svhn", 2),
]  # fmt: skip


@pytest.mark.parametrize(("model", "variant", "width"), JUDGES)
def test_every_convolutional_discriminator_is_probed(tmp_path, larger, model, variant, width):
    recipe = {"rounds": 1, "batch": 8, "width": width}
    run = train(model, larger, out=tmp_path / "run", size=32, variant=variant, recipe=recipe)
    found = probe(run)
    assert found["discriminator"]["features"] == found["random weights"]["features"] > 0
    assert found["discriminator"]["accuracy"]["value"] > 0.3
    if variant == "ali_cifar10":
        with pytest.raises(UserError, match=r"No ReLU follows a convolution in this discriminator"):
            filters(run)
    else:
        assert filters(run).abs().max() <= 1


def test_images_are_probed_in_the_range_that_the_network_knows(tmp_path):
    recipe = {"rounds": 1, "batch": 8, "width": 4}
    run = train("wgan_gp", "digits", out=tmp_path / "run", size=16, variant="mnist", recipe=recipe)
    source = open_source("digits", split="test", size=16).limited(5)
    x = torch.cat(list(batches(source, 5)))
    expected = features(run.game.critic, (x + 1) / 2).numpy()
    assert np.array_equal(of_judge(run.game, "wgan_gp")(source), expected)


@pytest.mark.parametrize("penalty", [1e-4, 1e-2])
def test_the_svm_is_that_of_liblinear(penalty):
    from sklearn.datasets import load_digits
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC

    x, label = load_digits(return_X_y=True)
    x = x.astype(np.float32)
    ours = fit_svm(x[:1200], label[:1200], penalty)
    scaled = StandardScaler().fit_transform(x[:1200])
    # liblinear shrinks the bias too, unless it is the weight of a large constant
    theirs = LinearSVC(C=penalty, dual=False, tol=1e-8, intercept_scaling=1000, max_iter=10_000).fit(
        scaled, label[:1200]
    )
    np.testing.assert_allclose(ours.weights, theirs.coef_.T, atol=2e-3 * np.abs(theirs.coef_).max())
    np.testing.assert_allclose(ours.bias, theirs.intercept_, rtol=2e-3)
    assert (ours.predict(x[1200:]) == label[1200:]).mean() > 0.85


def test_interval():
    picks = np.random.default_rng(0).integers(400, size=(1000, 400))
    found = interval(np.repeat([0.0, 1.0], 200), picks)
    assert found["value"] == 0.5
    assert found["high"] - found["low"] == pytest.approx(2 * 1.96 * 0.5 / 20, rel=0.15)


def test_who_cannot_be_probed(detector, generator, tmp_path, features):
    game = train("gan", features, out=tmp_path / "flat", variant="mlp", recipe={"rounds": 1})
    with pytest.raises(UserError, match="has no convolutional layers"):
        probe(game)
    with pytest.raises(UserError, match=r"A run of gan has no encoder to look into: use bigan"):
        probe(game, player="encoder")
    with pytest.raises(UserError, match=r"player='critic' is not one of discriminator, encoder"):
        probe(game, player="critic")
    with pytest.raises(
        UserError, match=r"split='train\[:50\]' is what the classifier learns from: report on another one"
    ):
        probe(load(generator), split="train[:50]")
    told = train("cdcgan", "digits", out=tmp_path / "told", size=16, recipe={"rounds": 1, "batch": 8, "width": 2})
    for look in (probe, filters):
        with pytest.raises(UserError, match="The discriminator of cdcgan is told the class that a probe asks for"):
            look(told)
    np.save(tmp_path / "plain.npy", np.zeros((20, 16, 16), np.uint8))
    with pytest.raises(UserError, match=r"no test split|has no labels|split"):
        probe(load(generator), tmp_path / "plain.npy")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["probe", "--seed", "-1"], "--seed must be a whole number, 0 or more and below 2^63; got -1."),
        (["filters", "--seed", "-1"], "--seed must be a whole number, 0 or more and below 2^63; got -1."),
        (["probe", "--limit", "0"], "--limit is the number of examples to learn from and must be 1 or more; got 0."),
        (["probe", "--limit", "1"], "has images of one class only"),
        (
            ["filters", "digits", "--split", "test[:3]"],
            "A filter is shown by 5 images, and 'digits' holds 3: give more.",
        ),
        (["filters", "--out", "seen.jpg"], "filters writes a picture: give a file that ends in .png, not 'seen.jpg'."),
    ],
)
def test_verbs_refuse(call, generator, arguments, sentence):
    verb, *options = arguments
    assert sentence in call(verb, generator, *options, status=2).sentence
    assert not list(Path().iterdir())


def test_guided_backpropagation_by_hand():
    """Section 16.25: y = ReLU(w x), w = (1, -2), x = (3, 1); the plain gradient is w, and a negative one stops."""
    x = torch.tensor([3.0, 1.0], requires_grad=True)
    y = Guided()(x @ torch.tensor([1.0, -2.0]))
    assert torch.autograd.grad(y, x, torch.tensor(1.0), retain_graph=True)[0].tolist() == [1, -2]
    assert torch.autograd.grad(y, x, torch.tensor(-1.0))[0].tolist() == [0, 0]


def test_guided_networks_say_the_same():
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.LeakyReLU(0.2, inplace=True), nn.Conv2d(4, 2, 3), nn.ReLU()).eval()
    x = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(guided(network)(x), network(x))
    assert all(p.requires_grad for p in network.parameters()), "the copy is frozen, not the network"


def test_filters(generator):
    run = load(generator)
    tiles = filters(run)
    assert tiles.shape[1:] == (1, 16, 16)
    assert len(tiles) % 10 == 0
    images, traces = tiles[:5], tiles[10:15]
    assert traces.abs().amax((1, 2, 3)).tolist() == pytest.approx([1] * 5)
    network = run.game.discriminator
    source = open_source("digits", size=16)
    chosen, numbers = most_excited(network, source)
    assert numbers.shape == (len(chosen), 5)
    torch.testing.assert_close(scaled(traced(guided(network), images, chosen[0])), traces)


def test_filters_are_shown_by_what_excites_them(generator, monkeypatch):
    monkeypatch.setattr("sparring.filters.EXAMPLES", 40)
    run = load(generator)
    some = open_source("digits", split="train", size=16).limited(40)
    _, numbers = most_excited(run.game.discriminator, some)
    torch.testing.assert_close(filters(run)[:5], to_tensor(some.read(numbers[0].numpy())))


def test_verbs(call, generator):
    said = call("probe", generator, "digits", "--limit", 200, "--json").json
    assert said["fitted_on"] == 200
    assert 0 < said["discriminator"]["accuracy"]["value"] <= 1
    said = call("filters", generator, "--out", "seen.png", "--json")
    assert said.json["file"] == "seen.png"
    with Image.open("seen.png") as picture:
        assert picture.width > picture.height / 2
    assert "trained on the left, random on the right" in said.err
    assert "margin" in call("probe", generator, "digits", "--limit", 200).out


def test_verbs_tell_of_a_training_that_was_stopped(call, generator, tmp_path):
    shutil.copytree(generator, tmp_path / "cut")
    (tmp_path / "cut/model.safetensors").unlink()
    for verb in (["probe", "cut", "digits", "--limit", 200], ["filters", "cut"]):
        assert "stopped before its 4 rounds were done: this is its last checkpoint." in call(*verb).err
