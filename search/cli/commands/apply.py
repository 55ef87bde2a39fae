"""`paredown apply`: from a policy file to a deployable model, on this or a newer checkpoint."""

from __future__ import annotations

import argparse
from pathlib import Path

from compressors.errors import UserError


def arguments(parser: argparse.ArgumentParser) -> None:
    """The policy, the folder to write, and the words that a search would take."""
    parser.add_argument("policy", type=Path, help="a policy's YAML file")
    parser.add_argument(
        "overrides", nargs="*", help="as for search: task=…, target=…, target.threads=…"
    )
    parser.add_argument("--out", type=Path, help="default: named after the policy")
    parser.add_argument("--config-dir", "-cd", type=Path, help="your own folder of YAML")


def run(given: argparse.Namespace) -> int:
    """Build, measure and write the model."""
    from search.cli.opened import evaluator_of
    from search.configuration.compose import compose

    settings = compose(given.overrides, given.config_dir)
    if not given.policy.is_file():
        raise UserError(f"There is no policy file '{given.policy}'.")
    from search.exports.exports import apply_policy

    out = given.out or Path(f"{given.policy.stem}-model")
    made = apply_policy(given.policy, out, lambda: evaluator_of(settings))
    print(f"Built in {made}/: {', '.join(sorted(path.name for path in made.iterdir()))}")
    return 0
