"""The only file that speaks with Hydra: composes the YAML tree, and runs Hydra's own options.

Hydra's compose API cannot put a user's --config-dir first, as its command line does, so the two
internal names below are used; the version is pinned to 1.3. Errors leave as one sentence each.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from hydra import main as hydra_main
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from hydra.version import setbase
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from compressors.errors import UserError, choices, unknown

CONF = Path(__file__).resolve().parents[2] / "conf"
ROOT = "config"
OPEN = re.compile(r"space\.\w+\.limits=")  # mappings whose keys are the user's own
Plain = dict[str, Any]


def compose(overrides: Sequence[str], config_dir: Path | None = None) -> Plain:
    """The composed configuration as plain data, interpolations resolved, without Hydra's own."""
    with _hydra(config_dir) as hydra, sentences(overrides, hydra):
        config = _composed(hydra, overrides)
        del config["hydra"]
        plain: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
        return dict(plain)


def sweep(overrides: Sequence[str], config_dir: Path | None = None) -> list[list[str]]:
    """The override lists of a multirun, one a job."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    with _hydra(config_dir) as hydra, sentences(overrides, hydra):
        parser = OverridesParser.create(hydra.config_loader)
        parsed = parser.parse_overrides(_open(overrides))
        (jobs,) = BasicSweeper.split_arguments(parsed, max_batch_size=None)
        return [list(job) for job in jobs]


def own_options(arguments: Sequence[str], job: Callable[[Plain, list[str]], Any]) -> None:
    """Hydra's own command line (--help, --cfg, --info, --multirun, …), as its users know it."""

    def run(config: DictConfig) -> Any:
        plain: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
        return job(plain, list(HydraConfig.get().overrides.task))

    before = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv, os.environ["HYDRA_FULL_ERROR"] = ["paredown search", *_open(arguments)], "1"
    try:
        with sentences(arguments, None):
            hydra_main(version_base="1.3", config_path=str(CONF), config_name=ROOT)(run)()
    finally:
        sys.argv = before[0]
        if before[1] is None:
            del os.environ["HYDRA_FULL_ERROR"]
        GlobalHydra.instance().clear()


@contextmanager
def _hydra(config_dir: Path | None) -> Iterator[Hydra]:
    setbase("1.3")
    if config_dir is not None and not config_dir.is_dir():
        raise UserError(f"--config-dir '{config_dir}' is not a folder; valid: one that exists.")
    path = create_config_search_path(str(CONF))
    if config_dir is not None:
        path.prepend("command-line", f"file://{config_dir.resolve()}")
    GlobalHydra.instance().clear()
    try:
        yield Hydra.create_main_hydra2(task_name="paredown", config_search_path=path)
    finally:
        GlobalHydra.instance().clear()


def _open(overrides: Sequence[str]) -> list[str]:
    """Lets mappings that are the user's own take new keys, which Hydra refuses without ++."""
    return [f"++{word}" if OPEN.match(word) else word for word in overrides]


def _composed(hydra: Hydra, overrides: Sequence[str]) -> DictConfig:
    config = hydra.compose_config(
        config_name=ROOT,
        overrides=_open(overrides),
        run_mode=RunMode.RUN,
        with_log_configuration=False,
    )
    OmegaConf.set_struct(config, False)
    return config


@contextmanager
def sentences(overrides: Sequence[str], hydra: Hydra | None) -> Iterator[None]:
    """Turns what Hydra, OmegaConf and PyYAML raise about a configuration into one sentence."""
    try:
        yield
    except MissingConfigException as error:
        raise UserError(_missing(error, hydra)) from error
    except OverrideParseException as error:
        raise UserError(
            f"The override '{error.override}' cannot be read; write key=value, such as "
            "budget.trials=12."
        ) from error
    except yaml.YAMLError as error:
        raise UserError(_yaml(error)) from error
    except MissingMandatoryValue as error:
        raise UserError(
            f"The key '{error.full_key}' needs a value; write {error.full_key}=…."
        ) from error
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        if hydra is None and type(error) is ValueError:
            raise  # a job's own
        raise UserError(_other(error, overrides, hydra)) from error


def _missing(error: MissingConfigException, hydra: Hydra | None) -> str:
    found = re.search(r"Could not (?:find|load) '([^']+)'", str(error))
    group, _, choice = (found.group(1) if found else "").rpartition("/")
    if group and hydra is not None:
        return unknown(f"choice of {group}", choice, _choices(hydra, group))
    return " ".join(str(error).split())


def _choices(hydra: Hydra, group: str) -> list[str]:
    return [str(name) for name in hydra.config_loader.get_group_options(group)]


def _yaml(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or "it is not YAML"
    where = f"{mark.name}, line {mark.line + 1}" if mark else "A configuration file"
    return f"{where.removeprefix('file://')}: {problem}."


def _other(error: Exception, overrides: Sequence[str], hydra: Hydra | None) -> str:
    words = [line for line in str(error).splitlines() if line.strip()]
    for override in overrides:
        key = override.split("=", 1)[0].lstrip("+~")
        if hydra is not None and f"'{key}'" in words[0] and "=" in override:
            return _unknown_key(key, known_keys(hydra))
    if words[0].startswith("Ambiguous value"):
        return f"{words[0].rstrip('.')}; several values are a sweep: add --multirun."
    return f"The configuration does not compose: {words[0].rstrip('.')}."


def _unknown_key(key: str, known: Sequence[str]) -> str:
    """Names the nearest key of all, and lists those beside it."""
    near = get_close_matches(key, known, n=1)
    parent = key.rpartition(".")[0]
    beside = [k for k in known if k.rpartition(".")[0] == parent and (parent or "." not in k)]
    hint = f" Did you mean '{near[0]}'?" if near else ""
    shown = beside or [k for k in known if "." not in k]
    return f"Unknown key '{key}'.{hint} Valid: {choices(shown, 20)}."


def known_keys(hydra: Hydra) -> list[str]:
    """Every key of the default configuration, dotted, groups among them."""
    config = _composed(hydra, [])
    del config["hydra"]
    plain: Any = OmegaConf.to_container(config, resolve=False)
    groups = [group for group in hydra.config_loader.list_groups("") if group != "hydra"]
    return list(dict.fromkeys([*_dotted(plain), *groups]))


def _dotted(node: Plain, prefix: str = "") -> Iterator[str]:
    for key, value in node.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _dotted(value, f"{prefix}{key}.")
