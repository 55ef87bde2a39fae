"""Imports point one way, nothing heavy happens where it would be felt, files stay small."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ABOVE = {"compressors": {"evaluation", "search", "conf"}, "evaluation": {"search", "conf"}}
HEAVY = ("torch", "onnxruntime", "onnx", "mlflow", "ray", "optuna", "matplotlib", "plotly", "rich")
PACKAGES = ("compressors", "evaluation", "search")


def modules(package: str) -> list[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    assert found
    return found


def imported(path: Path) -> set[str]:
    """The packages that a file imports anywhere in it, by their first name."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names.add((node.module or "").split(".")[0])
    return names


@pytest.mark.parametrize("package", ABOVE)
def test_imports_point_one_way(package: str) -> None:
    for path in modules(package):
        assert not imported(path) & ABOVE[package], path


def test_the_import_test_sees_imports_inside_functions(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(
        "def f():\n    from search.front import find\n    import evaluation.task as t\n"
    )
    assert imported(path) == {"search", "evaluation"}


@pytest.mark.parametrize(
    "name", ["search.cli.main", "search.configuration.settings", "search.configuration.compose"]
)
def test_nothing_heavy_is_imported_with(name: str) -> None:
    code = f"import sys, {name}; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_says_what_it_does(package: str) -> None:
    for path in modules(package):
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path


@pytest.mark.parametrize("package", PACKAGES)
def test_files_stay_small(package: str) -> None:
    for path in modules(package):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 300, path


def test_mlflow_ray_and_torch_pruning_are_each_imported_by_few_files() -> None:
    """Each is one seam; whoever needs more of it widens the seam."""
    users = {name: [] for name in ("ray", "torch_pruning", "hydra")}
    for package in PACKAGES:
        for path in modules(package):
            for name in users.keys() & imported(path):
                users[name].append(path.name)
    assert len(users["torch_pruning"]) <= 3, users
    assert len(users["ray"]) <= 3, users
    assert len(users["hydra"]) <= 2, users


def test_every_package_is_listed_for_installation() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for package in (*PACKAGES, "conf"):
        for folder in (ROOT / package).rglob("__init__.py"):
            name = ".".join(folder.parent.relative_to(ROOT).parts)
            assert f'"{name}"' in text, name


def test_nothing_names_a_person_s_folder() -> None:
    """Code and configuration hold on every machine."""
    marks = [f"/{top}/" for top in ("home", "Users", "root")]
    folders = [*PACKAGES, "conf", "scripts"]
    for path in (p for name in folders for p in (ROOT / name).rglob("*") if p.is_file()):
        if path.suffix in {".py", ".yaml", ""}:
            text = path.read_text(encoding="utf-8")
            assert not [mark for mark in marks if mark in text], path
