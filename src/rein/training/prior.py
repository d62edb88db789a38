"""Pictures of a class, drawn by the model itself before it is taught, so that it does not forget the class.

Source: Ruiz et al. 2022 (DreamBooth), section 3.2.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from rein.files import atomic_file
from rein.formats.checkpoint import LoadedModel
from rein.images import to_rgb
from rein.training.lessons import Drawn
from rein.training.showing import draw_with
from rein.training.tables_teach import PriorTable


def class_pictures(model: LoadedModel, table: PriorTable, folder: Path) -> Drawn:
    """The pictures of seeds 0, 1, 2, ...; each is kept in `folder` as soon as it is drawn, and not drawn again."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays, captions = [], []
    prompts = (table.prompt, *table.others)
    for seed in range(table.pictures):
        prompt = prompts[seed % len(prompts)]
        path = folder / f"class-{seed:04d}.png"
        if not path.exists():
            with atomic_file(path) as handle:
                draw_with(model, prompt, seed, steps=table.steps).save(handle, "PNG")
        with Image.open(path) as image:
            arrays.append(np.array(to_rgb(image)))
        captions.append((prompt,))
    return Drawn(arrays, captions, "class picture")
