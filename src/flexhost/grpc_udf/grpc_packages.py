"""Packages that plain functions over gRPC take, which a host without them need not have."""

from __future__ import annotations

import importlib.util

from flexhost.errors import SettingsError

_NEEDED = ("grpc", "grpc_reflection", "grpc_health")


def check(what: str) -> None:
    """what: takes them. Raises SettingsError when one is not installed."""
    if missing := [one for one in _NEEDED if importlib.util.find_spec(one) is None]:
        raise SettingsError(
            f"{what} needs {', '.join(missing)}: "
            "pip install grpcio grpcio-reflection grpcio-health-checking"
        )
