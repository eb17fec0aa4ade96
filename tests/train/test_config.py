"""YAML and overrides into settings; every mistake is one line with the key and the file."""

from dataclasses import asdict
from pathlib import Path

import pytest

from harmose.errors import ConfigError
from harmose.train.config import SIZES, TrainConfig, load_config
from harmose.train.schedule import JointPhase

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))
SHIPPED = next(path for path in CONFIGS if path.stem == "water")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_shipped_configurations_load(path):
    config = load_config(path, ["data=store", "out=run"])
    assert config.phases.active
    assert config.time_limit


def test_the_issue_of_twenty_minutes():
    config = load_config(SHIPPED, ["data=my/store", "out=run/1", "time_limit=20min"])
    assert config.time_limit == 1200
    assert (config.data, config.out) == (Path("my/store"), Path("run/1"))
    assert config.prior == "none"


def test_water_shows_every_key():
    import yaml

    shown = yaml.safe_load(SHIPPED.read_text())
    text = SHIPPED.read_text()
    assert set(TrainConfig.model_fields) - set(shown) == {"data", "out"}
    assert all(f"# {key}: " in text for key in ("data", "out"))
    config = load_config(SHIPPED, ["data=x", "out=y"])
    assert set(shown["network"]["stage1"]) == set(vars(config.network.stage1))
    assert set(shown["network"]["stage2"]) == set(vars(config.network.stage2))
    assert shown["loss"] == vars(config.loss)
    assert shown["inputs"] == vars(config.inputs)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("1h", 3600), ("1.5 min", 90), ("45", 45), ("null", None), ("2d", 172800)]
)
def test_durations(text, seconds):
    steps = ["phases.stage1.steps=1", "phases.stage2.steps=1", "phases.joint.steps=1"]
    assert load_config(SHIPPED, ["data=x", "out=y", f"time_limit={text}", *steps]).time_limit == seconds


def test_overrides_reach_keys_within_keys(tmp_path):
    (tmp_path / "c.yaml").write_text("phases:\n  stage2: {share: 0.5}\ntime_limit: 1h\n")
    config = load_config(
        tmp_path / "c.yaml", ["data=1", "out=2024", "phases.joint.share=0.25", "network.stage1.hidden=7"]
    )
    # what is left out keeps the default of its phase, not that of phases in general
    assert config.phases.joint.learning_rate == JointPhase().learning_rate
    assert config.phases.stage2.share == 0.5
    assert config.phases.joint.share == 0.25
    assert config.network.stage1.hidden == 7
    assert config.out == Path("2024")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("phases.stage1.lerning_rate=1e-3", "there is no key phases.stage1.lerning_rate: did you mean phases.stage1.learning_rate?"),
        ("time_limt=1h", "there is no key time_limt: did you mean time_limit?"),
        ("zzz=1", "there is no key zzz: expected one of data, out, "),
        ("time_limit=soon", "time_limit: expected a quantity like 20min, 90s or 1h, got 'soon'"),
        ("seed=-1", "seed: input should be greater than or equal to 0, got -1"),
        ("out=null", "out: expected a path, got None"),
        ("train_split=true", "train_split: expected a name, got True"),
        ("memory=.inf", "memory: input should be a finite number, got inf"),
        ("time_limit=.inf", "time_limit: input should be a finite number, got inf"),
        ("phases.stage1.learning_rate=.inf", "phases.stage1.learning_rate: input should be a finite number, got inf"),
        ("threads=many", "threads: input should be a valid integer"),
        ("energy_zero=vacuum", "energy_zero: input should be 'labels', 'fermi_of_labels' or 'fermi_of_prediction', got 'vacuum'"),
        ("prior=H1", "prior: input should be 'none' or 'H0', got 'H1'"),
        ("network.stage1.channels=wide", "network.stage1.channels: input should be a valid integer"),
        ("network.stage1.channels=0", "network.stage1.channels: input should be greater than 0, got 0"),
        ("phases.stage1.batch_size=0", "phases.stage1.batch_size: input should be greater than or equal to 1, got 0"),
        ("phases.stage1.learning_rate=0", "phases.stage1.learning_rate: input should be greater than 0, got 0"),
        ("phases.stage1.clip=-1", "phases.stage1.clip: input should be greater than 0, got -1"),
        ("time_limit=null", "phases.stage1 has a share of the time: expected a time_limit, or steps or epochs"),
        ("seed.x=1", "seed.x: seed is a value, not a group of keys"),
        ("seed", "expected key=value, got 'seed'"),
        ("network=big", "network: "),
        ("gauge=fermi", "there is no key gauge: it is called energy_zero (labels, fermi_of_labels, fermi_of_prediction) now"),
        ("many_body=false", "there is no key many_body: it is called regression (kernel, pairs, none) now"),
        ("references=3", "there is no key references: it is called sparse_points now"),
        ("model.encoder.channels=4", "there is no key model: it is called network now"),
        ("network.refiner.heads=4", "there is no key network.refiner: it is called stage2 now"),
        ("network.stage2.layers=1", "there is no key network.stage2.layers: it is called mlp_layers now"),
        ("network.layers=1", "there is no key network.layers: expected one of stage1, stage2"),
        ("network.stage1.doublets=1", "there is no key network.stage1.doublets: it is called so2_channels now"),
        ("network.stage1.channels=true", "network.stage1.channels: input should be a valid integer"),
    ],
)  # fmt: skip
def test_mistakes_are_named(override, words):
    with pytest.raises(ConfigError) as error:
        load_config(SHIPPED, ["data=x", "out=y", override])
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("size", SIZES)
def test_a_size_replaces_widths_and_learning_rates(size):
    plain, sized = (load_config(SHIPPED, ["data=d", "out=o", *more]) for more in ([], [f"size={size}"]))
    wanted = SIZES[size]
    for stage, values in wanted["network"].items():
        assert asdict(getattr(sized.network, stage)) == asdict(getattr(plain.network, stage)) | values
    assert sized.phases.stage1.learning_rate == wanted["phases"]["stage1"]["learning_rate"]
    assert sized.phases.stage1.share == plain.phases.stage1.share
    assert sized.size == size


