"""One ONNX model version in one process, served over the Open Inference Protocol V2 and V1.

Immutable: the process loads its version once and never reloads, so a promotion is a change of routing.
`python -m kingmaker_model_server` serves; `python -m kingmaker_model_server.fetch`, a step before it,
is the only part that knows MLflow.
"""
