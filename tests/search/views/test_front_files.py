from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from compressors.errors import UserError
from compressors.policies import policy_yaml
from search.atomic import replacing, write_text
from search.front import front, front_files
from search.front.front_files import Validation
from tests.search.views import studies

ROWS = studies.study(40)
FRONT = front.find(ROWS)
VALIDATION = studies.validation(list(FRONT.members), ROWS.trials[0])


def test_front_json_has_the_agreed_form(tmp_path: Path) -> None:
    front_files.write(tmp_path, ROWS, FRONT, VALIDATION)
    content = json.loads((tmp_path / "front.json").read_text())
    assert content["version"] == 1
    assert content["trials"] == {"complete": 38, "failed": 2, "stopped_early": 0}
    assert content["objectives"][0] == {
        "name": "error",
        "unit": "fraction",
        "direction": "minimize",
    }
    assert content["cost"]["seconds"] == pytest.approx(sum(r.seconds for r in ROWS.trials), 1e-6)
    assert set(content["reference"]) > {"error", "latency_ms", "size_bytes"}
    assert [m["trial"] for m in content["members"]] == [m.number for m in FRONT.members]
    for member in content["members"]:
        assert set(member["search"]) >= {"error", "latency_ms", "size_bytes"}
        assert set(member["exported"]) >= {
            "error",
            "test_error",
            "latency_ms",
            "size_bytes",
            "speedup",
            "p95_ms",
            "throughput",
            "peak_memory_bytes",
        }
        assert set(member["exported"]["speedup"]) == {"value", "spread"}
        row = ROWS.trials[member["trial"]]
        assert member["predicted"] == row.predicted
        assert bool(member["predicted"]) is not member["baseline"]
        policy = policy_yaml.read(tmp_path / member["policy"])
        assert policy_yaml.policy_id(policy) == member["policy_id"]


def test_hypervolume_can_be_computed_again_from_front_json_alone(tmp_path: Path) -> None:
    front_files.write(tmp_path, ROWS, FRONT, VALIDATION)
    content = json.loads((tmp_path / "front.json").read_text())
    import numpy as np
    from optuna._hypervolume import compute_hypervolume

    names = [o["name"] for o in content["objectives"]]
    points = np.array([[m["search"][n]["value"] for n in names] for m in content["members"]])
    again = compute_hypervolume(points, np.array(content["reference_point"]))
    assert content["hypervolume"] == pytest.approx(again)


def test_exported_figures_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    front_files.write(tmp_path, ROWS, FRONT, VALIDATION)
    assert front_files.read_validation(tmp_path, ROWS.uid) == VALIDATION
    assert front_files.read_validation(tmp_path / "elsewhere", "") == Validation()


def test_who_could_not_be_measured_is_read_back_with_the_reason(tmp_path: Path) -> None:
    broken, *others = FRONT.members
    left = {row.policy_id or "": VALIDATION.members[row.policy_id or ""] for row in others}
    told = replace(VALIDATION, members=left, unmeasured={broken.policy_id or "": "It crashed."})
    front_files.write(tmp_path, ROWS, FRONT, told)
    found = front_files.read_validation(tmp_path, ROWS.uid)
    assert found.unmeasured == told.unmeasured
    assert found.of(broken) is None
    assert found.tried(broken)


def test_how_latencies_came_about_is_kept(tmp_path: Path) -> None:
    front_files.write(tmp_path, ROWS, FRONT, VALIDATION)
    content = json.loads((tmp_path / "front.json").read_text())
    assert content["timing"] == {
        "basis": "measured",
        "untimed": None,
        "floor_ms": {"value": 0.05, "spread": 0.001},
        "noisy_reference": False,
    }
    assert [m["noisy"] for m in content["members"]] == [True] + [False] * (len(FRONT.members) - 1)
    without = studies.untimed(VALIDATION)
    front_files.write(tmp_path, ROWS, FRONT, without)
    assert front_files.read_validation(tmp_path, ROWS.uid) == without


def test_a_front_json_from_before_that_was_kept_is_read(tmp_path: Path) -> None:
    front_files.write(tmp_path, ROWS, FRONT, VALIDATION)
    path = tmp_path / "front.json"
    content = json.loads(path.read_text())
    del content["timing"]
    for member in content["members"]:
        del member["noisy"]
    path.write_text(json.dumps(content))
    found = front_files.read_validation(tmp_path, ROWS.uid)
    assert found == replace(VALIDATION, timing=None)
    assert not found.noisy(FRONT.members[0])


def test_the_csv_has_a_line_a_member(tmp_path: Path) -> None:
    front_files.write(tmp_path, ROWS, FRONT, VALIDATION)
    lines = list(csv.DictReader((tmp_path / "front.csv").open()))
    assert [int(line["trial"]) for line in lines] == [m.number for m in FRONT.members]
    first = FRONT.members[0]
    assert float(lines[0]["search_error"]) == first.measurement["error"].value


def test_policies_of_former_members_go_and_best_stays_the_knee(tmp_path: Path) -> None:
    front_files.write(tmp_path, ROWS, FRONT, VALIDATION)
    fewer = replace(FRONT, members=FRONT.members[:1], knee=FRONT.members[0])
    front_files.write(tmp_path, ROWS, fewer, VALIDATION)
    only = f"{FRONT.members[0].number}.yaml"
    names = {path.name for path in (tmp_path / "policies").iterdir()}
    assert names == {only, "best.yaml"}
    best = (tmp_path / "policies" / "best.yaml").read_text()
    assert best == (tmp_path / "policies" / only).read_text() == FRONT.members[0].policy


def test_a_broken_front_json_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "front.json").write_text("{")
    with pytest.raises(UserError, match=r"front\.json cannot be read"):
        front_files.read(tmp_path)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = write_text(tmp_path / "a.txt", "old")

    def half() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Cannot write"):
        write_text(tmp_path / "file" / "inside.txt", "text")


def test_figures_of_another_study_are_not_this_ones(tmp_path: Path) -> None:
    front_files.write(tmp_path, replace(ROWS, uid="first"), FRONT, VALIDATION)
    assert front_files.read_validation(tmp_path, "first") == VALIDATION
    assert front_files.read_validation(tmp_path, "second") == Validation()
    assert front_files.read_validation(tmp_path, "") == Validation()


@pytest.mark.parametrize("key", ["members", "reference"])
def test_a_front_json_that_lacks_something_is_one_sentence(tmp_path: Path, key: str) -> None:
    front_files.write(tmp_path, ROWS, FRONT, VALIDATION)
    path = tmp_path / "front.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, key: [1]}))
    with pytest.raises(UserError, match=r"front\.json cannot be read"):
        front_files.read_validation(tmp_path, ROWS.uid)
    del content[key]
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"front\.json cannot be read"):
        front_files.read_validation(tmp_path, ROWS.uid)


def test_front_json_says_what_its_hypervolume_is_measured_in() -> None:
    content = front_files.to_json(ROWS, FRONT, VALIDATION)
    assert content["hypervolume_unit"] == content["reference_point_unit"] == "objectives"
    rows = replace(ROWS, point=(1.0, 0.9, 0.26), simulated="a formula")
    found = front.find(rows)
    stated = front_files.to_json(rows, found, VALIDATION)
    assert stated["reference_point"] == [1.0, 0.9, 0.26]
    assert (stated["hypervolume_unit"], stated["reference_point_unit"]) == (
        "reference box",
        "relative",
    )
    assert stated["hypervolume"] == stated["hypervolume_share"] == found.share
    assert stated["simulated"] == "a formula"
    assert content["simulated"] is None
