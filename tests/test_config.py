"""Configs: all problems at once with their places, old spellings, typed overrides, origins, a stable digest."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runctl import config as configs
from runctl.errors import ConfigError, UsageError

CONFIGS = Path(__file__).parent.parent / "configs"
WILD = Path(__file__).parent.parent.parent / "shared" / "wild" / "wm"


@pytest.fixture
def write(tmp_path):
    def write(text: str, name: str = "exp.yaml") -> Path:
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


def problems(path, *overrides):
    with pytest.raises(ConfigError) as caught:
        configs.load(path, overrides)
    return caught.value.problems


def test_a_config_is_named_after_its_file(write):
    assert configs.load(write("training: {epochs: 1}", "my exp.yaml")).config.name == "my-exp"


def test_all_problems_come_at_once_with_their_places(write):
    found = problems(write("training: {batch_sise: 3, epochs: 0, lr: fast}\nlr: 1\ncheckpoint: 3\n"))
    assert [(problem.line, problem.column) for problem in found] == [(1, 12), (1, 27), (1, 38), (2, 1), (3, 1)]
    assert found[0].rule == "CF101"
    assert found[0].hint == "did you mean 'batch_size'?"
    assert found[3].hint == "'lr' belongs to the section 'training'"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training: {batch_size: -1}", "training.batch_size: must be greater than or equal to 1, not -1"),
        ("training: {batch_size: many}", "must be a valid integer, not 'many'"),
        ("training: {batch_size: true}", "must be a valid integer, not True"),
        ("training: {batch_size: '512'}", "must be a valid integer, not '512'"),
        ("training: {epochs: 0}", "training.epochs: must be greater than 0"),
        ("training: {epochs: 1e308}", "training.epochs: must be less than or equal to"),
        ("training: {steps: 1" + "0" * 400 + "}", "training.steps: must be less than or equal to"),
        ("training: {seed: 99999999999999999999}", "training.seed: must be less than"),
        ("checkpoint: {every: 1:30}", "'1:30' is no cadence"),
        ("compute: {timeout: 1:30:00}", "'1:30:00' is not a duration"),
        ("training: {lr: .nan}", "training.lr: must be a finite number"),
        ("training: {precision: fp8}", "must be 'fp32' or 'bf16', not 'fp8'"),
        ("training: {epochs: 1, steps: 1}", "give either epochs or steps"),
        ("compute: {memory: 64GB}", "ambiguous; write 64GiB"),
        ("compute: {timeout: soon}", "not a duration"),
        ("checkpoint: {every: often}", "is no cadence"),
        ("checkpoint: {every: -5}", "is no cadence"),
        ("task: worldmodle", "unknown task 'worldmodle'"),
        ("task: command", "needs a command section"),
        ("name: ../x", "cannot be a run's name"),
        ("name: " + "x" * 300, "cannot be a run's name"),
        ("name: my run", "cannot be a run's name"),
        ("model: {arch: lstm}", "does not train the architecture 'lstm'"),
        ("model: {hidden_dim: 512}", "does not train the architecture that has hidden_dim"),
        ("encoding: {press_events: true}", "encoding.press_events: True is not supported"),
        ("encoding: {lookahead: 1}", "encoding.lookahead: 1 is not supported"),
        ("training: {epochs: 1, num_epochs: 2}", "are one setting, given twice"),
        ("task: command\ncommand: {argv: [x], env: {HF_TOKEN: abc}}", "command.env.HF_TOKEN looks like a secret"),
        ("compute: {timeout: 0}", "compute.timeout: must be greater than 0"),
        ("budget: {max_hours: 0}", "budget.max_hours: must be greater than 0"),
        ("seed: 1\nseed: 2", "'seed' is given twice; first at line 1"),
    ],
)
def test_each_wrong_value_gets_its_message(write, text, message):
    assert any(message in problem.message for problem in problems(write(text)))


@pytest.mark.parametrize(("text", "message"), [("", "is empty"), ("- 1", "holds a list"), ("hello", "holds a text")])
def test_a_file_that_is_no_mapping_is_refused(write, text, message):
    with pytest.raises(UsageError, match=message):
        configs.load(write(text))


def test_old_spellings_are_read_with_a_note(write):
    loaded = configs.load(write("training: {num_epochs: 3, train_split: 0.8, device: null}\nsave_dir: x\n"))
    assert (loaded.config.training.epochs, loaded.config.data.train_split) == (3, 0.8)
    assert loaded.origins["training.epochs"].kind == "alias"
    assert str(loaded.origins["training.epochs"]).endswith("exp.yaml:1:12")
    assert len(loaded.notes) == 3


def test_overrides_are_typed_and_say_where_they_came_from(write):
    path = write("training: {epochs: 3, batch_size: 8}")
    loaded = configs.load(path, ["training.batch_size=256", "training.lr=1e-3", "compute.memory=2GiB"])
    assert loaded.config.training.batch_size == 256
    assert loaded.config.training.lr == 1e-3
    assert loaded.config.compute.memory == 2**31
    assert loaded.origins["training.batch_size"].kind == "override"
    assert loaded.origins["training.seed"].kind == "default"
    assert configs.load(path, ["training.steps=5"]).config.training.epochs is None


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.batch_size=fast", "must be a valid integer, not 'fast' (--set training.batch_size=fast)"),
        ("training.batch_sise=4", "unknown key 'training.batch_sise'"),
        ("a.b=1", "unknown key 'a' (--set a.b=1)"),
        ("training.a.b=1", "unknown key 'training.a' (--set training.a.b=1)"),
        ("command.cwd=x", "'command.argv' is missing (--set command.cwd=x)"),
        ("task=nope", "(--set task=nope)"),
    ],
)
def test_a_wrong_override_is_refused_by_name_and_not_by_a_place_in_the_file(write, override, message):
    (problem,) = problems(write("training: {epochs: 3}"), override)
    assert message in problem.message
    assert problem.file is None


def test_what_is_wrong_in_the_file_is_not_blamed_on_an_override_beside_it(write):
    (problem,) = problems(write("a: {c: 1}\ntraining: {epochs: 3}"), "a.b=1")
    assert (problem.message, problem.line) == ("unknown key 'a'", 1)


@pytest.mark.parametrize("override", ["training.batch_size", "=3", "a..b=1", "name.x=1"])
def test_a_malformed_override_is_a_usage_error(write, override):
    with pytest.raises(UsageError):
        configs.load(write("name: x\ntraining: {epochs: 3}"), [override])


def test_the_digest_is_of_what_is_meant_not_of_how_it_is_written(write):
    one = configs.load(write("name: a\ntraining: {epochs: 3, lr: 3e-4}"))
    two = configs.load(write("# note\ntraining:\n  lr: 0.0003\n  epochs: 3.0\nname: b\n", "other.yaml"))
    three = configs.load(write("training: {epochs: 3, lr: 4e-4}", "third.yaml"))
    assert configs.digest(one.config) == configs.digest(two.config) != configs.digest(three.config)


@given(
    epochs=st.floats(0.01, 1e4),
    batch=st.integers(1, 10**6),
    seconds=st.integers(1, 10**6),
    every=st.sampled_from(["epochs", "steps", "s"]),
    gib=st.integers(0, 4096),
    wandb=st.sampled_from(["disabled", "offline", "online"]),
)
def test_the_effective_config_reads_back_as_itself(epochs, batch, seconds, every, gib, wandb):
    config = configs.from_effective(
        {
            "name": "x",
            "training": {"epochs": epochs, "batch_size": batch},
            "checkpoint": {"every": f"{seconds} {every}"},
            "compute": {"memory": f"{gib}GiB", "timeout": seconds},
            "tracking": {"wandb": wandb},
        }
    )
    again = configs.from_effective(configs.to_effective(config))
    assert again == config
    assert configs.digest(again) == configs.digest(config)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_configs_of_this_project_are_valid_and_named_after_their_files(path):
    loaded = configs.load(path)
    assert loaded.config.name == path.stem
    assert not loaded.notes


def test_the_schema_accepts_the_projects_own_keys():
    schema = configs.schema()
    assert "required" not in schema
    assert set(schema["properties"]) >= {"name", "data", "encoding", "model", "training", "checkpoint", "compute"}


@pytest.mark.skipif(not WILD.is_dir(), reason="the foreign configs are not beside this checkout")
def test_foreign_mamba2_configs_load_unchanged_and_others_are_refused_by_name():
    for path in sorted(WILD.glob("*.yaml")):
        if "arch: mamba2" in path.read_text():
            loaded = configs.load(path)
            assert loaded.config.training.epochs
        else:
            assert any("does not train the architecture" in problem.message for problem in problems(path))
