"""Encoders in this process, for the models of a folder."""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence

from contracts.errors import StochConError
from index.protocol import ModelRef
from service.encoding.encoder import Encoder
from service.encoding.encoding import Encoding as ServiceEncoding
from service.models import ModelFile, ModelFolder
from service.settings import Settings
from stochcon.results import Encoding


class ModelEncoder:
    """One model, loaded and warmed."""

    def __init__(self, model: ModelFile, settings: Settings) -> None:
        """Raises InvalidModel, BackendUnavailable."""
        self._encoder = Encoder(model.path, model.manifest, settings.encoder_settings())
        self._ref = model.ref(self._encoder.provider)

    def encode_many(self, images: Sequence[bytes]) -> list[Encoding | StochConError]:
        """Codes of images, in order, with an exception in the place of each bad one."""
        return with_model(self._encoder.encode_many(images), self._ref)

    def close(self) -> None:
        """Finish what is being encoded. No other call may follow."""
        self._encoder.close()


class Encoders:
    """Encoders by model, those used last kept loaded. Safe to use from many threads."""

    def __init__(self, settings: Settings, capacity: int) -> None:
        """`capacity` must be above the number of models that are in use at the same time."""
        self._settings = settings
        self._capacity = capacity
        self._folder = ModelFolder(settings.models)
        self._lock = threading.Lock()
        self._loaded: OrderedDict[str, ModelEncoder] = OrderedDict()

    def of_id(self, model_id: str) -> ModelEncoder:
        """The encoder of a model. Raises NotFound if the folder has no such model, InvalidModel."""
        with self._lock:
            encoder = self._loaded.get(model_id)
            if encoder is None:
                while len(self._loaded) >= self._capacity:
                    _, oldest = self._loaded.popitem(last=False)
                    oldest.close()
                encoder = self._loaded[model_id] = ModelEncoder(self._folder.get(model_id), self._settings)
            self._loaded.move_to_end(model_id)
            return encoder

    def close(self) -> None:
        """Give back what is held. No other call may follow."""
        with self._lock:
            while self._loaded:
                self._loaded.popitem()[1].close()


def with_model(
    results: Iterable[ServiceEncoding | StochConError], model: ModelRef
) -> list[Encoding | StochConError]:
    """Results of the service's encoder as those of the command line, which name their model."""
    return [
        Encoding(result.code, result.active_bits, result.entropy_bits, model)
        if isinstance(result, ServiceEncoding)
        else result
        for result in results
    ]
