"""Recipes that teach a small model something in a moment, one for each way of training."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from tests.pipeline.small import save_small
from tests.training.tiny import NEVER, pictures

_TEACH = 'sample_steps = 1\nsamples = ["an apple"]\n'
_PRIOR = 'prior = { prompt = "an apple", pictures = 2, steps = 1 }\n'
_KINDS = ("lora", "locon", "dora", "loha", "lokr")
STAGES = {
    "autoencoder": 'objective = "autoencoder"\nadversarial_from = 0.1\ndiscriminator_channels = 16\nema = 0.9\n',
    "denoiser": 'objective = "denoiser"\n',
    "finetune": f'objective = "finetune"\ntext_rate = 1e-3\nema = 0.9\n{_TEACH}',
    "dreambooth": f'objective = "finetune"\n{_PRIOR}{_TEACH}',
    **{kind: f'objective = "lora"\nkind = "{kind}"\nrank = 2\n{_TEACH}' for kind in _KINDS},
    "dreambooth-lora": f'objective = "lora"\nrank = 2\ntext_rate = 1e-3\n{_PRIOR}{_TEACH}',
    "inversion": f'objective = "inversion"\nword = "zwx"\nvectors = 2\n{_TEACH}',
    "form": 'objective = "form"\nform = "inpainting"\nema = 0.9\n',
    "progressive": 'objective = "distil"\nmethod = "progressive"\nema = 0.9\n',
    "consistency": 'objective = "distil"\nmethod = "consistency"\n',
    "lcm-lora": 'objective = "distil"\nmethod = "consistency"\nrank = 2\n',
}
"""The stage of each, without the options of the loop."""


def write_recipe(
    folder: Path, stage: str, family: str = "pocket", steps: int = 4, checkpoint_minutes: float = NEVER
) -> Path:
    """A recipe of one of `STAGES` beside its pictures and its model; tags of captions change where they are read."""
    (folder / "pictures").mkdir()
    for number, picture in enumerate(pictures(6)):
        Image.fromarray(picture).save(folder / "pictures" / f"{number}.png")
        (folder / "pictures" / f"{number}.txt").write_text("a red apple, flat style, blue")
    start = save_small(folder / "model", family)
    tags = "" if stage in ("autoencoder", "denoiser") else "shuffle_tags = true\ntag_dropout = 0.2\n"
    loop = f'steps = {steps}\nbatch_size = 2\nwarm_up = 3\nlearning_rate = 1e-3\nprecision = "fp32"\n'
    loop += f"checkpoint_minutes = {checkpoint_minutes}\nsample_minutes = {NEVER}\n"
    data = f'[data]\nfolder = "{folder / "pictures"}"\nsize = 32\nvalidation = 0.3\n{tags}'
    path = folder / f"{stage}.toml"
    path.write_text(f'{data}[model]\nstart = "{start}"\n[[stage]]\n{STAGES[stage]}{loop}')
    return path
