"""Recipes are checked where they are made, and misspellings are answered with what was meant."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparring import models
from sparring.errors import UserError, unknown
from sparring.models.dcgan import FOUR, DCGANRecipe
from sparring.models.gan import GANRecipe
from sparring.models.ganomaly import GANomalyRecipe
from sparring.protocol import Recipe, Spec, Update, hyper


def test_defaults_are_read_from_nothing():
    assert GANRecipe.read({}) == GANRecipe()
    assert DCGANRecipe.read({}, FOUR) == FOUR


@pytest.mark.parametrize(("key", "close"), [("bacth", "batch"), ("latnet", "latent"), ("Rate", "rate")])
def test_a_misspelt_key_is_answered_with_the_closest(key, close):
    with pytest.raises(UserError, match=f"There is no hyper-parameter '{key}': did you mean '{close}'"):
        DCGANRecipe.read({key: 1})


def test_a_key_like_no_other_is_answered_with_all():
    with pytest.raises(UserError, match="There is no hyper-parameter 'xyzzy': choose one of batch, epochs"):
        DCGANRecipe.read({"xyzzy": 1})


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"rate": "1e-4"}, {"rate": 1e-4}),
        ({"batch": "32"}, {"batch": 32}),
        ({"batch": 32.0}, {"batch": 32}),
        ({"epochs": 3}, {"epochs": 3.0}),
        ({"rounds": None}, {"rounds": None}),
        ({"rounds": "7"}, {"rounds": 7}),
        ({"hidden": [64, 32]}, {"hidden": (64, 32)}),
        ({"hidden": ["64"]}, {"hidden": (64,)}),
        ({"saturating": "true"}, {"saturating": True}),
        ({"simultaneous": False}, {"simultaneous": False}),
    ],
)
def test_values_of_a_yaml_file_become_typed(values, expected):
    recipe = GANRecipe.read(values)
    for key, value in expected.items():
        assert getattr(recipe, key) == value
        assert type(getattr(recipe, key)) is type(value)


@pytest.mark.parametrize(
    "values",
    [
        {"rate": "fast"}, {"batch": 1.5}, {"batch": "many"}, {"hidden": 64}, {"hidden": [1.5]}, {"prior": 3},
        {"batch": None}, {"rate": [1.0]}, {"saturating": "perhaps"}, {"batch": {"size": 3}},
    ],
)  # fmt: skip
def test_values_of_the_wrong_type(values):
    (key,) = values
    with pytest.raises(UserError, match=f"The '{key}' of GANRecipe cannot be .*: .+\\.$"):
        GANRecipe.read(values)


@pytest.mark.parametrize(
    ("kind", "values", "law"),
    [
        (GANRecipe, {"batch": 0}, "a number >= 1; got 0 instead."),
        (GANRecipe, {"rate": 0}, "a number > 0; got 0.0 instead."),
        (GANRecipe, {"rate": -0.1}, "a number > 0; got -0.1 instead."),
        (GANRecipe, {"rate": float("nan")}, "a number > 0; got nan instead."),
        (GANRecipe, {"keep_input": 1.5}, "a number <= 1; got 1.5 instead."),
        (GANRecipe, {"hidden": (64, 0)}, "a number >= 1; got (64, 0) instead."),
        (GANRecipe, {"prior": "gauss"}, "one of uniform, normal; got 'gauss' instead."),
        (GANRecipe, {"rounds": 0}, "a number >= 1; got 0 instead."),
        (GANRecipe, {"ema": 1.0}, "a number <= 0.999999; got 1.0 instead."),
        (DCGANRecipe, {"kernel": 6}, "a number <= 5; got 6 instead."),
        (GANomalyRecipe, {"contextual": -1}, "a number >= 0; got -1.0 instead."),
    ],
)
def test_bounds_say_parameter_law_and_value(kind, values, law):
    (key,) = values
    with pytest.raises(UserError) as caught:
        kind.read(values)
    assert str(caught.value) == f"The '{key}' of {kind.__name__} must be {law}"


def test_bounds_hold_in_python_too():
    with pytest.raises(UserError, match="The 'batch' of GANRecipe must be a number >= 1"):
        GANRecipe(batch=-3)


def test_a_recipe_cannot_be_changed():
    with pytest.raises(AttributeError):
        GANRecipe().batch = 3


@pytest.mark.parametrize("name", models.names())
def test_every_variant_survives_json(name):
    entry = models.find(name)
    for recipe in entry.variants.values():
        assert entry.recipe.read(json.loads(json.dumps(recipe.as_dict()))) == recipe


@given(
    batch=st.integers(1, 10**6), rate=st.floats(1e-12, 1e3), hidden=st.lists(st.integers(1, 4096), max_size=5),
    prior=st.sampled_from(["uniform", "normal"]), rounds=st.none() | st.integers(1, 10**9),
)  # fmt: skip
@settings(max_examples=30, deadline=None)
def test_any_recipe_survives_json(batch, rate, hidden, prior, rounds):
    recipe = GANRecipe(batch=batch, rate=rate, hidden=tuple(hidden), prior=prior, rounds=rounds)
    assert GANRecipe.read(json.loads(json.dumps(recipe.as_dict()))) == recipe


def test_variants():
    entry = models.find("gan")
    assert set(entry.variants) == {"default", "goodfellow2014_mnist", "mlp"}
    assert entry.variant(None) == entry.variant("default") == GANRecipe()
    assert entry.variant("mlp").optimizer == "adam"
    with pytest.raises(UserError, match="There is no variant of gan 'mpl': did you mean 'mlp'"):
        entry.variant("mpl")


@pytest.mark.parametrize(("given_", "meant"), [("ganomoly", "ganomaly"), ("dc_gan", "dcgan"), ("gann", "gan")])
def test_an_unknown_model_is_answered_with_the_closest(given_, meant):
    with pytest.raises(UserError, match=f"There is no model '{given_}': did you mean '{meant}'"):
        models.find(given_)


def test_unknown_lists_what_there_is():
    assert str(unknown("colour", "tea", ["red", "blue"])) == "There is no colour 'tea': choose one of red, blue."


def test_the_catalogue_is_the_folder():
    assert {"dcgan", "gan", "ganomaly"} <= set(models.names())
    for name in models.names():
        entry = models.find(name)
        assert entry.about.endswith(".")
        assert "arXiv:" in entry.reference


def test_spec():
    assert Spec((3, 8, 8), 10).is_image
    assert Spec((3, 8, 8), 10).size == 192
    assert not Spec((7,), 10).is_image


def test_update_adds_its_terms_in_float32():
    import torch

    update = Update("player", a=torch.tensor(1.5, dtype=torch.bfloat16), b=torch.tensor(2.0))
    assert update.loss.dtype == torch.float32
    assert float(update.loss) == 3.5


def test_hyper_declares():
    @dataclass(frozen=True)
    class Own(Recipe):
        penalty: float = hyper(10.0, "lambda", "equation 3", least=0)

    (field,) = [field for field in fields(Own) if field.name == "penalty"]
    assert field.metadata["symbol"] == "lambda"
    assert field.metadata["place"] == "equation 3"
    with pytest.raises(UserError, match=r"The 'penalty' of Own must be a number >= 0; got -1 instead\."):
        Own(penalty=-1)
