"""ModelManifest: the card that a model file carries, and the identity of a model.

The manifest says what a model is and where it comes from. Only `preprocessing` and `num_bits` touch
its codes; the rest is a card that may be edited without changing `model.id`.
"""

import json
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from contracts.errors import InvalidModel

MANIFEST_KEY = "stochcon.manifest"
"""Key of the manifest among the ONNX file's metadata properties."""


class Preprocessing(BaseModel):
    """From an upright RGB image to the pixels that the graph takes; see `contracts.pixels`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    height: int = Field(gt=0, le=4096)
    width: int = Field(gt=0, le=4096)
    resize: Literal["crop", "squash"] = "crop"
    """`crop` scales the image to cover the target and cuts the middle; `squash` scales each axis alone."""
    version: Literal[1] = 1
    """Version of the arithmetic. Codes made under another version are not comparable."""


class ModelManifest(BaseModel):
    """What a model is, what it was trained on, and how well it does."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    version: str = Field(min_length=1, max_length=64)
    num_bits: int = Field(gt=0, multiple_of=8)
    """Bits of a code; the width of the features for a latent that makes no codes."""
    preprocessing: Preprocessing
    latent: Literal["bernoulli", "gaussian", "none"]
    recipe: dict[str, Any] = Field(default_factory=dict)
    data: str = ""
    metrics: dict[str, float] = Field(default_factory=dict)
    labels: list[str] | None = None
    """Class names of `class_logits`, in order; only for fine-tuned models."""
    licence: str = ""
    created: AwareDatetime

    @classmethod
    def from_json(cls, text: str) -> "ModelManifest":
        """Parse the text found in a model file. Raises InvalidModel, naming the field at fault."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as exc:
            first = exc.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            raise InvalidModel(
                f"the model's manifest is not valid at {field or 'its root'}: {first['msg']}; "
                "export the model again with `stochcon export`"
            ) from exc

    def identity(self) -> bytes:
        """The part of the manifest that decides codes, as canonical JSON."""
        part = {"num_bits": self.num_bits, "preprocessing": self.preprocessing.model_dump()}
        return json.dumps(part, sort_keys=True, separators=(",", ":")).encode()
