"""The default study on every target that runs here, side by side.

    python scripts/bench/targets.py run [--only ort_cpu ...]
    python scripts/bench/targets.py table [--docs docs]

`run` searches where no front is yet; a study that was cut off goes on. The table of another device
is made here, by ONNX Runtime, and then looked up. `table` reads the fronts, writes a section of
docs/benchmarks.md and the picture of `paredown compare`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import page

TARGETS = (
    "ort_cpu",
    "openvino_cpu",
    "torch_cpu",
    "litert",
    "executorch",
    "npu_sim",
    "storage",
    "table",
)
OUT = Path("outputs/bench/targets")
WORSE = 0.005  # of test error, that the fastest member may have more than the uncompressed model
PICTURE = "targets.png"

Member = Mapping[str, Any]


def study(target: str) -> str:
    """The name of a target's study."""
    return f"default-{target}"


def run(given: argparse.Namespace) -> None:
    """Search on every target that has no front yet."""
    given.out.mkdir(parents=True, exist_ok=True)
    for target in given.only or TARGETS:
        if not _front(given.out, target).exists():
            words = ["search", f"target={target}", f"study.name={study(target)}", "tracking=none"]
            if target == "table":
                words.append(f"target.file={_table(given.out)}")
            _paredown([*words, *given.override], given.out)


def _table(out: Path) -> Path:
    """The table of ONNX Runtime on this machine."""
    path = out.absolute() / "ort_cpu.csv"
    if not path.exists():
        _paredown(["profile", "target=ort_cpu", f"out={path}"], out)
    return path


def _paredown(words: Sequence[str], folder: Path) -> None:
    subprocess.run([shutil.which("paredown") or "paredown", *words], cwd=folder, check=True)


def _front(out: Path, target: str) -> Path:
    return out / "outputs" / study(target) / "front.json"


def write_table(given: argparse.Namespace) -> None:
    """The section and the picture."""
    there = [target for target in TARGETS if _front(given.out, target).exists()]
    fronts = {t: json.loads(_front(given.out, t).read_text()) for t in there}
    section = "\n".join([INTRODUCTION, *HEADER, *_lines(fronts), "", f"![Fronts]({PICTURE})"])
    folders = [str(_front(given.out, target).parent.absolute()) for target in there]
    drawn = (given.docs / PICTURE).absolute()
    _paredown(["compare", *folders, "--out", str(drawn.with_suffix(".html"))], given.out)
    drawn.with_suffix(".html").unlink()  # five megabytes that the command makes again
    page.put(given.docs, "targets", section)
    print(section)


def _lines(fronts: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for target, front in fronts.items():
        whole = front["reference"]["exported"]
        allowed = whole["test_error"]["value"] + WORSE + 1e-9
        good = [m for m in front["members"] if m["exported"]["test_error"]["value"] <= allowed]
        apart = max(abs(_error(m, "search") - _error(m, "exported")) for m in front["members"])
        told = [
            target,
            str(front["trials"]["complete"]),
            str(len(front["members"])),
            _times(max((_faster(m, front) for m in good), default=None)),
            front["timing"]["basis"],
            _times(max((whole["size_bytes"]["value"] / _size(m) for m in good), default=None)),
            f"{100 * apart:.2f} points",
            f"{front['cost']['seconds'] / 60:.0f} min",
        ]
        yield f"| {' | '.join(told)} |"


def _error(member: Member, where: str) -> float:
    return float(member[where]["error"]["value"])


def _size(member: Member) -> float:
    return float(member["exported"]["size_bytes"]["value"])


def _faster(member: Member, front: Mapping[str, Any]) -> float:
    """How many times faster: of measured files their own ratio, else of what was computed."""
    exported, whole = member["exported"], front["reference"]
    if "speedup" in exported:
        return float(exported["speedup"]["value"])
    return float(whole["latency_ms"]["value"] / member["search"]["latency_ms"]["value"])


def _times(value: float | None) -> str:
    return "none" if value is None else f"{value:.1f}x"


HEADER = (
    "| target | trials | front | faster | which is | smaller | exported error off by | work |",
    "|---|--:|--:|--:|---|--:|--:|--:|",
)
INTRODUCTION = """## The default study on every target

32 trials on ResNet-20 for the digits, error, latency and size together. *Faster* and *smaller* are
the most that a member of the front reaches whose exported file has at most half a point more test
error than the uncompressed model; they need not be the same member. Latencies of npu_sim are
computed, those of table looked up; storage's are those of the unpacked model. Then follows by how
much a member's exported validation error departs from the simulated one at most; *work* is what all
trials took together.

```
python scripts/bench/targets.py run
python scripts/bench/targets.py table
```
"""


def main() -> None:
    """Read the words and do it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    several = commands.add_parser("run", help="search where no front is yet")
    several.add_argument("--only", nargs="*", default=[], choices=TARGETS)
    several.add_argument("--override", nargs="*", default=[], help="as for paredown search")
    several.set_defaults(do=run)
    table = commands.add_parser("table", help="write what is there")
    table.add_argument("--docs", type=Path, default=Path("docs"))
    table.set_defaults(do=write_table)
    for command in (several, table):
        command.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    given.do(given)


if __name__ == "__main__":
    main()
