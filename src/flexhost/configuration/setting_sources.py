"""Where values come from: files and variables, and how they combine.

dynaconf reads the values of variables and carries all of it to the functions; what it does with
files (join lists or drop sections, pass over what is missing or has another ending, obey variables
of its own) is left out.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import tomllib
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from flexhost.configuration.later import Later
from flexhost.errors import SettingsError

if TYPE_CHECKING:  # it costs 40 ms of start-up and 6 MB where nobody needs it
    from dynaconf import Dynaconf

PREFIX = "GOODDATA_FLIGHT"
OTHER_NAMES = {"flexconnect": "flexfun"}

# Settings whose values no error shows and no function gets.
SECRETS = {"tokens", "entries", "token", "jwks", "tls_private_key"}
# Sections: what stands where one of them belongs may be a secret of it.
_HIDDEN = ("enumerated_tokens", "jwt")
# Section → the names of its settings: of those that the host itself has.
Known = Mapping[str, Collection[str]]


class Value(NamedTuple):
    """A value and where an operator finds it: a file or a variable, and the section as written."""

    value: Any
    source: str
    section: str


# section → key → value, names in lower case
Sources = dict[str, dict[str, Value]]


def read(files: Iterable[str], known: Known) -> Sources:
    """What stands in these TOML files, in this order, and in the environment, which wins.

    Key by key a later value replaces an earlier one, lists included. Raises SettingsError.
    """
    sources: Sources = {}
    for found in [*(_read_file(file, known) for file in files), _read_environment(known)]:
        for section, keys in found.items():
            sources.setdefault(section, {}).update(keys)
    return sources


def for_functions(sources: Sources, known: Known) -> Later[Dynaconf]:
    """All sections, for an author's `on_load`, with `***` for secrets; made when that asks for it.

    Raises SettingsError.
    """
    everything = Later(lambda: _carried(sources))
    if sources.keys() - known.keys():
        everything.get()  # there may be trouble with names that are not the host's own
    return everything


def _carried(sources: Sources) -> Dynaconf:
    from dynaconf import Dynaconf

    everything = Dynaconf(settings_files=[], loaders=[], core_loaders=[], environments=False)
    names = {section: section for section in sources} | OTHER_NAMES
    for name, section in names.items():
        own = section in ("server", "enumerated_tokens", "jwt")
        keys = {
            key: "***" if own and key in SECRETS else given.value
            for key, given in sources.get(section, {}).items()
        }
        try:
            everything.set(name, keys)
            carried = set(everything.get(name)) == set(keys)
        except Exception:
            carried = False
        if not carried:
            where = next((given.source for given in sources[section].values()), "the settings")
            raise SettingsError(
                f"{where}: dynaconf keeps the name [{name}] for itself, take another"
            )
    return everything


def _read_file(file: str, known: Known) -> Sources:
    try:
        content = tomllib.loads(Path(file).read_text("utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read the settings file {file}: {error.strerror}") from None
    except ValueError as error:
        raise SettingsError(f"the settings file {file} is not TOML: {error}") from None
    return _sections(content, known, lambda section, key: file)


def _read_environment(known: Known) -> Sources:
    content: dict[str, Any] = {}
    for name, text in os.environ.items():
        if not name.startswith(f"{PREFIX}_"):
            if name.upper().startswith(f"{PREFIX}_"):
                raise SettingsError(f"the variable {name} is no setting: write it in capitals")
            continue
        section, parts, key = name.removeprefix(f"{PREFIX}_").partition("__")
        try:
            value = _value_of(text)
        except Exception as error:
            hidden = SECRETS & {section.lower(), key.lower()}
            why = "" if hidden or section.lower().startswith(_HIDDEN) else f": {error}"
            raise SettingsError(f"the variable {name} cannot be read{why}") from None
        if parts:
            content.setdefault(section.lower(), {})[key] = value
        else:
            _check_no_section_meant(name, section.lower(), known)
            content[section.lower()] = value
    return _sections(content, known, lambda section, key: f"{PREFIX}_{section}__{key}".upper())


def _value_of(text: str) -> Any:
    """Of a variable: as dynaconf reads it; what is no TOML may be JSON."""
    from dynaconf.utils.parse_conf import parse_conf_data

    value = parse_conf_data(text, tomlfy=True)
    if isinstance(value, str) and text.lstrip()[:1] in ("[", "{"):
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(text)
    return value


def _check_no_section_meant(variable: str, name: str, known: Known) -> None:
    """GOODDATA_FLIGHT_SERVER_USE_TLS would be passed over, and the host be open."""
    for section in (*known, *OTHER_NAMES):
        if name.startswith(f"{section}_") or name.startswith(f"_{section}"):
            raise SettingsError(
                f"{variable} is no setting: two underscores stand between section and setting, "
                f"{PREFIX}_{section.upper()}__..."
            )


def check_once(names: Iterable[str], what: str, where: str) -> None:
    """Capitals make no difference: one of two that differ in them alone would be passed over.

    Raises SettingsError.
    """
    first: dict[str, str] = {}
    for name in names:
        if (other := first.setdefault(name.lower(), name)) != name:
            raise SettingsError(f"{where}: {what} {other} and {name} are the same, keep one")


def _sections(content: dict[str, Any], known: Known, source: Callable[[str, str], str]) -> Sources:
    """Raises SettingsError for a name that is nearly a section or a setting of the host."""
    sections: Sources = {}
    names = [*known, *OTHER_NAMES]
    check_once(content, "section", source("", "").rstrip("_"))
    for name, keys in content.items():
        written = name.lower()
        section = OTHER_NAMES.get(written, written)
        where = source(written, "").rstrip("_")
        if not isinstance(keys, dict):
            if written in names:
                shown = "a secret" if written in _HIDDEN else repr(keys)
                raise SettingsError(f"{where}: {written} is {shown}, expected a section with keys")
            for section, settings in known.items():
                if written in settings:
                    raise SettingsError(f"{where}: {written} stands outside of [{section}]")
            continue
        if near := written not in names and difflib.get_close_matches(written, names, 1, 0.8):
            raise SettingsError(f"{where}: there is no section [{written}]; is it [{near[0]}]?")
        check_once(keys, f"[{written}]", where)
        given = {k.lower(): Value(v, source(written, k), written) for k, v in keys.items()}
        before = sections.setdefault(section, {})
        both = before.get("functions"), given.get("functions")
        before.update(given)
        if all(both) and all(isinstance(one.value, list) for one in both if one):
            # [flexfun] and [flexconnect] side by side: both are meant
            listed = [name for one in both if one for name in one.value]
            before["functions"] = given["functions"]._replace(value=listed)
    return sections
