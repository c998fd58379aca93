"""Extractors: what they learn, what they are known by, and which files they take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sparring import features
from sparring.data import batches, open_source, to_tensor
from sparring.errors import UserError
from sparring.features import Described, Extractor, Lesson, bytes_of, choose, classifier, inception
from sparring.nets.inception import Inception


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(features, "LESSON", Lesson(epochs=4, batch=32))


@pytest.fixture
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("SPARRING_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "features"


def test_the_classifier_learns_what_it_is_shown_and_is_kept(own_cache):
    said: list[str] = []
    training, test = open_source("digits"), open_source("digits", split="test")
    extractor = choose("default", training, said.append)
    assert len(said) == 1
    assert extractor.name == "classifier trained on digits, split train, 1,258 images of 8x8x1"
    found = extractor.describe(test)
    assert found.features.shape == (539, 256)
    assert np.allclose(found.probabilities.sum(1), 1, atol=1e-5)
    assert (found.probabilities.argmax(1) == test.labels).mean() > 0.93
    again = choose("default", training, said.append)
    assert len(said) == 1
    assert again.hash == extractor.hash
    assert np.array_equal(again.describe(test).features, found.features)
    assert np.allclose(again(batches(test, 64)).features, found.features)
    assert len(list(own_cache.glob("*.safetensors"))) == 2


def test_what_is_learnt_follows_from_the_data_alone(own_cache):
    training = open_source("digits", limit=200)
    state = torch.get_rng_state()
    first = classifier(training).hash
    assert torch.equal(torch.get_rng_state(), state)
    (file,) = own_cache.glob("classifier-*")
    file.unlink()
    torch.manual_seed(9)
    assert classifier(training).hash == first
    assert classifier(training.take(slice(0, 199))).hash != first
    file.write_bytes(b"cut short")
    assert classifier(training).hash == first


@pytest.mark.parametrize("side", [4, 28, 64, 100])
def test_it_takes_images_of_any_side(side):
    found = features.Classifier(3, side, 7)(torch.zeros(2, 3, side, side))
    assert [tuple(part.shape) for part in found] == [(2, 128), (2, 7)]


def test_without_labels_the_weights_are_random_and_always_the_same():
    images = np.random.default_rng(0).integers(0, 256, (30, 16, 16, 3), dtype=np.uint8)
    one, other = choose("default", open_source(images)), choose("default", open_source(images[::-1].copy()))
    assert "random weights" in one.name
    assert one.hash == other.hash
    found = one.describe(open_source(images))
    assert found.probabilities is None
    assert np.array_equal(other.describe(open_source(images)).features, found.features)
    assert found.features.std(0).mean() > 0.01


def test_pixels_and_vectors_are_their_own_features():
    source = open_source("digits", limit=70)
    found = choose("pixels", source).describe(source)
    assert np.allclose(found.features, source.read(slice(None)).reshape(70, -1) / 255, atol=1e-6)
    vectors = open_source(np.random.default_rng(0).normal(size=(70, 3)))
    assert np.allclose(choose("default", vectors).describe(vectors).features, vectors.items)
    with pytest.raises(UserError, match="is for images, and 'array' holds vectors"):
        choose("inception.pt", vectors)


def test_features_of_another_extractor_are_refused(tmp_path):
    one = Extractor("one", "a" * 12, lambda x: (x.flatten(1), None))
    other = Extractor("other", "b" * 12, lambda x: (x.flatten(1), None))
    found = one([torch.zeros(3, 1, 2, 2)])
    found.save(tmp_path / "kept.safetensors", one)
    assert np.array_equal(Described.load(tmp_path / "kept.safetensors", one).features, found.features)
    with pytest.raises(UserError, match="of the extractor aaaaaaaaaaaa, which cannot be compared with those of bbbb"):
        Described.load(tmp_path / "kept.safetensors", other)


def test_a_damaged_cache_is_made_anew(own_cache):
    source = open_source("digits", limit=40)
    extractor = Extractor("means", "c" * 12, lambda x: (x.mean((2, 3)), x.flatten(1).softmax(1)))
    found = extractor.describe(source)
    (file,) = own_cache.glob("*.safetensors")
    file.write_bytes(b"cut short")
    again = extractor.describe(source)
    assert np.array_equal(again.features, found.features)
    assert np.array_equal(extractor.describe(source).probabilities, found.probabilities)


def test_each_colour_of_a_stack_is_described_by_itself(real_mnist_like):
    stacks = open_source("stacked_mnist", size=8)
    extractor = choose("default", stacks)
    assert extractor.name.startswith("each colour by the classifier trained on mnist")
    assert extractor.classes[123] == "123"
    found = extractor.describe(stacks)
    assert found.features.shape == (len(stacks), 3 * 256)
    assert found.probabilities.shape == (len(stacks), 1000)
    assert np.allclose(found.probabilities.sum(1), 1, atol=1e-4)
    alone = classifier(open_source("mnist", size=8, channels=1))
    x = to_tensor(stacks.read(slice(None)))
    answers = [alone([x[:, k : k + 1]]).probabilities.argmax(1) for k in range(3)]
    assert np.array_equal(found.probabilities.argmax(1), 100 * answers[0] + 10 * answers[1] + answers[2])
    assert (found.probabilities.argmax(1) == stacks.labels).mean() > 0.8


@pytest.fixture
def real_mnist_like(monkeypatch, tmp_path):
    """The digits of scikit-learn where MNIST would lie."""
    monkeypatch.setenv("SPARRING_DATA", str(tmp_path))
    digits = open_source("digits", limit=400)
    (tmp_path / "mnist").mkdir()
    for kind, array in (("images-idx3", digits.read(slice(None))[..., 0]), ("labels-idx1", digits.labels)):
        array = array.astype(np.uint8)
        head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
        (tmp_path / "mnist" / f"train-{kind}-ubyte").write_bytes(head + array.tobytes())


def test_images_become_the_bytes_that_would_be_saved():
    x = torch.tensor([-1.2, -1.0, -1 / 255, 1 / 255, 0.5, 1.0]).reshape(1, 1, 1, 6)
    assert bytes_of(x)[0, :, 0].tolist() == [[0, 0, 127, 128, 191, 255]] * 3
    every = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    assert torch.equal(bytes_of(every / 127.5 - 1)[:, :1], every)


@pytest.fixture(scope="module")
def network() -> Inception:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return Inception()


def test_inception_has_the_published_form(network):
    assert sum(p.numel() for p in network.parameters()) == 23_834_568 + 8 * 2049  # 1,008 classes, not 1,000
    names = set(network.state_dict())
    assert len([name for name in names if name.endswith(".conv.weight")]) == 94
    for name in ("Conv2d_4a_3x3", "Mixed_5b.branch_pool", "Mixed_5d.branch5x5_2", "Mixed_6a.branch3x3",
                 "Mixed_6e.branch7x7dbl_5", "Mixed_7a.branch7x7x3_4", "Mixed_7c.branch3x3dbl_3b"):  # fmt: skip
        assert f"{name}.conv.weight" in names
        assert f"{name}.bn.running_var" in names
    shapes: dict[str, tuple[int, ...]] = {}

    def note(name: str) -> Any:
        return lambda module, inputs, out: shapes.update({name: tuple(out.shape[1:])})

    hooks = [module.register_forward_hook(note(name)) for name, module in network.named_children()]
    with torch.no_grad():
        found, probabilities = network(torch.randint(0, 256, (1, 3, 40, 40), dtype=torch.uint8))
    for hook in hooks:
        hook.remove()
    ladder = {"Conv2d_1a_3x3": (32, 149, 149), "Conv2d_2a_3x3": (32, 147, 147), "Conv2d_2b_3x3": (64, 147, 147),
              "Conv2d_4a_3x3": (192, 71, 71), "Mixed_5b": (256, 35, 35), "Mixed_5d": (288, 35, 35),
              "Mixed_6a": (768, 17, 17), "Mixed_6e": (768, 17, 17), "Mixed_7a": (1280, 8, 8),
              "Mixed_7c": (2048, 8, 8)}  # fmt: skip
    assert {name: shapes[name] for name in ladder} == ladder
    assert found.shape == (1, 2048)
    assert probabilities.shape == (1, 1008)
    assert float(probabilities.sum()) == pytest.approx(1, abs=1e-5)
    without_bias = found @ network.fc.weight.T
    torch.testing.assert_close(probabilities, without_bias.softmax(1), msg="as in the code of the published score")


def test_a_block_of_inception_by_hand(network):
    """The forked block, whose pool is what the network of the FID has of its own."""
    block = network.Mixed_7c
    x = torch.randn(1, 2048, 8, 8, generator=torch.Generator().manual_seed(0))

    def layer(name: str, x: Tensor, padding: tuple[int, int]) -> Tensor:
        part = block.get_submodule(name)
        y = nn.functional.conv2d(x, part.conv.weight, padding=padding)
        y = y / np.sqrt(1 + 0.001)  # fresh running statistics are 0 and 1
        return y.relu()

    three = layer("branch3x3_1", x, (0, 0))
    five = layer("branch3x3dbl_2", layer("branch3x3dbl_1", x, (0, 0)), (1, 1))
    expected = torch.cat([
        layer("branch1x1", x, (0, 0)),
        layer("branch3x3_2a", three, (0, 1)), layer("branch3x3_2b", three, (1, 0)),
        layer("branch3x3dbl_3a", five, (0, 1)), layer("branch3x3dbl_3b", five, (1, 0)),
        layer("branch_pool", nn.functional.max_pool2d(x, 3, 1, 1), (0, 0)),
    ], 1)  # fmt: skip
    with torch.no_grad():
        assert torch.allclose(block(x), expected, atol=1e-4)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_weights_of_inception_are_taken_from_a_file(tmp_path, suffix, network):
    path = tmp_path / f"pt_inception.{suffix}"
    if suffix == "pth":
        torch.save(network.state_dict(), path)
    else:
        save_file(network.state_dict(), path)
    extractor = choose(str(path), open_source("digits"))
    assert extractor.name == f"Inception of pt_inception.{suffix}"
    x = torch.rand(1, 1, 8, 8) * 2 - 1
    with torch.no_grad():
        assert np.allclose(extractor([x]).features, network(bytes_of(x))[0], atol=1e-6)


class Script(nn.Module):
    """What the StyleGAN metrics ask of their TorchScript."""

    def forward(self, img: Tensor, return_features: bool = False) -> Tensor:
        means = img.float().mean(dim=[2, 3])
        return means[:, :1].repeat(1, 2048) if return_features else means


class Other(nn.Module):
    def forward(self, img: Tensor) -> Tensor:
        return img


def compiled(module: nn.Module, path: Path) -> Path:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, and the files are in circulation
        torch.jit.script(module).save(str(path))
    return path


def test_torchscript_is_taken_as_the_stylegan_metrics_do(tmp_path):
    extractor = inception(compiled(Script(), tmp_path / "inception.pt"))
    found = extractor([torch.ones(2, 1, 4, 4), -torch.ones(1, 1, 4, 4)])
    assert found.features.shape == (3, 2048)
    assert found.features[:, 0].tolist() == [255, 255, 0]
    assert len(extractor.hash) == 12


def test_files_that_are_no_inception_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"cannot be read .*takes default, pixels, or a file"):
        inception(tmp_path / "missing.pt")
    (tmp_path / "text.pth").write_text("this is text")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    save_file({"weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    for name in ("text.pth", "other.pth", "other.safetensors"):
        with pytest.raises(UserError, match="holds no weights of the Inception"):
            inception(tmp_path / name)
    with pytest.raises(UserError, match="does not take uint8 images and return_features"):
        inception(compiled(Other(), tmp_path / "other.pt"))([torch.zeros(1, 3, 4, 4)])
