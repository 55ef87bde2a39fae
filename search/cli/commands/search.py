"""`paredown search`: Hydra's words and options, and --dry-run.

Hydra answers what is its own (--help, --cfg, --info, --multirun) after the settings of every job
have been held against the schema; a plain run goes around it, so that nothing is written outside
the output folder.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from compressors.errors import UserError
from search.configuration.compose import check_nodes, compose, settings_of
from search.configuration.settings import Settings


def run(words: Sequence[str]) -> int:
    """Do what the words say."""
    arguments = _parse(words)
    config_dir = Path(arguments.config_dir) if arguments.config_dir else None
    passed = [word for word in words if word != "--dry-run"]
    if _is_question(arguments):
        if arguments.cfg:
            compose(arguments.overrides, config_dir)
        _hydra(passed, lambda *_: 0)
        return 0
    if arguments.multirun:
        return _multirun(passed, arguments, config_dir)
    return _search(compose(arguments.overrides, config_dir), arguments.dry_run)


def _parse(words: Sequence[str]) -> argparse.Namespace:
    from hydra._internal.utils import get_args_parser

    parser = get_args_parser()
    parser.prog = "paredown search"
    parser.add_argument("--dry-run", action="store_true")
    arguments = parser.parse_intermixed_args(list(words))
    if arguments.config_path or arguments.config_name or arguments.experimental_rerun:
        raise UserError(
            "--config-path, --config-name and --experimental-rerun are not taken here; put your "
            "own YAML into a folder and name it with --config-dir."
        )
    return arguments


def _is_question(arguments: argparse.Namespace) -> bool:
    asked = ("help", "hydra_help", "cfg", "info", "shell_completion")
    return any(getattr(arguments, name) for name in asked)


def _multirun(words: Sequence[str], arguments: argparse.Namespace, config_dir: Path | None) -> int:
    from search.configuration import hydra_tree

    for job in hydra_tree.sweep(arguments.overrides, config_dir):
        check_nodes(compose(job, config_dir))
    codes: list[int] = []

    def one(plain: dict[str, Any], overrides: list[str]) -> int:
        codes.append(_search(settings_of(plain, overrides, config_dir), arguments.dry_run))
        return codes[-1]

    _hydra(words, one)
    return max(codes, default=0)


def _hydra(words: Sequence[str], job: Any) -> None:
    from search.configuration import hydra_tree

    hydra_tree.own_options(words, job)


def _search(settings: Settings, dry_run: bool) -> int:
    from search.run import run as search

    return search(settings, dry_run=dry_run)
