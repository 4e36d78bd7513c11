"""Loads the kit that functions are tested with."""

pytest_plugins = ["flexhost.testing"]
