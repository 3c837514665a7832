"""Why something was not published. Every text is one sentence a person can act on.

PublishError
  NotFitted            the model was never fitted
  UnsupportedModel     no ONNX form: names the step
  UnsupportedColumn    a column's type cannot be an input
  ColumnMismatch       a frame lacks columns of the model, or has others
  BadValues            infinities, or missing values the model was not trained with
  BadLabels            NaN, a wrong number of labels, one class only, unknown classes
  SharedRows           evaluation rows were training rows
  ParityFailed         ONNX Runtime and scikit-learn disagree
  GateRefused          not good enough (the command exits with 3, not 1)
  TooBig               the model or its profile
  BadTarget            a name, alias, gate or registry address that cannot be
  RegistryUnreachable  nobody answers there
  RegistryRefused      MLflow answered with an error
"""


class PublishError(Exception):
    """Nothing was published; the text says why."""


class NotFitted(PublishError):
    pass


class UnsupportedModel(PublishError):
    pass


class UnsupportedColumn(PublishError):
    pass


class ColumnMismatch(PublishError):
    pass


class BadValues(PublishError):
    pass


class BadLabels(PublishError):
    pass


class SharedRows(PublishError):
    pass


class ParityFailed(PublishError):
    pass


class GateRefused(PublishError):
    """The measured value is below the wanted one. metric: its name."""

    def __init__(self, metric: str, value: float, threshold: float) -> None:
        super().__init__(
            f"{metric} on the evaluation rows is {value:.4f}, below the wanted {threshold:.4f}: not published"
        )
        self.metric, self.value, self.threshold = metric, value, threshold


class TooBig(PublishError):
    pass


class BadTarget(PublishError):
    pass


class RegistryUnreachable(PublishError):
    pass


class RegistryRefused(PublishError):
    pass
