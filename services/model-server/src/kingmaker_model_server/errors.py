"""What keeps a model from being served.

What is wrong with a request is a `kingmaker_contracts.problems.Problem`; this family is about the start.
"""


class ModelServerError(Exception):
    """The process cannot do what it was started for."""


class BadModel(ModelServerError):
    """The model, its manifest or its profile cannot be used; the text begins with the file and names the field."""


class ModelFailed(ModelServerError):
    """ONNX Runtime could not compute rows that fit the model's signature; the text is its own, without its prefix."""
