"""From words on the command line to typed settings, and from a study's config.yaml back to them.

Everything wrong with a configuration is found here, before anything runs, in one sentence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from compressors.errors import UserError
from search import atomic
from search.configuration import user_path
from search.configuration.build import check
from search.configuration.settings import Settings
from search.configuration.typed import typed

CONFIG = "config.yaml"
NODES = ("task", "target", "sampler", "engine", "stopping")


def settings_of(
    plain: Mapping[str, Any], overrides: Sequence[str], config_dir: Path | None = None
) -> Settings:
    """Typed settings of a configuration composed from these overrides."""
    own = () if config_dir is None else ("--config-dir", str(config_dir))
    words = (*own, *overrides)
    found = {**plain, "modules": user_path.folders(config_dir), "words": words}
    chosen = found.get("objectives")
    if isinstance(chosen, Mapping):
        found["objectives"] = [name for name, wanted in chosen.items() if wanted]
    return typed(Settings, found)


def compose(overrides: Sequence[str], config_dir: Path | None = None) -> Settings:
    """Settings of command-line overrides, over conf/ and the user's own folder of YAML."""
    from search.configuration import hydra_tree

    return settings_of(hydra_tree.compose(overrides, config_dir), overrides, config_dir)


def check_nodes(settings: Settings, nodes: Sequence[str] = NODES) -> None:
    """Hold the nodes that name classes against those classes, without building them."""
    user_path.append(settings.modules)
    for name in nodes:
        check(getattr(settings, name), name)


def write(settings: Settings, folder: Path) -> None:
    """Write config.yaml into the study's folder; for its owner alone, as a URL may hold a key."""
    text = yaml.safe_dump(settings.to_plain(), sort_keys=False, allow_unicode=True)
    atomic.write_text(folder / CONFIG, text).chmod(0o600)


def read(folder: Path) -> Settings:
    """The settings of the study in a folder; its user's modules become importable."""
    path = folder / CONFIG
    try:
        plain = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        words = " ".join(str(error).split())
        raise UserError(f"The study's {path} cannot be read: {words}.") from error
    if not isinstance(plain, Mapping):
        raise UserError(f"The study's {path} does not hold a configuration.")
    settings = typed(Settings, {str(key): value for key, value in plain.items()})
    user_path.append(settings.modules)
    return settings
