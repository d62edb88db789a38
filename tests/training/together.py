"""What several processes train, run by a launcher: `-m tests.training.together RECIPE FOLDER N [die]`.

The first process writes its final state into FOLDER. N batches make a step. With "die" the second process ends itself
after step 2.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch

from rein.training.run import train_recipe


def main(recipe: Path, folder: Path, accumulation: int, die: bool) -> None:
    torch.set_num_threads(1)
    resume = (folder / "recipe.json").exists()
    for news in train_recipe(recipe, folder, resume, changes=(f"stage.accumulation={accumulation}",)):
        if die and news.report is not None and news.report.step == 2 and os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), "die" in sys.argv[4:])
