"""From a fitted scikit-learn model to a version in MLflow that can be served, compared and watched.

columns (what the model reads) > convert, predictor (ONNX and how it answers) > parity, quality, shared_rows,
histograms (what is known about it) > registry (where it goes) > publisher (the order of all that).
Only `registry` knows MLflow, only `convert` knows skl2onnx. Nothing is imported here, because the command
line reads `errors` from this package before it knows whether anything is to be published.
"""
