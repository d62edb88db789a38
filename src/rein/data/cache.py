"""Composed pictures kept on disk as one array, so that training reads them by number from any process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from hashlib import blake2b
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rein.data.compose import ArtDataset
from rein.data.options import ArtOptions
from rein.files import atomic_file

_CHUNK = 512


def composed(dataset: ArtDataset, count: int, processes: int = 1) -> NDArray[np.uint8]:
    """The first `count` pictures of a dataset, (count, size, size, 3) uint8, mapped from a file in its cache folder.

    The file's name holds a hash of everything that decides the pictures, so other options never find it. Several
    processes share the work; the result does not depend on how many.
    """
    options = dataset.options
    path = options.folder / f"pictures-{dataset.split}-{_fingerprint(dataset, count)}.npy"
    if not path.exists():
        _compose(dataset, count, path, processes)
    pictures: NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
    return pictures


def _fingerprint(dataset: ArtDataset, count: int) -> str:
    return blake2b(f"{dataset.fingerprint}/{count}".encode(), digest_size=8).hexdigest()


def _compose(dataset: ArtDataset, count: int, path: Path, processes: int) -> None:
    size = dataset.options.size
    starts = range(0, count, _CHUNK)
    jobs = [(dataset.options, dataset.split, start, min(_CHUNK, count - start)) for start in starts]
    with atomic_file(path) as handle:
        header = np.lib.format.header_data_from_array_1_0(np.empty((0, size, size, 3), np.uint8))
        np.lib.format.write_array_header_1_0(handle, header | {"shape": (count, size, size, 3)})
        for pictures in _mapped(_chunk, jobs, processes):
            handle.write(pictures.tobytes())


Job = tuple[ArtOptions, str, int, int]


def _mapped(work: Callable[[Job], NDArray[np.uint8]], jobs: list[Job], processes: int) -> Iterator[NDArray[np.uint8]]:
    if processes == 1:
        yield from map(work, jobs)
        return
    # A forked child would inherit PyTorch's threads in an unknown state.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        yield from pool.map(work, jobs)


_datasets: dict[tuple[ArtOptions, str], ArtDataset] = {}


def _chunk(job: Job) -> NDArray[np.uint8]:
    options, split, start, count = job
    if (options, split) not in _datasets:
        _datasets[options, split] = ArtDataset(options, split)
    dataset = _datasets[options, split]
    return np.stack([dataset.picture(start + offset).pixels for offset in range(count)])
