"""`paredown ui`: MLflow's own pages over a study's runs, on this machine's loopback address."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from compressors.errors import UserError
from search.cli import studies
from search.cli.opened import open_study

LOOPBACK = "127.0.0.1"


def arguments(parser: argparse.ArgumentParser) -> None:
    """STUDY and the port."""
    studies.argument(parser)
    parser.add_argument("--port", type=int, default=5000)


def run(given: argparse.Namespace) -> int:
    """Serve until Ctrl-C."""
    uri = open_study(given.study).settings.tracking_uri
    if uri.startswith(("http://", "https://")):
        print(f"The runs are on a server already: {uri}")
        return 0
    file = uri.removeprefix("sqlite:///")
    if uri.startswith("sqlite:///") and not Path(file).exists():
        raise UserError(f"There is no MLflow store at {file}; `paredown sync` writes one.")
    print(f"MLflow at http://{LOOPBACK}:{given.port} until Ctrl-C")
    return subprocess.run(command(uri, given.port), check=False).returncode


def command(uri: str, port: int) -> list[str]:
    """MLflow's server, bound to the loopback address."""
    address = ["--host", LOOPBACK, "--port", str(port)]
    return [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri, *address]
