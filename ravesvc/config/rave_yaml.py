"""rave.yaml -> `Config`. An error names file, line and key, says what is wrong and how to correct it; all are
reported.

Which options there are, and what each may be, is declared in `config/options.py` and `config/worker_options.py`.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ravesvc.common import text_file
from ravesvc.config import database, proxy, table
from ravesvc.config.advice import FOR_SERVICE, Advice
from ravesvc.config.options import CONFIGURATION_DIRECTORY, STATE_DIRECTORY, TABLE, Config
from ravesvc.config.table import Entry
from ravesvc.config.yaml_section import Findings, Section
from ravesvc.config.yaml_tree import compose
from ravesvc.errors import Code, RaveError

# The shipped file has 9 kB.
_MAX_FILE_BYTES = 1024 * 1024

_NAMES = [*(entry.name for entry in TABLE), *table.sections(Config)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Places:
    """The directories of files that rave.yaml does not name: of the state, and of what goes with rave.yaml.

    `advice` is for whom the file is.
    """

    state: Path = STATE_DIRECTORY
    configuration: Path = CONFIGURATION_DIRECTORY
    advice: Advice = FOR_SERVICE

    def moved(self, path: Path) -> Path:
        """Where a file is here that the service has at `path`."""
        for there, here in (STATE_DIRECTORY, self.state), (CONFIGURATION_DIRECTORY, self.configuration):
            if path.is_relative_to(there):
                return here / path.relative_to(there)
        return path


# Those of the service.
_PLACES = Places()


def load(path: str | Path, places: Places = _PLACES) -> Config:
    """Read the configuration file, and that of the database if there is one.

    Raises `RaveError` (Config); when there are several errors, the message holds a line for each.
    """
    config, problems = examine(path, places)
    if len(problems) == 1:
        raise problems[0]
    if problems or config is None:
        raise RaveError(Code.CONFIG, "\n".join(map(str, problems)), file=str(path))
    return config


def with_environment(settings: Config, environment: Mapping[str, str]) -> Config:
    """The same, with the proxy that the environment names when rave.yaml names none.

    Raises `RaveError` (Config) when that can't be used.
    """
    return settings if settings.proxy else dataclasses.replace(settings, proxy=proxy.from_environment(environment))


def examine(path: str | Path, places: Places = _PLACES) -> tuple[Config | None, list[RaveError]]:
    """The same with every error (Config), those of the database's file last.

    The configuration has the default in the place of each value that is wrong; None for what is not YAML.
    """
    try:
        text = text_file.decode(text_file.read(path, _MAX_FILE_BYTES))
    except FileNotFoundError:
        directory, file = shlex.quote(str(Path(path).parent)), shlex.quote(str(path))
        hint = places.advice.no_config.format(directory=directory, file=file)
        return None, [RaveError(Code.CONFIG, f"{path} does not exist", hint=hint, file=str(path))]
    except OSError as e:
        hint = places.advice.closed_config.format(file=shlex.quote(str(path)))
        return None, [RaveError(Code.CONFIG, f"{path} can't be read: {e.strerror}", hint=hint, file=str(path))]
    except RaveError as e:
        problem = f"{path} can't be read: it {e.message}"
        return None, [RaveError(Code.CONFIG, problem, hint=e.hint, file=str(path))]
    config, problems = _read(text, str(path), places)
    if config is None:
        return None, problems
    found, more = database.read(config.database_config_path, places.advice.closed_database)
    return dataclasses.replace(config, database=found), problems + more


def read(text: str, file: str) -> tuple[Config | None, list[RaveError]]:
    """Read the text of a configuration file: the configuration, without a database, or None and every error in it."""
    config, problems = _read(text, file, _PLACES)
    return (None if problems else config), problems


def _read(text: str, file: str, places: Places) -> tuple[Config | None, list[RaveError]]:
    """As `read`, but with the default in the place of each value that is wrong; None for what is not YAML."""
    try:
        root = compose(text, file)
    except RaveError as e:
        return None, [e]
    found = Findings(file)
    config = _config(Section(root, "", found), places)
    config = dataclasses.replace(
        config, advice=places.advice, file=file, lines=found.lines, warnings=tuple(found.warnings)
    )
    return config, sorted(found.problems, key=lambda problem: int(problem.attributes["line"]))


def _config(top: Section, places: Places) -> Config:
    sections = {"": top} | {name: top.section(name) for name in table.sections(Config)}

    def value(entry: Entry) -> object:
        section, _, key = entry.name.rpartition(".")
        default = entry.default
        usual = places.moved(default) if isinstance(default, Path) else default
        return sections[section].take(key, entry.option, usual)

    found = table.build(Config, value)
    for section in sections.values():
        section.refuse_unknown(_NAMES, places.advice.all_options)
    key_path = places.moved(found.videos.youtube_key_path)
    return dataclasses.replace(
        found,
        proxy=found.proxy and dataclasses.replace(found.proxy, bypass=found.no_proxy),
        videos=dataclasses.replace(found.videos, youtube_key_path=key_path),
    )
