"""What several processes train: run by a launcher as `python -m tests.training.together FOLDER BATCH ACCUMULATION`.

The first process writes its final state into FOLDER. With "die" as a fourth word the last process ends after step 2.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch

from rein.training.run import train_recipe


def main(folder: Path, model: str, pictures: str, batch: int, accumulation: int, die: bool) -> None:
    torch.set_num_threads(1)
    changes = (
        f"data.folder={pictures}",
        f"model.start={model}",
        "data.size=32",
        "stage.steps=4",
        f"stage.batch_size={batch}",
        f"stage.accumulation={accumulation}",
        'stage.precision="fp32"',
        "stage.sample_steps=1",
        "stage.text_rate=1e-3",
        "stage.checkpoint_minutes=1e-9",
        'stage.samples=["an apple"]',
    )
    resume = (folder / "recipe.json").exists()
    for news in train_recipe(Path("lora"), folder, resume, changes=changes):
        if die and news.report is not None and news.report.step == 2 and os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]), "die" in sys.argv[6:])
