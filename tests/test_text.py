"""Captions from the words to the images: text encoders, runs that keep theirs, and what is asked of them."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from sparring import text
from sparring.data import open_source
from sparring.errors import UserError
from sparring.nets.characters import ALPHABET, CharacterNetwork, spelt
from sparring.pictures import as_uint8
from sparring.run import load
from sparring.text import pretrained
from sparring.text.characters import Lesson, joint_embedding, learnt
from sparring.text.encoder import cut, embed
from sparring.text.pretrained import Pretrained
from sparring.text.table import Table
from sparring.training import train

COLOURS = {"red": (200, 30, 30), "green": (30, 160, 60), "blue": (40, 60, 210)}
TINY = {"batch": 4, "latent": 4, "condition": 4, "width": 8, "discriminator_width": 4, "blocks": 1, "rounds": 12}


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    monkeypatch.setattr("sparring.text.characters.LESSON", Lesson(rounds=30, batch=12, width=8, side=16))


def captioned(folder: Path, count: int = 24) -> Path:
    """A folder of plain images 40x40, each with two captions that say its colour."""
    folder.mkdir()
    random, rows = np.random.default_rng(0), []
    for k in range(count):
        name, colour = list(COLOURS.items())[k % 3]
        pixels = np.clip(np.array(colour) + random.integers(-20, 20, (40, 40, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{k:02d}.png")
        rows += [{"file_name": f"{k:02d}.png", "text": t} for t in (f"a {name} picture", f"it is all {name}")]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    return captioned(tmp_path_factory.mktemp("data") / "colours")


@pytest.fixture(scope="module")
def run(tmp_path_factory, colours):
    """A run of stackgan on them, with the encoder that is built in; not to be changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sparring.text.characters.LESSON", Lesson(rounds=30, batch=12, width=8, side=16))
        return train("stackgan", colours, out=tmp_path_factory.mktemp("runs") / "run", size=32, recipe=TINY).folder


def test_letters():
    assert spelt("ab z", 6).tolist() == [1, 2, ALPHABET.index(" ") + 1, 26, 0, 0]
    assert spelt("Café", 3).tolist() == [3, 1, 6]
    assert spelt("日本", 2).tolist() == [0, 0]


def test_joint_embedding_in_closed_form():
    images, texts = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[3.0, 1.0], [0.0, 1.0]])
    # scores [[3, 0], [2, 2]]: image 0 is sure by 3, image 1 short by 1; text 0 short by 0, text 1 by 0 and sure by 2
    assert joint_embedding(images, texts, torch.tensor([0, 1])).item() == pytest.approx((0 + 1 + 0 + 0) / 4)
    assert joint_embedding(images, texts, torch.tensor([5, 5])).item() == 0, "of one kind: nothing to tell apart"


def test_the_encoder_that_is_built_in_matches_images_and_texts(colours, monkeypatch):
    monkeypatch.setattr("sparring.text.characters.LESSON", Lesson(rounds=60, batch=12, width=8, side=16))
    source = open_source(colours, size=16)
    encoder, fresh = learnt(source)
    again, anew = learnt(source)
    assert (fresh, anew) == (True, False)
    assert encoder.hash == again.hash
    assert learnt(source, seed=1)[0].hash != encoder.hash
    names = [f"a {name} picture" for name in COLOURS]
    vectors = encoder(names)
    assert vectors.dtype == np.float32
    assert vectors.shape == (3, encoder.width)
    x = torch.from_numpy(source.read(slice(12))).permute(0, 3, 1, 2) / 127.5 - 1
    found = (encoder.seen(x) @ torch.from_numpy(vectors).T).argmax(1)
    assert found.tolist() == [0, 1, 2] * 4
    assert np.array_equal(vectors[1:2], encoder(names[1:2])) or np.allclose(
        vectors[1:2], encoder(names[1:2]), atol=1e-6
    )


def test_the_papers_encoder_is_recurrent(colours, tmp_path, monkeypatch):
    monkeypatch.setattr("sparring.text.characters.LESSON", Lesson(rounds=3, batch=12, width=8, side=16))
    source = open_source(colours, size=16)
    plain, recurrent = (text.choose(name, lambda: source) for name in (None, "characters-recurrent"))
    assert (plain.name, recurrent.name) == ("characters", "characters-recurrent")
    assert plain.letters.recurrence is None
    assert isinstance(recurrent.letters.recurrence, nn.GRU)
    (tmp_path / "text.safetensors").write_bytes(recurrent.packed())
    again = text.restore(tmp_path, "characters-recurrent", {"hash": recurrent.hash}, lambda: pytest.fail("not needed"))
    assert (again.hash, again.name) == (recurrent.hash, recurrent.name)


