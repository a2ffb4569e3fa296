"""Old import paths say where things are now, or still work; and every public name can be imported."""

import importlib
import importlib.util
import inspect

import pytest

import dualvqa
import modeling_dualvqa
import processing

PACKAGES = (modeling_dualvqa, processing)
MODULES = {old: new for package in PACKAGES for old, new in package.MOVED_MODULES.items()}
NAMES = [(p, home, name) for p in PACKAGES for home, names in p.MOVED.items() for name in names]


@pytest.mark.parametrize("old, new", MODULES.items())
def test_an_old_module_says_where_it_is_now(old, new):
    with pytest.raises(ModuleNotFoundError, match=f"^{old} has moved: import {new}$"):
        importlib.import_module(old)
    assert importlib.util.find_spec(new)


def test_an_old_statement_says_where_the_module_is_now():
    with pytest.raises(ModuleNotFoundError, match="import dualvqa.training.trainer"):
        from modeling_dualvqa.trainer_dualvqa import DualVQATrainer  # noqa: F401


@pytest.mark.parametrize("package, home, name", NAMES, ids=[name for _, _, name in NAMES])
def test_an_old_name_still_comes_and_warns(package, home, name):
    with pytest.warns(FutureWarning, match=f"{name} has moved: from {home} import {name}"):
        found = getattr(package, name)
    assert found is getattr(importlib.import_module(home), name)


def test_an_old_import_of_the_trainer_still_works():
    with pytest.warns(FutureWarning, match="from dualvqa import DualVQATrainer") as warned:
        from modeling_dualvqa import DualVQATrainer
    assert DualVQATrainer is dualvqa.DualVQATrainer
    assert {warning.filename for warning in warned} == {__file__}  # the line that is to be changed


@pytest.mark.parametrize("package", [dualvqa, *PACKAGES], ids=lambda package: package.__name__)
def test_what_never_was_there_is_refused_as_ever(package):
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        package.nothing  # noqa: B018
    with pytest.raises(ModuleNotFoundError, match=r"^No module named '\w+\.nothing'$"):
        importlib.import_module(f"{package.__name__}.nothing")


def test_modules_of_others_with_such_a_name_are_not_concerned():
    with pytest.raises(ModuleNotFoundError, match="^No module named 'image_cache'$"):
        importlib.import_module("image_cache")


@pytest.mark.parametrize("name", dualvqa.__all__)
def test_a_public_name_can_be_imported_and_is_listed(name):
    found = getattr(dualvqa, name)
    assert name in dir(dualvqa)
    assert not callable(found) or inspect.getdoc(found)


def test_every_name_of_processing_can_be_imported():
    assert all(getattr(processing, name) is not None for name in processing.__all__)
