"""What the stages of a run share: pictures, the model that they go on from, and what those before have made."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rein.data.caption_edits import AS_WRITTEN, CaptionEdits
from rein.data.features import text_features
from rein.errors import InputError
from rein.formats.checkpoint import LoadedModel
from rein.formats.folder import tower_file
from rein.formats.tensors import read_tensors
from rein.nn.autoencoder import Autoencoder
from rein.nn.clip import TextTower
from rein.nn.specs import ModelSpec
from rein.nn.unet import UNet
from rein.text.encode import Conditioning
from rein.text.tokenizer import Tokenizer
from rein.training.autoencoder import FILE_NAME as AUTOENCODER_FILE
from rein.training.diffusion import UNET_FILE
from rein.training.lessons import Pictures, stacked
from rein.training.prepare import Art
from rein.training.provenance import provenance
from rein.training.recipe import Recipe
from rein.training.tables import FolderTable

_MOST_TEXTS = 4_096
"""Texts whose features are kept unasked: of the largest family some 2.5 GB."""


@dataclass(frozen=True)
class Run:
    """What all stages of a run share.

    Fields:
        train, held_out: the pictures.
        art: the data sets behind them, where they are composed; None for a folder of pictures.
        start: the model that it goes on from, if it does not begin with nothing.
        left_out: pictures that could not be used, and why.
    """

    recipe: Recipe
    output: Path
    train: Pictures
    held_out: Pictures
    tokenizer: Tokenizer
    spec: ModelSpec
    start: LoadedModel | None = None
    art: Art | None = None
    left_out: tuple[str, ...] = ()

    @cached_property
    def fingerprint(self) -> str:
        """The same for two runs exactly when they see the same pictures and captions."""
        return f"{self.train.fingerprint}/{self.held_out.fingerprint}"

    @property
    def cache(self) -> Path:
        """The folder of latents and text features that are made once."""
        table = self.recipe.data
        chosen = table.cache_folder if isinstance(table, FolderTable) else None
        return self.output / "cache" if chosen is None else chosen.expanduser()

    @property
    def edits(self) -> CaptionEdits:
        """What happens to the captions of pictures that are trained on, each time one is seen."""
        table = self.recipe.data
        return table.edits if isinstance(table, FolderTable) else AS_WRITTEN

    def words(self, model: LoadedModel, captions: Iterable[tuple[str, ...]]) -> Mapping[str, Conditioning]:
        """What the text towers of `model`, which must not learn, make of captions and of no words, from the cache.

        Nothing where that is not worth keeping: captions that are ever new, or more than fit.
        """
        table = self.recipe.data
        if not isinstance(table, FolderTable) or table.cache_text is False or table.edits.changing:
            return {}
        texts = sorted({"", *(text for group in captions for text in group)})
        if table.cache_text is None and len(texts) > _MOST_TEXTS:
            return {}
        return text_features(texts, model, self.cache)

    def base(self) -> LoadedModel:
        """The model that is taught, as the stages before have left it; it may be changed.

        Raises:
            InputError: the recipe names none.
        """
        if self.start is None:
            raise InputError('recipe: this objective teaches a model: name it, as in [model] start = "pocket"')
        # Only stages that come after this one need what the model was.
        own = copy.deepcopy if len(self.recipe.stage) > 1 else _itself
        unet, towers = own(self.start.unet), tuple(own(tower) for tower in self.start.towers)
        unet.load_state_dict(self.trained(UNET_FILE, unet.state_dict()))
        for number, tower in enumerate(towers):
            tower.load_state_dict(self.trained(tower_file(number), tower.state_dict()))
        start = self.start
        return LoadedModel(
            start.spec,
            unet,
            self.autoencoder(),
            towers,
            start.tokenizers,
            start.source,
            start.files,
            start.weights_hash,
        )

    def autoencoder(self) -> Autoencoder:
        """The autoencoder that a stage has made, or that of the model the run starts from."""
        autoencoder = Autoencoder(self.spec.autoencoder)
        known = None if self.start is None else self.start.autoencoder.state_dict()
        autoencoder.load_state_dict(self.trained(AUTOENCODER_FILE, known))
        return autoencoder.eval()

    def trained(self, name: str, otherwise: Mapping[str, Tensor] | None) -> Mapping[str, Tensor]:
        """The weights that the last stage with such a file has made, else those of the model that is gone on from.

        Raises:
            InputError: there are neither.
        """
        for number, stage in reversed(list(enumerate(self.recipe.stage, start=1))):
            path = self.output / f"{number}-{stage.objective}" / name
            if path.exists():
                return read_tensors(path)
        if otherwise is None:
            raise InputError(f"recipe: no stage makes {name}: add that stage, or name a model under model.start")
        return otherwise

    def arrays(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Pictures to train on and to measure on, (N, H, W, 3); the first serve for both where none are held out."""
        if self.art is not None:
            return self.art.pictures, self.art.held_out
        train = stacked(self.train)
        return train, stacked(self.held_out) if len(self.held_out) else train

    def provenance(self, base: LoadedModel | None) -> dict[str, str]:
        """What saved files tell of this run, which taught `base` or began with nothing."""
        return provenance(self.recipe, self.fingerprint, "" if base is None else base.weights_hash)


_Network = TypeVar("_Network", UNet, TextTower)


def _itself(network: _Network) -> _Network:
    return network
