"""From a folder on disk to a model that answers: read, verify, load, warm up. Blocking; seconds for large models."""

from dataclasses import dataclass

from kingmaker_contracts.inference import ModelMetadata
from kingmaker_model_server import package, threads
from kingmaker_model_server.predict import Loaded
from kingmaker_model_server.session import OnnxModel
from kingmaker_model_server.settings import Settings
from kingmaker_model_server.signature import Signature, check_profile
from kingmaker_model_server.warmup import warm_up


@dataclass(slots=True, frozen=True)
class LoadReport:
    """What the log says of a load."""

    source: str
    sha256: str
    threads: int


def load(settings: Settings) -> tuple[Loaded, LoadReport]:
    """The model of this process. Raises BadModel."""
    read = package.read(settings.model_dir, settings.expected_sha256)
    count = settings.threads or threads.count()
    model = OnnxModel(read.model, str(read.path), count)
    if read.profile is not None:
        check_profile(read.profile, model.inputs, model.outputs, str(read.path.parent / "profile.json"))
    warm_up(model, read.profile, str(read.path))
    version = settings.version or read.version or "0"
    properties = {"sha256": read.sha256, "source": read.source}
    if read.profile_sha256 is not None:
        properties["profile_sha256"] = read.profile_sha256
    metadata = ModelMetadata(
        settings.model_name, "onnx_onnxv1", model.inputs, model.outputs, versions=[version], properties=properties
    )
    signature = Signature(model.inputs, read.profile, model.row_wise)
    loaded = Loaded(model, signature, version, metadata, read.profile_bytes)
    return loaded, LoadReport(read.source, read.sha256, count)
