"""A recipe is the command line: flags, presets, checks, and the comparison that guards a resume."""

import argparse
from dataclasses import dataclass

import pytest

from pygan import recipe as recipes
from pygan.errors import UserError
from pygan.recipe import BaseRecipe, option


@dataclass(frozen=True)
class Recipe(BaseRecipe):
    lambda_l1: float = option(100.0, "weight of the L1 term", unit="per image")
    norm: str = option("batch", "normalisation", choices=("batch", "instance"))
    depth: int = option(3, "depth of G", unit="blocks")


PRESETS = {"paper": {}, "tiny": {"batch": 2, "epochs": 1}}


def parse(*argv):
    parser = argparse.ArgumentParser()
    recipes.add_flags(parser, Recipe)
    return vars(parser.parse_args(argv))


def test_every_field_is_a_flag_and_only_given_ones_appear():
    assert parse() == {}
    assert parse("--lambda-l1", "10", "--amp", "--no-tensorboard", "--norm", "instance") == {
        "lambda_l1": 10.0,
        "amp": True,
        "tensorboard": False,
        "norm": "instance",
    }
    parser = argparse.ArgumentParser()
    recipes.add_flags(parser, Recipe)
    text = parser.format_help()
    for name in Recipe.__dataclass_fields__:
        assert recipes.flag(name) in text
    assert "weight of the L1 term (default: 100.0 per image)" in " ".join(text.split())


def test_presets_are_filled_in_and_flags_win():
    recipe = recipes.make(Recipe, PRESETS, "tiny", {"epochs": 3})
    assert (recipe.batch, recipe.epochs, recipe.decay_epochs) == (2, 3, 100)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"batch": 0}, "--batch must be at least 1, got 0"),
        ({"norm": "group"}, "--norm must be one of batch, instance, got 'group'"),
        ({"lr": float("nan")}, "--lr must be a finite number"),
        ({"seed": 1 << 63}, r"--seed must be less than 2\*\*63"),
        ({"beta1": 1.0}, r"--beta1 must be in \[0, 1\), got 1.0"),
        ({"epochs": 0, "decay_epochs": 0}, "nothing to train"),
        ({"batch": "4"}, "--batch must be a whole number, got '4'"),
        ({"batch": True}, "--batch must be a whole number, got True"),
        ({"lr": None}, "--lr must be a number, got None"),
        ({"lambda_l1": "big"}, "--lambda-l1 must be a number, got 'big'"),
        ({"amp": 1}, "--amp must be True or False, got 1"),
        ({"norm": 3}, "--norm must be a word, got 3"),
        ({"depth": 10**9}, "--depth must be at most 256, got 1000000000"),
    ],
)
def test_bad_values_are_named(values, says):
    with pytest.raises(UserError, match=says):
        Recipe(**values)


def test_a_whole_number_is_a_number():
    assert Recipe(lr=1).lr == 1


def test_an_unknown_preset_is_answered_with_the_ones_there_are():
    with pytest.raises(UserError, match=r"unknown preset 'papr': choose one of paper, tiny \(did you mean paper\?\)"):
        recipes.make(Recipe, PRESETS, "papr", {})


def test_a_recipe_survives_being_saved():
    recipe = Recipe(lambda_l1=3.0, seed=7)
    assert recipes.from_dict(Recipe, recipes.to_dict(recipe), "here") == recipe
    with pytest.raises(UserError, match="here has the recipe field 'colour'"):
        recipes.from_dict(Recipe, {"colour": 1}, "here")


def test_differences_ignore_what_a_session_may_change():
    saved = Recipe()
    assert recipes.differences(saved, {"lambda_l1": 100.0, "max_minutes": 5.0, "feed": "pillow"}) == {}
    assert recipes.differences(saved, {"lambda_l1": 10.0}) == {"lambda_l1": (100.0, 10.0)}
    assert recipes.session_fields(saved, {"lambda_l1": 10.0, "max_minutes": 5.0}) == {"max_minutes": 5.0}


def test_numbers_that_are_left_open_become_those_of_the_data():
    found = recipes.fitted(Recipe(batch=4, decay_epochs=0), decay_epochs=7, batch=4)
    assert found == Recipe(batch=4, decay_epochs=7)
    assert recipes.fitted(found, decay_epochs=7) == found
    with pytest.raises(UserError, match=r"^--decay-epochs is 7, but the data has 3; leave the flag out$"):
        recipes.fitted(found, batch=4, decay_epochs=3)
