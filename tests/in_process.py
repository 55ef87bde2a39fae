"""`paredown` in this process, which has imported everything already.

For tests of what a command does; how it is installed, interrupted and killed takes a process.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

from search.cli.main import main

INLINE = ("engine._target_=tests.search.searches.InlineEngine", "~engine.workers")


def paredown(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The command, run in a folder; a search runs its trials here too, unless words say how."""
    own_engine = words[0] != "search" or any(word.startswith("engine") for word in words)
    told = list(words) if own_engine else [*words, *INLINE]
    out, err = io.StringIO(), io.StringIO()
    with inside(cwd), redirect_stdout(out), redirect_stderr(err):
        code = main(told)
    return subprocess.CompletedProcess(told, code, out.getvalue(), err.getvalue())


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Modules of a user's that lie in the folder are forgotten with it."""
    before, path = Path.cwd(), list(sys.path)
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
        sys.path[:] = path
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", None)).startswith(f"{folder}{os.sep}"):
                del sys.modules[name]
