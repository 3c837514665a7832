"""What tests of the command line share."""

import pytest


@pytest.fixture
def resource() -> str:
    """A resource file of one model with a challenger."""
    return """\
apiVersion: kingmaker.dev/v1alpha1
kind: ServedModel
metadata: {name: flights}
spec:
  champion: {name: lr, model: lr.onnx}
  challengers: [{name: gbm, model: gbm.onnx}]
"""
