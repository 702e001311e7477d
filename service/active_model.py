"""The models there are, the one that is active, and its encoder."""

import threading
from collections.abc import Sequence

import structlog

from contracts.errors import NotFound
from index.protocol import Store
from service.encoding.encoder import Encoder, EncoderSettings, Observer
from service.models import ModelFile, ModelFolder, ModelListing
from service.successor import Successor

_log = structlog.get_logger("service")


class ActiveModel:
    """The model that encodes. It is loaded when first needed, and may be exchanged for another."""

    def __init__(
        self,
        store: Store,
        models: ModelFolder,
        wanted: str | None,
        encoder_settings: EncoderSettings | None,
        observer: Observer | None,
    ) -> None:
        """`wanted` is the name, id or path of the model; the one that was activated last if None."""
        self.store = store
        self.models = models
        self._wanted = wanted
        self._encoder_settings = encoder_settings
        self._observer = observer
        self._loading = threading.Lock()
        self._active: ModelFile | None = None
        self._encoder: Encoder | None = None
        self.successor: Successor | None = None
        """The model that is being activated, from when it is loaded until it is active or given up."""

    def start(self) -> None:
        """Load and warm the active model now. Raises NotFound, InvalidModel, BackendUnavailable."""
        _ = self.encoder

    def close_models(self) -> None:
        """Finish what is being encoded. No image may be encoded after it."""
        self.drop_successor()
        with self._loading:
            if self._encoder is not None:
                self._encoder.close()

    @property
    def active(self) -> ModelFile:
        """The model that encodes. Raises NotFound, InvalidModel."""
        if self._active is None:
            self._active = self._select()
        return self._active

    @property
    def encoder(self) -> Encoder:
        """The active model's encoder. Raises NotFound, InvalidModel, BackendUnavailable."""
        with self._loading:
            if self._encoder is None:
                self._encoder = Encoder(
                    self.active.path, self.active.manifest, self._encoder_settings, self._observer
                )
            return self._encoder

    def load_successor(self, model: ModelFile) -> None:
        """Load and warm a model that is to be activated. Raises InvalidModel, BackendUnavailable."""
        encoder = Encoder(model.path, model.manifest, self._encoder_settings, self._observer)
        self.successor = Successor(model, encoder)

    def keep_active(self) -> None:
        """Make the model in use the store's own, if it has none yet: from now on only `switch` changes it.

        Else a newer file in the folder would take over at the next start, and leave the collections behind.
        """
        if self.store.active_model is None:
            self.store.switch([], self.active.id)

    def drop_successor(self) -> None:
        """Give up the model that was to be activated."""
        if self.successor is not None:
            successor, self.successor = self.successor, None
            successor.encoder.close()

    def switch(self, collections: Sequence[str]) -> None:
        """Make the successor the active model, and its generation of those collections the current one.

        No request that depends on the model may be under way. Raises BackendUnavailable, having changed
        nothing.
        """
        assert self.successor is not None
        self.store.switch(collections, self.successor.model.id)
        with self._loading:
            before, self._encoder, self._active = self._encoder, self.successor.encoder, self.successor.model
            self.successor = None
        if before is not None:
            before.close()

    @property
    def is_started(self) -> bool:
        """Whether the model is loaded and works."""
        return self._encoder is not None and self._encoder.failure is None

    @property
    def failure(self) -> Exception | None:
        """What stopped the model, or None."""
        return self._encoder.failure if self._encoder else None

    @property
    def num_pending(self) -> int:
        """Images taken in and not yet answered."""
        return self._encoder.num_pending if self._encoder else 0

    def list_models(self) -> ModelListing:
        """The model files of the folder, newest first, the active one among them wherever it lies."""
        listing, active = self.models.list(), self.active
        if any(model.id == active.id for model in listing.models):
            # The file in use may be another than the folder's own of that id.
            models = [active if model.id == active.id else model for model in listing.models]
            return ModelListing(models, listing.faults)
        return ModelListing([active, *listing.models], listing.faults)

    def get_model(self, model_id: str) -> ModelFile:
        """The model of that id. Raises NotFound."""
        return self.active if model_id == self.active.id else self.models.get(model_id)

    def _select(self) -> ModelFile:
        """The model that was asked for, else the one activated last. Raises NotFound, InvalidModel."""
        activated = self.store.active_model
        if self._wanted is not None or activated is None:
            model = self.models.select(self._wanted)
            if activated not in (None, model.id):
                _log.warning(
                    "another model is asked for than was activated", model=model.id, activated=activated
                )
            return model
        try:
            return self.models.get(activated)
        except NotFound as exc:
            # Its collections can still be asked by ids and codes, and another model activated.
            _log.warning("the model that was activated is not there", reason=str(exc))
            return self.models.select(None)
