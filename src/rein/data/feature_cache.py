"""What networks make of pictures and texts, kept on disk and found again by a hash of all that decides it.

Each item has a key, a hash of its content; a cache has a maker, a hash of the networks and settings. A changed picture
or caption is made again by itself, other weights make all again, and nothing stale is ever read.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rein.errors import DamagedFileError, ReinError
from rein.files import write_failure
from rein.formats.tensors import read_header, read_tensors, write_tensors

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

SHARD_ITEMS = 512
"""Items that are written together, while the rest is still being made: an interrupted work keeps the finished ones."""


def module_hash(*modules: nn.Module, also: str = "") -> str:
    """SHA-256 of the names and values of all weights, and of a text that stands for settings."""
    digest = hashlib.sha256(also.encode())
    for module in modules:
        for name, value in sorted(module.state_dict().items()):
            plain = value.detach().cpu().contiguous()
            digest.update(f"{name} {plain.dtype} {tuple(plain.shape)}".encode())
            digest.update(plain.view(-1).view(_bytes_type()).numpy().tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class FeatureCache:
    """Tensors of one kind in a folder, by key.

    Fields:
        folder: made when something is written.
        kind: the beginning of the files' names, such as "latents".
        maker: hash of what makes them, from `module_hash`.
    """

    folder: Path
    kind: str
    maker: str

    def get(
        self,
        keys: Sequence[str],
        make: Callable[[list[int]], Sequence[Tensor]],
        batch: int = 16,
    ) -> list[Tensor]:
        """One tensor for each key, in their order, views of mapped files.

        Args:
            keys: hashes of the items' contents; the same twice is made once.
            make: the tensors of the items with these numbers (places in `keys`), on any device.
            batch: so many items are given to `make` at most; those of one call need not be alike.

        Raises:
            OutputError: the folder cannot be written.
        """
        known = self._read(set(keys))
        first = {key: place for place, key in reversed(list(enumerate(keys)))}
        missing = sorted(place for key, place in first.items() if key not in known)
        for start in range(0, len(missing), SHARD_ITEMS):
            shard = missing[start : start + SHARD_ITEMS]
            made: dict[str, Tensor] = {}
            for index in range(0, len(shard), batch):
                places = shard[index : index + batch]
                for place, tensor in zip(places, make(places), strict=True):
                    made[keys[place]] = tensor
            known |= self._write(made)
        return [known[key] for key in keys]

    @property
    def _prefix(self) -> str:
        return f"{self.kind}-{self.maker[:24]}-"

    def _read(self, wanted: set[str]) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for path in sorted(self.folder.glob(f"{self._prefix}*.safetensors")):
            with contextlib.suppress(ReinError):  # a damaged one is made again
                found |= {key: tensor for key, tensor in _items(path) if key in wanted}
        return found

    def _write(self, made: dict[str, Tensor]) -> dict[str, Tensor]:
        """Store some items in a file of their own, those of one shape and type as one tensor."""
        import torch

        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_failure(self.folder, error) from error
        groups: dict[tuple[torch.dtype, tuple[int, ...]], list[str]] = {}
        for key, tensor in made.items():
            groups.setdefault((tensor.dtype, tuple(tensor.shape)), []).append(key)
        numbered = {str(number): group for number, group in enumerate(groups.values())}
        stacks = {name: torch.stack([made[key].detach().cpu() for key in group]) for name, group in numbered.items()}
        listed = json.dumps(numbered)
        digest = hashlib.sha256(listed.encode()).hexdigest()[:16]
        path = self.folder / f"{self._prefix}{digest}.safetensors"
        write_tensors(path, stacks, {"key": self.maker, "items": listed})
        return dict(_items(path))


def combined_key(parts: Iterable[object]) -> str:
    """SHA-256 of several things, each by its `repr`, in their order."""
    return hashlib.sha256(repr(tuple(parts)).encode()).hexdigest()


def _items(path: Path) -> Iterator[tuple[str, Tensor]]:
    try:
        listed = json.loads(read_header(path).metadata["items"])
        stacks = read_tensors(path)
        for name, keys in listed.items():
            yield from zip(keys, stacks[name], strict=True)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise DamagedFileError(f"{path} is no cache of features: delete it") from error


def _bytes_type() -> torch.dtype:
    import torch

    return torch.uint8
