"""runctl init and runctl schema: a project begins with files that work, and editors know every key."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from runctl import config as configs
from runctl import init, rules, schema, surveys, yamldoc
from runctl import project as projects
from runctl.cli import build
from runctl.team import policy

ROOT = Path(__file__).parents[1]
FILES = {
    "runctl.yaml", "configs/first.yaml", "runcards/first.md", ".github/workflows/preflight.yml",
    "schema/config.json", "schema/project.json", ".gitignore",
}  # fmt: skip


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def runctl(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(build(["init", "schema", "preflight", "config"]), list(arguments))
    return done.exit_code, done.stdout, done.stderr


def there(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_what_init_writes_is_listed_and_passes_preflight_and_would_launch(here: Path) -> None:
    code, told, _ = runctl("init")
    assert code == 0
    assert there(here) == FILES
    assert {line.removeprefix("wrote ") for line in told.splitlines()} == FILES
    code, told, _ = runctl("preflight", "configs", "--fail-on", "warning")
    assert (code, told.splitlines()[0].split()[:2]) == (0, ["ok", "configs/first.yaml"]), told
    command = [sys.executable, "-m", "runctl", "launch", "configs/first.yaml", "--dry-run"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_what_is_there_stays_as_it_is_unless_forced(here: Path) -> None:
    Path("runctl.yaml").write_text("policy: {}\n")
    Path(".gitignore").write_text("*.pyc\nruns/")
    code, told, said = runctl("init")
    assert code == 0
    assert "there already: runctl.yaml" in told
    assert "--force" in said
    assert Path("runctl.yaml").read_text() == "policy: {}\n"
    assert Path(".gitignore").read_text() == "*.pyc\nruns/\n/.runctl/\n"
    before = {name: Path(name).read_bytes() for name in there(here)}
    assert "wrote" not in runctl("init")[1]
    assert {name: Path(name).read_bytes() for name in there(here)} == before
    assert "replaced runctl.yaml" in runctl("init", "--force")[1]
    assert Path("runctl.yaml").read_text() != "policy: {}\n"
    assert Path(".gitignore").read_bytes() == before[".gitignore"]


def test_dry_run_names_the_files_and_writes_none(here: Path) -> None:
    code, told, _ = runctl("init", "new/project", "--dry-run", "--json")
    data = json.loads(told)
    assert (code, there(here)) == (0, set())
    assert {(one["path"].removeprefix("new/project/"), one["state"]) for one in data["files"]} == {
        (name, "new") for name in FILES
    }


def test_a_place_that_cannot_be_a_project_is_refused(here: Path) -> None:
    Path("file").write_text("")
    assert runctl("init", "file")[0] == 2
    Path("runctl.yaml").mkdir()
    code, _, told = runctl("init")
    assert code == 2
    assert "is a folder" in told
    assert there(here) == {"file"}


def test_editors_find_the_schemas_from_where_the_files_are(here: Path) -> None:
    runctl("init")
    for file in ("configs/first.yaml", "runctl.yaml"):
        line = Path(file).read_text().splitlines()[0]
        target = Path(file).parent / line.removeprefix("# yaml-language-server: $schema=")
        assert json.loads(target.read_text())["type"] == "object"


def test_every_commented_setting_of_the_first_runctl_yaml_may_be_switched_on(here: Path) -> None:
    runctl("init")
    Path("runctl-baseline.json").write_text('{"schema_version": 1, "findings": []}')
    lines = [
        re.sub(r"^( *)# ((?:[a-z_]+:|  - \{).*)", r"\1\2", line)
        for line in Path("runctl.yaml").read_text().splitlines()
    ]
    Path("runctl.yaml").write_text("\n".join(lines))
    project = projects.load("configs/first.yaml")
    assert set(project.policy) >= {"max_cost_usd", "max_gpus", "allowed_gpus", "allowed_backends", "rules", "require"}
    assert project.waivers
    assert project.baseline
    assert project.prices
    found = list(surveys.survey([Path("configs/first.yaml")]))
    rest = [one.rule for report in found for one in report.findings]  # type: ignore[union-attr]
    assert rest == ["WV102"]  # the waiver is for a folder of which there is none yet
    valid(yamldoc.load("runctl.yaml").data, schema.project())


def test_the_workflow_is_that_of_the_examples_but_for_what_it_installs() -> None:
    """The example names an action by its owner and commit, which nobody can fill in here."""
    example = yamldoc.load(ROOT / "examples" / "github" / "preflight.yml").data
    written = yamldoc.load(ROOT / "runctl" / "data" / "init" / "workflow.yml").data
    pins = [step["uses"] for step in example["jobs"]["preflight"]["steps"] if "actions/" in step.get("uses", "")]
    assert pins
    assert set(pins) <= {step.get("uses") for step in written["jobs"]["preflight"]["steps"]}
    for each in (example, written):
        each["jobs"]["preflight"].pop("steps")
        each["jobs"]["preflight"].pop("permissions")
    assert written == example


def valid(data: Any, one: dict[str, Any], root: dict[str, Any] | None = None, where: str = "") -> None:
    """Assert that data fits a JSON schema, as far as these schemas use the language; unknown words are refused."""
    root = root or one
    known = {
        "$schema", "$defs", "title", "description", "examples", "default", "deprecated", "type", "enum", "const",
        "anyOf", "$ref", "properties", "required", "additionalProperties", "items", "minItems", "minLength", "pattern",
        "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "ge", "gt", "le",
    }  # fmt: skip
    assert set(one) <= known, f"{where}: {set(one) - known}"
    if "$ref" in one:
        valid(data, root["$defs"][one["$ref"].rpartition("/")[2]], root, where)
    if "anyOf" in one:
        assert any(fits(data, option, root) for option in one["anyOf"]), f"{where}: {data!r} is none of {one['anyOf']}"
    if "enum" in one:
        assert data in one["enum"], f"{where}: {data!r}"
    if "const" in one:
        assert data == one["const"], f"{where}: {data!r}"
    kinds = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None), "integer": int}
    if kind := one.get("type"):
        wanted: Any = (int, float) if kind == "number" else kinds[kind]
        assert isinstance(data, wanted), f"{where}: {data!r} is no {kind}"
        assert kind == "boolean" or not isinstance(data, bool), f"{where}: {data!r} is no {kind}"
    if isinstance(data, str):
        assert re.search(one.get("pattern", ""), data), f"{where}: {data!r}"
        assert len(data) >= one.get("minLength", 0), where
    if isinstance(data, int | float) and not isinstance(data, bool):
        assert one.get("minimum", data) <= data <= one.get("maximum", data), f"{where}: {data!r}"
        assert data > one.get("exclusiveMinimum", data - 1), f"{where}: {data!r}"
        assert data < one.get("exclusiveMaximum", data + 1), f"{where}: {data!r}"
    if isinstance(data, list):
        assert len(data) >= one.get("minItems", 0), where
        for index, item in enumerate(data):
            valid(item, one.get("items", {}), root, f"{where}.{index}")
    if isinstance(data, dict):
        properties, others = one.get("properties", {}), one.get("additionalProperties", True)
        assert set(one.get("required", ())) <= set(data), where
        for key, value in data.items():
            assert key in properties or others is not False, f"{where}.{key} is not known"
            inner = properties.get(key) or (others if isinstance(others, dict) else {})
            valid(value, inner, root, f"{where}.{key}")


def fits(data: Any, one: dict[str, Any], root: dict[str, Any]) -> bool:
    try:
        valid(data, one, root)
    except AssertionError:
        return False
    return True


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_every_config_of_this_repository_fits_the_schema(path: Path) -> None:
    valid(yamldoc.load(path).data, schema.config())


def test_the_schema_refuses_what_the_loader_refuses() -> None:
    made = schema.config()
    for bad in (
        {"training": {"batch_sise": 3}},
        {"training": {"batch_size": 0}},
        {"training": {"precision": "fp64"}},
        {"checkpoint": {"every": "often"}},
        {"compute": {"memory": "64GB"}},
        {"compute": {"timeout": "soon"}},
    ):
        assert not fits(bad, made, made), bad
        with pytest.raises(Exception, match="problem"):
            configs.validate(yamldoc.Document("x", "", bad))


def keys(made: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    found = [(name, one) for name, one in made["properties"].items()]
    for section, definition in made.get("$defs", {}).items():
        found += [(f"{section}.{name}", one) for name, one in definition["properties"].items()]
    return found


def test_every_key_of_a_config_has_its_words_and_an_example_that_is_valid() -> None:
    made = schema.config()
    found = keys(made)
    assert len(found) > 100
    for name, one in found:
        if one.get("deprecated"):
            continue
        described = {**made["$defs"].get(one.get("$ref", "").rpartition("/")[2], {}), **one}
        assert len(described.get("description", "")) > 8, name
        for example in one.get("examples", ()):
            valid(example, one, made, name)
        assert "$ref" in one or one.get("examples") or "enum" in one or "const" in one, name


def test_every_default_is_a_value_that_may_be_written() -> None:
    made = schema.config()
    for name, one in keys(made):
        if "default" in one:
            valid(one["default"], one, made, name)


def test_the_schema_of_a_project_knows_every_policy_value_and_every_rule() -> None:
    made = schema.project()["properties"]
    assert set(made["policy"]["properties"]) == {*policy.VALUES, "rules", "require"}
    assert set(made["policy"]["properties"]["rules"]["properties"]) == set(rules.known())
    assert set(made) == set(projects.KNOWN)


def test_both_schemas_are_printed_and_the_old_name_still_works() -> None:
    assert json.loads(runctl("schema")[1]) == schema.config()
    assert json.loads(runctl("schema", "--for", "project")[1])["title"] == "runctl.yaml"
    assert json.loads(runctl("config", "schema")[1]) == schema.config()
    code, _, told = runctl("schema", "--for", "projct")
    assert code == 2
    assert "did you mean 'project'?" in told


def test_the_list_of_templates_is_what_is_packaged() -> None:
    assert {name for _, name in init._TEMPLATES.items()} == {
        path.name for path in (ROOT / "runctl" / "data" / "init").iterdir()
    }
    assert '"data/init/*"' in (ROOT / "pyproject.toml").read_text()
