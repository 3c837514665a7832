"""These tests say when `protobuf<7` in packages/kingmaker/pyproject.toml can go."""

from importlib.metadata import version

import numpy as np
from skl2onnx.common.tree_ensemble import (
    add_tree_to_attribute_pairs_hist_gradient_boosting,
    get_default_tree_classifier_attribute_pairs,
)
from sklearn.ensemble import HistGradientBoostingClassifier


def test_protobuf_is_older_than_seven() -> None:
    major = int(version("protobuf").split(".")[0])
    assert major < 7, (
        "protobuf 7 refuses the boolean that skl2onnx gives an integer attribute of HistGradientBoosting "
        "(nodes_missing_value_tracks_true): keep protobuf<7 in packages/kingmaker/pyproject.toml until "
        "test_skl2onnx_still_hands_booleans fails and conversion tests pass with protobuf 7"
    )


def test_skl2onnx_still_hands_booleans() -> None:
    rng = np.random.default_rng(0)
    frame = rng.normal(size=(200, 2))
    model = HistGradientBoostingClassifier(max_iter=1).fit(frame, frame[:, 0] > 0)
    attributes = get_default_tree_classifier_attribute_pairs()
    add_tree_to_attribute_pairs_hist_gradient_boosting(
        attributes, True, model._predictors[0][0], 0, 1.0, 0, False, dtype=np.float32
    )
    handed = {type(value) for value in attributes["nodes_missing_value_tracks_true"]}
    assert handed & {bool, np.bool_}, (
        f"skl2onnx {version('skl2onnx')} hands plain integers now: try protobuf 7 with the conversion tests, "
        "then delete protobuf<7 from packages/kingmaker/pyproject.toml and this file"
    )