def test_what_two_words_say_is_a_sum():
    """Windows of seven letters: words that stand far apart do not change what the others say."""
    network = CharacterNetwork(5)

    def said(words):
        return network(spelt(words, 80)[None])

    a, b, c, d = (said(f"{one:<40}{two:<40}") for one in ("red", "blue") for two in ("circle", "square"))
    torch.testing.assert_close(a - b, c - d)


def test_texts_that_are_cut_or_unknown(colours):
    encoder, _ = learnt(open_source(colours, size=16))
    assert encoder.length == len("it is all green")
    assert cut(encoder, ["a red picture"]) is None
    said = cut(encoder, ["a red picture and more than was ever read"])
    assert said is not None
    assert "'a red picture a' | 'nd more than was ever read'" in said
    assert "15 characters before the bar" in said
    with pytest.raises(UserError, match="'日本' has no letter that the encoder 'characters' knows"):
        encoder(["日本"])
    with pytest.raises(UserError, match="'красный круг!' has no letter that the encoder 'characters' knows"):
        encoder(["красный круг!"])


def test_texts_without_known_letters_are_refused_before_anything_is_learnt(colours, monkeypatch):
    monkeypatch.setattr("sparring.text.characters.Stream", lambda *given, **named: pytest.fail("it learns already"))
    source = replace(open_source(colours, size=16), captions=(("a cat",),) * 23 + (("日本",),))
    with pytest.raises(UserError, match="'日本' has no letter that the encoder 'characters' knows"):
        learnt(source)


def test_embeddings_are_computed_once(colours):
    encoder, _ = learnt(open_source(colours, size=16))

    class Counting:
        name, hash, width, calls = "counting", encoder.hash, encoder.width, 0

        def __call__(self, texts):
            self.calls += 1
            return encoder(texts)

        def read(self, text):
            return len(text)

    counting = Counting()
    first, second = (embed(counting, ["b", "a", "b"]) for _ in range(2))
    assert counting.calls == 1
    assert list(first) == ["a", "b"]
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_embeddings_from_a_file(tmp_path, colours):
    captions = [f"{how} {name}{what}" for name in COLOURS for how, what in (("a", " picture"), ("it is all", ""))]
    np.savez(tmp_path / "named.npz", captions=captions, embeddings=np.arange(12.0).reshape(6, 2))
    table = Table(tmp_path / "named.npz", lambda: pytest.fail("the data are not needed"))
    assert table(["it is all red"]).tolist() == [[2, 3]]
    with pytest.raises(UserError, match="holds no embedding of 'a cat'"):
        table(["a cat"])
    np.save(tmp_path / "aligned.npy", np.arange(24 * 2 * 3).reshape(24, 2, 3))
    aligned = Table(tmp_path / "aligned.npy", lambda: open_source(colours, size=16))
    assert aligned.width == 3
    np.save(tmp_path / "short.npy", np.zeros((5, 3)))
    with pytest.raises(UserError, match="holds 5 embeddings, and there are 48 captions"):
        Table(tmp_path / "short.npy", lambda: open_source(colours, size=16))
    (tmp_path / "broken.npz").write_bytes(b"PK broken")
    with pytest.raises(UserError, match="holds no embeddings of texts"):
        Table(tmp_path / "broken.npz", lambda: pytest.fail("the data are not needed"))
    with pytest.raises(UserError, match="There is no file"):
        text.choose(str(tmp_path / "none.npz"), lambda: pytest.fail("the data are not needed"))


