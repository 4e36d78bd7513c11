"""A folder of configuration: the name of a file is a key, what is in it the value."""

from __future__ import annotations

from pathlib import Path

from flexhost.caller import ANYONE
from flexhost.errors import BadCall, FileMissing, SettingsError
from flexhost.grpc_udf import udf_spec
from flexhost.grpc_udf.class_names import Functions
from flexhost.grpc_udf.execution import Execution
from flexhost.grpc_udf.extraction import NotExtracted
from flexhost.grpc_udf.udf_spec import KEY, Spec


def execution(folder: Path, functions: Functions) -> Execution | None:
    """The function that the spec in the folder names; None when there is no spec.

    Raises SettingsError.
    """
    if (spec := _spec(folder)) is None:
        return None
    try:
        function = functions.find(spec.class_name, ANYONE)
        return Execution(function, spec.arguments, spec.result)
    except (NotExtracted, BadCall) as error:
        raise SettingsError(f"{folder / KEY} names {spec.class_name!r}: {error}") from None


def _spec(folder: Path) -> Spec | None:
    """Raises SettingsError."""
    if not folder.is_dir():
        raise FileMissing(f"the folder {folder} is not there")
    file = folder / KEY
    if not file.exists():
        return None
    try:
        return udf_spec.decode(file.read_bytes())
    except OSError as error:
        raise SettingsError(f"cannot read {file}: {error.strerror}") from None
    except ValueError as error:
        raise SettingsError(f"{file} {error}") from None