def test_keys_of_the_command_line_go_before_the_size():
    config = load_config(SHIPPED, ["data=d", "out=o", "network.stage1.scalars=7", "size=large"])
    assert (config.network.stage1.scalars, config.network.stage1.channels) == (7, 32)
    with pytest.raises(ConfigError, match="size: input should be 'small', 'medium' or 'large', got 'huge'"):
        load_config(SHIPPED, ["data=d", "out=o", "size=huge"])


def test_a_size_hides_no_mistake_of_the_file(tmp_path):
    (tmp_path / "wrong.yaml").write_text("data: a\nout: b\ntime_limit: 10min\nsize: small\nnetwork: 5\n")
    with pytest.raises(ConfigError, match="network"):
        load_config(tmp_path / "wrong.yaml")


def test_what_must_be_given():
    with pytest.raises(ConfigError, match=r"data is missing: give it in the file or as data=\.\.\."):
        load_config(SHIPPED, ["out=y"])


def test_a_prior_has_no_fermi_level():
    with pytest.raises(ConfigError, match="expected energy_zero labels with prior H0"):
        load_config(SHIPPED, ["data=x", "out=y", "prior=H0", "energy_zero=fermi_of_labels"])


def test_all_phases_off():
    off = [f"phases.{name}.share=0" for name in ("stage1", "stage2", "joint")]
    with pytest.raises(ConfigError, match="all phases are switched off"):
        load_config(SHIPPED, ["data=x", "out=y", "regression=none", *off])
    assert load_config(SHIPPED, ["data=x", "out=y", *off]).phases.active == ()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"data: [", "line 1: expected YAML"),
        (b"- a\n- b\n", "expected keys and values, got list"),
        (b"seeed: 1\n", "there is no key seeed: did you mean seed?"),
        (b"\xff\xfe\x00", "the configuration cannot be read (not a text file)"),
        (b"a: &a [*a, *a]\n", "there is no key a"),
        (b"phases: 3\n", "phases: "),
    ],
)
def test_files_that_are_no_configuration(tmp_path, content, words):
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as error:
        load_config(path, ["data=x", "out=y"])
    assert str(error.value).startswith(str(path))
    assert words in str(error.value)


def test_no_file(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "none.yaml")
