"""The author's modules, built anew while the old ones stay in use."""

from __future__ import annotations

import importlib
import os
import sys

import pytest

from flexhost.functions.fresh import Modules


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A package `shop` of these modules, as files to write: `shop` imports nothing, `shop.orders`
    imports `shop.prices`, which imports `shop.rates` relatively; `shop.other` stands alone."""
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "rates.py").write_text("RATE = 1\n")
    (folder / "prices.py").write_text("from . import rates\nPRICE = rates.RATE * 10\n")
    (folder / "orders.py").write_text("from shop.prices import PRICE\nclass Order: price = PRICE\n")
    (folder / "other.py").write_text("X = object()\n")
    before, finders = set(sys.modules), list(sys.meta_path)
    monkeypatch.syspath_prepend(tmp_path)
    modules = Modules.around(["shop.orders"])
    modules.install()
    for name in ("orders", "other"):
        importlib.import_module(f"shop.{name}")
    yield folder, modules
    sys.meta_path[:] = finders
    for name in set(sys.modules) - before:
        del sys.modules[name]


def rebuilt(modules, *files):
    names = modules.outdated(files)
    with modules.without(names):
        return importlib.import_module("shop.orders")


def test_what_imports_a_changed_module_is_outdated_with_it(project):
    folder, modules = project

    outdated = modules.outdated([folder / "rates.py"])

    assert outdated == {"shop.rates", "shop.prices", "shop.orders"}


def test_all_modules_of_a_package_are_outdated_with_it(project):
    folder, modules = project

    outdated = modules.outdated([folder / "__init__.py"])

    assert outdated == {"shop", *(f"shop.{n}" for n in ("rates", "prices", "orders", "other"))}


def test_outdated_modules_are_built_as_fresh_objects_and_others_stay(project):
    folder, modules = project
    old, other = sys.modules["shop.orders"], sys.modules["shop.other"]
    (folder / "rates.py").write_text("RATE = 2\n")

    new = rebuilt(modules, folder / "rates.py")

    assert (old.Order.price, new.Order.price) == (10, 20)
    assert new is sys.modules["shop.orders"] is not old
    assert sys.modules["shop.other"] is other
    assert sys.modules["shop"].orders is new


def test_a_failure_leaves_everything_as_it_was(project):
    folder, modules = project
    before = dict(sys.modules)
    (folder / "rates.py").write_text("RATE = 2\n")
    (folder / "orders.py").write_text("import shop.prices, shop.added\n1 / 0\n")
    (folder / "added.py").write_text("")

    with pytest.raises(ZeroDivisionError):
        rebuilt(modules, folder / "rates.py", folder / "orders.py")

    assert sys.modules == before
    assert sys.modules["shop"].orders is before["shop.orders"]
    assert sys.modules["shop"].rates.RATE == 1


def test_a_change_is_seen_that_left_size_and_time_of_the_file_as_they_were(project):
    folder, modules = project
    file = folder / "rates.py"
    times = file.stat().st_atime_ns, file.stat().st_mtime_ns
    file.write_text("RATE = 3\n")
    os.utime(file, ns=times)

    assert rebuilt(modules, file).Order.price == 30
    assert not (folder / "__pycache__").exists()


def test_the_host_itself_and_installed_packages_are_not_the_authors(project):
    folder, modules = project

    assert modules.has(str(folder / "rates.py"))
    assert not modules.has(str(folder.parent / "flexhost" / "host.py"))
    assert not modules.has(str(folder.parent / "lib" / "site-packages" / "x.py"))
    assert not modules.has(pytest.__file__)