def test_a_trained_encoder_needs_its_library(monkeypatch):
    monkeypatch.setattr("sparring.text.pretrained.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"'all-MiniLM-L6-v2' needs sentence-transformers or transformers"):
        text.choose("all-MiniLM-L6-v2", lambda: pytest.fail("the data are not needed"))


class Words:
    """A tokenizer of words, with the interface of `transformers`."""

    model_max_length = 4

    def __call__(self, texts, truncation=True, max_length=None, **options):
        most = max_length if truncation else None
        if isinstance(texts, str):
            return {"input_ids": [len(word) for word in texts.split()[:most]]}
        rows = [torch.tensor([len(word) for word in one.split()][:most]) for one in texts]
        there = [torch.ones_like(row) for row in rows]
        return {"input_ids": pad_sequence(rows, True), "attention_mask": pad_sequence(there, True)}


class Model(nn.Module):
    """A table of vectors, with the interface of `transformers`."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding.from_pretrained(torch.arange(20.0)[:, None].expand(20, 3))

    def forward(self, input_ids, attention_mask):
        return type("Output", (), {"last_hidden_state": self.table(input_ids)})


def test_means_over_the_tokens_of_a_text(monkeypatch):
    monkeypatch.setattr("sparring.text.pretrained.find_spec", lambda name: name == "transformers")
    monkeypatch.setattr("sparring.text.pretrained.words", lambda name: (Model(), Words()))
    encoder = Pretrained("some/encoder")
    assert encoder.width == 3
    assert encoder(["aa bbbb", "a"])[:, 0].tolist() == [3, 1]
    assert encoder.read("one two") == 7
    assert encoder.read("one two three four five six") == len("one two three four")
    assert encoder.hash == Pretrained("some/encoder").hash


@pytest.mark.parametrize("kind", ["decoder", "encoder_decoder", "images"])
def test_the_part_of_a_model_that_reads(monkeypatch, kind):
    reads, whole = Model(), nn.Module()
    whole.config = SimpleNamespace(is_encoder_decoder=kind == "encoder_decoder")
    whole.get_encoder = lambda: reads
    if kind == "images":
        whole.text_model = reads
    tokens = SimpleNamespace(pad_token=None, eos_token="<end>")
    kinds = {name: SimpleNamespace(from_pretrained=lambda name, it=it: it) for name, it in
             {"AutoModel": whole, "AutoTokenizer": tokens}.items()}  # fmt: skip
    monkeypatch.setitem(sys.modules, "transformers", SimpleNamespace(**kinds))
    model, found = pretrained.words("some/encoder")
    assert model is (whole if kind == "decoder" else reads)
    assert found.pad_token == "<end>", "texts of several lengths are read at once"


def test_a_model_that_reads_no_texts_is_refused(monkeypatch):
    class Blind(Model):
        def forward(self, pixels):
            raise AssertionError

    monkeypatch.setattr("sparring.text.pretrained.find_spec", lambda name: name == "transformers")
    monkeypatch.setattr("sparring.text.pretrained.words", lambda name: (Blind(), Words()))
    with pytest.raises(UserError, match=r"'some/encoder' cannot be had on this machine, or reads no texts \(.*: check"):
        Pretrained("some/encoder")


def test_what_cannot_be_loaded_is_said(monkeypatch):
    def fail(name):
        raise OSError("no such model\nanywhere")

    monkeypatch.setattr("sparring.text.pretrained.find_spec", lambda name: name == "transformers")
    monkeypatch.setattr("sparring.text.pretrained.words", fail)
    with pytest.raises(UserError, match=r"'some/encoder' cannot be had on this machine, .* \(no such model anywhere\)"):
        Pretrained("some/encoder")


def test_a_run_keeps_its_encoder(run):
    facts = yaml.safe_load((run / "run.yaml").read_text())["facts"]
    assert facts["text"]["encoder"] == "characters"
    assert facts["spec"]["caption"] == facts["text"]["width"] == 8
    loaded = load(run)
    assert loaded.text_encoder.hash == facts["text"]["hash"]
    assert loaded.spec.caption == 8


def test_another_encoder_is_refused(run, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    content = yaml.safe_load((copy / "run.yaml").read_text())
    content["facts"]["text"]["hash"] = "0" * 12
    (copy / "run.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match="was trained with the text encoder characters of hash 000000000000"):
        _ = load(copy).text_encoder
    (copy / text.FILE).unlink()
    with pytest.raises(UserError, match="the text encoder of the run, is missing or damaged"):
        _ = load(copy).text_encoder


def test_images_of_a_text(run, call, tmp_path):
    assert "3 sample(s)" in call("sample", run, "--text", "a red picture", "--n", 3, "--out", "one.npy").err
    assert np.load(tmp_path / "one.npy").shape == (3, 32, 32, 3)
    assert "| ' and much else'" in call("sample", run, "--text", "one red picture and much else", "--n", 1).err


def test_images_of_the_first_stage(run, call, tmp_path, generator):
    call("sample", run, "--text", "a red picture", "--n", 3, "--stage", 1, "--out", "one.npy")
    small = np.load(tmp_path / "one.npy")
    assert small.shape == (3, 16, 16, 3)
    loaded = load(run)
    sampler = replace(loaded, stage=1).sampler()
    caption = torch.from_numpy(loaded.text_encoder(["a red picture"]))[0]
    assert np.array_equal(small, as_uint8(loaded.game.sketch(3, sampler.latents(range(3)), caption.expand(3, -1))))
    call("sample", run, "--interpolate", "a red picture", "a blue picture", "--n", 2, "--stage", 1, "--out", "way.png")
    said = call("sample", generator, "--stage", 1, status=2).sentence
    assert said.startswith("A run of dcgan cannot show its stages: leave --stage out")


def test_samples_follow_from_seed_and_text(run):
    loaded = load(run)
    red, blue = torch.from_numpy(loaded.text_encoder(["a red picture", "a blue picture"]))
    asked = ((5, red), (2, red), (5, blue))
    many, few, others = (next(loaded.sampler().parts(n, caption=text)) for n, text in asked)
    assert torch.allclose(many[:2], few, atol=1e-6), "sample k of a seed is the same for any number"
    assert (many != others).flatten(1).any(1).all()
    recalled = loaded.sample(3)
    assert torch.allclose(recalled, loaded.sample(5)[:3], atol=1e-6)
    assert loaded.sampler().walk().shape == (8, 10, 3, 32, 32)


def test_images_of_several_texts(run, call, tmp_path):
    (tmp_path / "texts.txt").write_text("a red picture\n\nit is all blue\n")
    said = call("sample", run, "--texts", "texts.txt", "--n", 2, "--out", "rows.png")
    assert (tmp_path / "rows.png").exists()
    assert said.err.count("\n") == 1
    call("sample", run, "--texts", "texts.txt", "--n", 2, "--out", "rows")
    assert sorted(str(p.relative_to(tmp_path)) for p in (tmp_path / "rows").rglob("*.png")) == [
        "rows/00000/00000.png", "rows/00000/00001.png", "rows/00001/00000.png", "rows/00001/00001.png",
    ]  # fmt: skip
    call("sample", run, "--interpolate", "a red picture", "a blue picture", "--n", 2, "--out", "way.png")
    assert (tmp_path / "way.png").exists()
    call("sample", run, "--n", 2, "--out", "any.png")
    assert (tmp_path / "any.png").exists(), "of captions of the training"


def test_texts_that_are_refused(run, call, tmp_path, generator):
    assert call("sample", run, "--text", " ", status=2).sentence == "The text is empty: say what the images shall show."
    (tmp_path / "none.txt").write_text("\n\n")
    assert "holds no text" in call("sample", run, "--texts", "none.txt", status=2).sentence
    assert "not readable as text" in call("sample", run, "--texts", "lost.txt", status=2).sentence
    assert "reads no texts" in call("sample", generator, "--text", "a cat", status=2).sentence
    assert "leave one out" in call("sample", run, "--text", "a", "--walk", status=2).sentence


def test_data_and_models_that_do_not_fit(colours, call, paint):
    photos = paint(*(f"photos/{k}.png" for k in range(4)))
    assert "has no captions" in call("train", "stackgan", photos, "--size", 32, status=2).sentence
    said = call("train", "dcgan", colours, "--text", "characters", "--size", 32, status=2).sentence
    assert said == "dcgan reads no captions, and --text characters is given: leave it out."


def test_a_resumed_training_is_the_same(run, colours, tmp_path, monkeypatch):
    """Stop after the first stage; the encoder is that of the run, and not learnt anew."""
    from sparring.engine import Engine, Interrupted

    ended = Engine._end

    def stop(engine, phase):
        ended(engine, phase)
        if engine.phase == 1:
            engine.save()
            raise Interrupted("stopped")

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "_end", stop)
        with pytest.raises(Interrupted):
            train("stackgan", colours, out=tmp_path / "parts", size=32, recipe=TINY)
    monkeypatch.setattr("sparring.text.characters.learn", lambda *given: pytest.fail("the run has its encoder"))
    train(out=tmp_path / "parts", resume=True)
    assert (tmp_path / "parts" / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()
