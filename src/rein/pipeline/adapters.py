"""The adapters and learned words that a request and its prompt ask for, found, read and made ready for the networks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from rein.diffusion.guidance import selected
from rein.diffusion.prediction import Denoiser
from rein.errors import InputError, quoted
from rein.formats.adapters import LoadedAdapter, read_adapter
from rein.formats.adapters_names import Targets
from rein.formats.checkpoint import LoadedModel
from rein.formats.embeddings import LoadedEmbedding, read_embedding
from rein.formats.named import files_by_name, named_file
from rein.nn.adapters_merge import Use
from rein.nn.specs import ModelSpec
from rein.pipeline.choices import MAX_ADAPTERS, MAX_WEIGHT, WEIGHT, LoraChoice
from rein.pipeline.request import Request
from rein.pipeline.words import Drawn
from rein.text.inversion import Embedding
from rein.text.tokenizer import Tokenizer

_KEPT = 16
"""Files that stay open: they are mapped, so most of them takes no memory."""


@dataclass(frozen=True)
class Wishes:
    """What a request says of adapters.

    Fields:
        loras: files with their strengths.
        networks: (name, weight, text weight or None) as the prompt has them.
        embeddings: files of learned words.
        lora_folder, embedding_folder: where names in the prompt are looked up; None: nowhere.
        texts: the prompts, in which names of learned words may stand.
    """

    loras: Sequence[LoraChoice] = ()
    networks: Sequence[tuple[str, float, float | None]] = ()
    embeddings: Sequence[str] = ()
    lora_folder: str | None = None
    embedding_folder: str | None = None
    texts: Sequence[str] = ()


@dataclass(frozen=True, eq=False)
class Chosen:
    """Adapters that are read and fit the model, each with its strengths; learned words, and names of unused ones."""

    loras: tuple[tuple[LoadedAdapter, float, float], ...] = ()
    words: tuple[LoadedEmbedding, ...] = ()
    unused: tuple[str, ...] = ()

    @property
    def uses(self) -> tuple[Use, ...]:
        """For the networks."""
        return tuple(adapter.use(weight, text_weight) for adapter, weight, text_weight in self.loras)

    @property
    def reading(self) -> tuple[object, ...]:
        """Equal for choices with which texts are read alike."""
        loras = ((adapter.sha256, text_weight) for adapter, _, text_weight in self.loras)
        return (*loras, *((word.embedding.name, word.sha256) for word in self.words))

    @property
    def embeddings(self) -> dict[str, Embedding]:
        """For the text towers, by name."""
        return {loaded.embedding.name: loaded.embedding for loaded in self.words}

    @property
    def notes(self) -> tuple[str, ...]:
        """What did not go as asked, one line each."""
        reports = dict.fromkeys(note for adapter, _, _ in self.loras if (note := adapter.report()))
        return (*reports, *(f"embedding {quoted(name)} is not used: its name is in no prompt" for name in self.unused))

    def records(self) -> dict[str, list[dict[str, Any]]]:
        """What was used, as JSON values: name, hash and weights of each."""
        loras = [
            {
                "name": adapter.name,
                "sha256": adapter.sha256,
                "short_hash": adapter.short_hash,
                "weight": weight,
                "text_weight": text_weight,
                "unmatched": len(adapter.unmatched),
            }
            for adapter, weight, text_weight in self.loras
        ]
        words = [{"name": word.embedding.name, "sha256": word.sha256} for word in self.words]
        return {name: entries for name, entries in (("loras", loras), ("embeddings", words)) if entries}


def wishes_of(request: Request, drawn: Drawn) -> Wishes:
    """What a request wishes for a picture of these words."""
    texts = (drawn.text, drawn.negative_prompt)
    folders = request.lora_folder, request.embedding_folder
    return Wishes(request.loras, drawn.networks, request.embeddings, *folders, texts)


def choose(parts: LoadedModel, wishes: Wishes) -> Chosen:
    """Find and read what is wished for.

    Raises:
        InputError: no such file or name, a file for another model, a weight out of range.
        DamagedFileError: a file cannot be used.
    """
    loras = [(Path(choice.path), choice.weight, choice.text_weight) for choice in wishes.loras]
    loras += _by_name(wishes)
    if len(loras) > MAX_ADAPTERS:
        raise InputError(f"there are {len(loras)} adapters: use {MAX_ADAPTERS} at most")
    read = [(_adapter(path, parts), weight, weight if text is None else text) for path, weight, text in loras]
    prompts = _Prompts(wishes.texts, parts.tokenizers[0])
    words = list(_words(parts.spec, wishes, prompts))
    used = [word for word in words if prompts.have(word.embedding.name)]
    unused = [word.embedding.name for word in words if word not in used]
    return Chosen(tuple(read), tuple(used), tuple(unused))


def _by_name(wishes: Wishes) -> Iterator[tuple[Path, float, float | None]]:
    if not wishes.networks:
        return
    first = f"<lora:{wishes.networks[0][0]}>"
    if wishes.lora_folder is None:
        raise InputError(f"the prompt has {quoted(first)}, and no folder to find it in: give --lora-folder")
    files = files_by_name(wishes.lora_folder)
    for name, weight, text_weight in wishes.networks:
        for value in (weight, text_weight):
            if value is not None and not abs(value) <= MAX_WEIGHT:
                raise InputError(f"<lora:{name}> has the weight {value:g}: it must be {WEIGHT}")
        yield named_file(name, files, "lora", "--lora-folder"), weight, text_weight


def _words(spec: ModelSpec, wishes: Wishes, prompts: _Prompts) -> Iterator[LoadedEmbedding]:
    """The learned words of the named files, then those of the folder whose names stand in a prompt."""
    found: dict[str, Path] = {}
    for given in wishes.embeddings:
        path = Path(given)
        if found.setdefault(path.stem.lower(), path) != path:
            raise InputError(f"embeddings {found[path.stem.lower()]} and {path} have the same name")
    if wishes.embedding_folder is not None:
        files = files_by_name(wishes.embedding_folder)
        for name in files:
            if "/" not in name and name.lower() not in found and prompts.have(name):
                found[name.lower()] = named_file(name, files, "embedding", "--embedding-folder")
    for path in found.values():
        yield _embedding(path, spec)


class _Prompts:
    """The prompts, in which names are looked for as words and, as the text towers will see them, as tokens."""

    def __init__(self, texts: Sequence[str], tokenizer: Tokenizer) -> None:
        self._texts, self._tokenizer = [text.lower() for text in texts], tokenizer
        self._tokens: list[str] | None = None

    def have(self, name: str) -> bool:
        """Whether a name stands in any of them, in letters of either case."""
        name = name.lower()
        if not any(name in text for text in self._texts):
            return False
        word = re.compile(rf"(?<!\w){re.escape(name)}(?!\w)")
        if any(word.search(text) for text in self._texts):
            return True
        if self._tokens is None:
            self._tokens = [self._joined(text) for text in self._texts]
        return any(self._joined(name) in text for text in self._tokens)

    def _joined(self, text: str) -> str:
        return "".join(f" {token}," for token in self._tokenizer.encode(text))


def _adapter(path: Path, parts: LoadedModel) -> LoadedAdapter:
    return _kept_adapter(path, _stamp(path), parts.targets)


def _embedding(path: Path, spec: ModelSpec) -> LoadedEmbedding:
    return _kept_embedding(path, _stamp(path), spec)


Stamp = tuple[int, int, int]


def _stamp(path: Path) -> Stamp | None:
    """What changes when a file does; None where there is none, which its reader then says."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


@lru_cache(_KEPT)
def _kept_adapter(path: Path, stamp: Stamp | None, targets: Targets) -> LoadedAdapter:
    adapter = read_adapter(path, targets)
    _ = adapter.sha256, adapter.short_hash  # now, while the file is the one that was read
    return adapter


@lru_cache(_KEPT)
def _kept_embedding(path: Path, stamp: Stamp | None, spec: ModelSpec) -> LoadedEmbedding:
    loaded = read_embedding(path, spec.towers)
    _ = loaded.sha256
    return loaded


@contextmanager
def adapted(parts: LoadedModel, chosen: Chosen) -> Iterator[Mapping[str, Embedding]]:
    """Within the block the networks have exactly the chosen adapters; gives the learned words.

    Raises:
        InputError: weights do not stay finite.
    """
    with parts.merger.using(chosen.uses):
        yield chosen.embeddings


def adapted_denoiser(parts: LoadedModel, chosen: Chosen, denoise: Denoiser) -> Denoiser:
    """`denoise`, each call of which finds the networks with the chosen adapters."""
    return selected(lambda sigma: denoise, denoise, lambda: parts.merger.using(chosen.uses))
