"""`paredown`: finds the command, hands over its words, turns how it ends into an exit code.

Imports nothing heavy and nothing of ours before it is known where ours would come from. Exit
codes: 0 done, 1 a check failed, 2 something the user can mend, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

from search.configuration import user_path

COMMANDS = {
    "search": "search compression policies; started again, it continues",
    "front": "print a study's front; --remeasure measures its files again",
    "export": "write the deployable model and card of a member of the front",
    "apply": "build the deployable model from a policy file alone",
    "verify": "measure exported files again and fail where they depart from the record",
    "profile": "time a model's layers on this device, as a table to search with elsewhere",
    "report": "write a study's report.html and front.png",
    "compare": "write one page with the fronts of several studies side by side",
    "ui": "browse the trials in MLflow, on this machine",
    "sync": "bring MLflow up to date with a study",
    "doctor": "tell versions, CPU, runtimes, threads and measurement noise",
}
MENDABLE, STOPPED = 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the answer is the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    elsewhere = user_path.shadowed()
    if elsewhere:
        print(f"paredown: {elsewhere}", file=sys.stderr)
        return MENDABLE
    try:
        return _run(words)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("\nparedown: stopped; the same command continues.", file=sys.stderr)
        return STOPPED


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "--version"):
        print(_version() if words[:1] == ["--version"] else overview())
        return 0
    from compressors.errors import UserError, unknown

    try:
        if words[0] not in COMMANDS:
            raise UserError(unknown("command", words[0], COMMANDS))
        return _command(words[0], words[1:])
    except UserError as error:
        print(f"paredown: {error}", file=sys.stderr)
        return MENDABLE
    except SystemExit as end:  # argparse has said what there is to say
        return end.code if isinstance(end.code, int) else 0


def _command(name: str, words: list[str]) -> int:
    command = import_module(f"search.cli.commands.{name}")
    if name == "search":  # its words are Hydra's
        return int(command.run(words))
    parser = argparse.ArgumentParser(
        prog=f"paredown {name}", description=f"{COMMANDS[name].capitalize()}."
    )
    command.arguments(parser)
    return int(command.run(parser.parse_intermixed_args(words)))


def overview() -> str:
    """What bare `paredown` prints."""
    lines = [f"  {name:<8} {words}" for name, words in COMMANDS.items()]
    return "\n".join(
        [
            "Pare down a trained network along its Pareto front.",
            "",
            "usage: paredown COMMAND [words …]",
            "",
            *lines,
            "",
            "`paredown COMMAND --help` tells more; `paredown search` alone runs the default study.",
        ]
    )


def _version() -> str:
    try:
        return f"paredown {version('paredown')}"
    except PackageNotFoundError:
        return "paredown, not installed"


if __name__ == "__main__":
    sys.exit(main())
