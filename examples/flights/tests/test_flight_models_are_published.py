from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient
from ruamel.yaml import YAML
from sklearn.metrics import log_loss, roc_auc_score
from threadpoolctl import threadpool_limits

from examples.flights import data, features, models, train
from kingmaker.publishing.publisher import Published
from kingmaker_contracts.profile import Profile
from kingmaker_contracts.served_model import parse
from kingmaker_contracts.wire import read_json


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('flights') / 'mlflow.db'}"


@pytest.fixture(scope="module")
def published(registry: str) -> dict[str, Published]:
    return train.train_and_publish(registry)


def profile_of(registry: str, alias: str) -> Profile:
    client = MlflowClient(registry, registry)
    version = client.get_model_version_by_alias("flights", alias).version
    folder = Path(client.get_model_version_download_uri("flights", str(version)))
    return read_json((folder / "kingmaker" / "profile.json").read_bytes(), Profile)


def test_one_registered_model_has_a_champion_and_a_better_challenger(
    published: dict[str, Published], registry: str
) -> None:
    champion, challenger = published["champion"], published["challenger"]
    assert (champion.uri, challenger.uri) == ("models:/flights/1", "models:/flights/2")
    assert champion.metrics["auc"] > 0.93
    assert challenger.metrics["auc"] > champion.metrics["auc"] + 0.003
    assert challenger.metrics["log_loss"] < champion.metrics["log_loss"]
    for version in (champion, challenger):
        assert version.parity.max_abs_difference < 1e-6
        assert version.parity.label_mismatches == 0
        assert version.parity.rows == 6239
        assert not version.optimistic


def test_the_challenger_needs_two_inputs_more_and_shares_the_others(
    published: dict[str, Published], registry: str
) -> None:
    champion, challenger = (profile_of(registry, alias) for alias in ("champion", "challenger"))
    types = {feature.name: (feature.datatype, feature.kind) for feature in challenger.inputs}
    assert [f.name for f in champion.inputs] == features.BASIC
    assert set(types) - {f.name for f in champion.inputs} == {"rg_origin", "rg_dest"}
    assert all(types[f.name] == (f.datatype, f.kind) for f in champion.inputs)
    assert not any(feature.nullable for feature in challenger.inputs)


def test_the_profile_holds_the_rows_it_was_fitted_on_and_few_bins_for_weekdays(
    published: dict[str, Published], registry: str
) -> None:
    reference = profile_of(registry, "challenger").reference
    assert reference is not None
    assert reference.rows == 43_770
    assert reference.numeric["weekday"].edges == [0, 1, 2, 3, 4, 5]
    assert len(reference.numeric["distance"].edges) < 200
    assert len(reference.categorical["carrier"].categories) == 16
    assert sum(reference.categorical["dest"].counts) + reference.categorical["dest"].other == 43_770


def test_replayed_flights_come_after_every_flight_a_model_has_seen() -> None:
    later = train.later_flights()
    assert len(later) == 277_337
    assert later["dep_at"].is_monotonic_increasing
    assert later["date"].min() == pd.Timestamp(2013, 3, 1) == train.REPLAY_FROM > train.HELD_OUT_FROM


def test_the_resource_of_the_demo_is_valid_and_names_both() -> None:
    file = Path(train.__file__).with_name("served-model.yaml")
    resource = parse(YAML(typ="safe").load(file.read_text()))
    assert resource.metadata.name == train.NAME
    assert resource.spec.champion.model == "models:/flights@champion"
    (challenger,) = resource.spec.challengers
    assert (challenger.name, challenger.model, challenger.mirror_percent) == ("gbm", "models:/flights@challenger", 20)
    assert resource.spec.weights == {"gbm": 10}


@pytest.mark.slow
def test_out_of_time_the_challenger_wins_by_as_much_as_the_readme_says() -> None:
    flights = features.build(data.load())
    fitted = flights[flights["date"] < train.HELD_OUT_FROM]
    later = flights[flights["date"] >= train.REPLAY_FROM]
    found = {}
    for name, model, columns in (
        ("lr", models.champion(), features.BASIC),
        ("gbm", models.challenger(), features.FEATURES),
    ):
        with threadpool_limits(1):
            score = model.fit(fitted[columns], fitted["late"]).predict_proba(later[columns])[:, 1]
        found[name] = (roc_auc_score(later["late"], score), log_loss(later["late"], score))
    assert found["lr"] == pytest.approx((0.938, 0.174), abs=0.002)
    assert found["gbm"] == pytest.approx((0.951, 0.160), abs=0.002)
