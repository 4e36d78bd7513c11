"""Queries of `sources` in a database: their text, where they run, how they are stopped."""
