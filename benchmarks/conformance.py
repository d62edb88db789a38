"""Every family beside diffusers and transformers: the same random weights, the same words and noise.

    python -m benchmarks.conformance                            all families, shrunken: a minute on two cores
    python -m benchmarks.conformance --family sd15 --full       at full size: memory for one model in float32, and
                                                                disk for two (SDXL: 14 GiB and 28 GB)
    python -m benchmarks.conformance --write docs/conformance.md

The peers write a folder (`save_pretrained`), which Rein loads, writes as a single file under the original names, loads
again from that and draws with. Measured are the largest error beside the largest value of text embeddings, U-Net output
and decoded picture, and the PSNR of a whole picture. Beside that the names of the single file are read by diffusers'
own converters, and a second single file, written from the model in memory, is compared with the first tensor by tensor.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.common import status_bytes
from benchmarks.conformance_table import STEPS, Row, table, write_table
from benchmarks.families import PUBLISHED, Family, Peers, build_peers, family, question
from rein.diffusion.noise import PictureNoise
from rein.formats.keys import original_layout, part_names
from rein.formats.saving import ModuleSource, write_single
from rein.formats.weights import open_weights
from rein.images import pil_to_tensor
from rein.pipeline.model import Model, load

PROMPT, NEGATIVE = "a Red apple, naïve style, on a table", "blurry; 2 of them"
SEED, GUIDANCE = 11, 6.0
AESTHETIC = (6.0, 2.5)


@dataclass(frozen=True)
class Answers:
    """What the peers answered."""

    ids: list[Tensor]
    context: Tensor
    pooled: Tensor | None
    unet: Tensor
    decoded: Tensor
    picture: Tensor


@torch.inference_mode()
def ask_peers(peers: Peers, side: int) -> Answers:
    """The peers' embeddings, U-Net output, decoded latents and picture."""
    spec = peers.family.spec
    ids = [
        words([PROMPT], padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
        for words in peers.tokenizers
    ]
    contexts, pooled = [], None
    for tower, rows, config in zip(peers.towers, ids, spec.towers, strict=True):
        features = tower(rows, output_hidden_states=True)
        contexts.append(features.last_hidden_state if config.context_layer == "last" else features.hidden_states[-2])
        pooled = features.text_embeds if config.projection_width else None
    asked = question(spec.unet, side // 8)
    sizes = {"text_embeds": asked.get("pooled"), "time_ids": asked.get("size_ids")} if peers.family.sized else None
    output = peers.unet(asked["x"], asked["timestep"], asked["context"], added_cond_kwargs=sizes).sample
    decoded = peers.autoencoder.decode(asked["x"][:, :4]).sample
    return Answers(ids, torch.cat(contexts, -1), pooled, output, decoded, _peer_picture(peers, side))


def _peer_picture(peers: Peers, side: int) -> Tensor:
    """A picture (3, H, W) in [-1, 1] by diffusers' pipeline from the noise that our seed stands for."""
    spec = peers.family.spec
    noise = PictureNoise([SEED]).draw((4, side // 8, side // 8))
    options: dict[str, Any] = {"num_inference_steps": STEPS, "guidance_scale": GUIDANCE, "output_type": "pt"}
    if spec.unet.size_ids == 5:
        options |= {"image": torch.zeros_like(noise), "strength": 1.0, "aesthetic_score": AESTHETIC[0]}
        options |= {"original_size": (side, side), "target_size": (side, side)}
        options |= {"negative_aesthetic_score": AESTHETIC[1]}
    else:
        options |= {"height": side, "width": side}
    extra = _extra_channels(peers, side)
    plain = peers.unet.forward
    if extra is not None:
        peers.unet.forward = lambda x, *rest, **named: plain(
            torch.cat([x, extra.expand(len(x), -1, -1, -1)], dim=1), *rest, **named
        )
    try:
        drawn = peers.pipeline()(PROMPT, negative_prompt=NEGATIVE, latents=noise, **options)
    finally:
        peers.unet.forward = plain
    picture: Tensor = drawn.images[0] * 2 - 1
    return picture


def _extra_channels(peers: Peers, side: int) -> Tensor | None:
    """A grey picture under a mask of ones for inpainting, else zeros, as diffusers' networks take them."""
    spec = peers.family.spec
    count = spec.conditioning_channels
    if count != 5:
        return torch.zeros(1, count, side // 8, side // 8) if count else None
    grey = peers.autoencoder.encode(torch.zeros(1, 3, side, side)).latent_dist.mode() * spec.latent_scale
    return torch.cat([torch.ones(1, 1, side // 8, side // 8), grey], dim=1)


@torch.inference_mode()
def compare(model: Model, theirs: Answers, side: int) -> tuple[float, float, float, float]:
    """Errors of text, U-Net and decoded picture, and the PSNR of a picture."""
    parts, spec = model.parts, model.spec
    features = [tower(ids) for tower, ids in zip(parts.towers, theirs.ids, strict=True)]
    context = torch.cat([tower.context(one) for tower, one in zip(parts.towers, features, strict=True)], -1)
    text = relative_error(context, theirs.context)
    if theirs.pooled is not None:
        text = max(text, relative_error(features[-1].pooled, theirs.pooled))
    asked = question(spec.unet, side // 8)
    unet = relative_error(parts.unet(**asked), theirs.unet)
    decoded = relative_error(parts.autoencoder.decode(asked["x"][:, :4]), theirs.decoded)
    options = {"steps": STEPS, "guidance_scale": GUIDANCE, "sampler": "ddim", "spacing": "trailing"}
    sized = {"width": side, "height": side, "seed": SEED}
    drawn = pil_to_tensor(model.generate(PROMPT, negative_prompt=NEGATIVE, **options, **sized).images[0])
    error = (drawn - theirs.picture.clamp(-1, 1)).square().mean()
    return text, unet, decoded, float(10 * torch.log10(4.0 / error))


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference beside the largest value."""
    if ours.shape != theirs.shape:
        return float("inf")
    return float((ours - theirs).abs().max() / theirs.abs().max())


@dataclass(frozen=True)
class Work:
    """A family to be measured; the steps hand on what they find in files of `folder`."""

    name: str
    full: bool
    side: int
    folder: Path

    @property
    def made(self) -> Family:
        """The family in our terms and in diffusers'."""
        return family(self.name, self.full)

    @property
    def saved(self) -> Path:
        """The peers' folder."""
        return self.folder / "folder"

    @property
    def single(self) -> Path:
        """The single file that Rein makes of it."""
        return self.folder / "single.safetensors"

    @property
    def answers(self) -> Path:
        """What the peers answered."""
        return self.folder / "answers.pt"


Prints = dict[str, dict[str, str]]
"""Shape and digest of each tensor by part and name: weights compared without having both in memory."""


def digests(state: Mapping[str, Tensor]) -> dict[str, str]:
    """Shapes and digests of tensors, by names without the outer one of a text tower, which some versions write."""
    kept = {name.removeprefix("text_model."): value for name, value in state.items() if "position_ids" not in name}
    return {name: f"{tuple(value.shape)} {_sha256(value)}" for name, value in kept.items()}


def _sha256(value: Tensor) -> str:
    return sha256(value.contiguous().view(-1).view(torch.uint8).numpy().data).hexdigest()


def peers_answer(work: Work) -> tuple[int, Prints]:
    """The peers' answers and folder, put into files; how many parameters they have, and which weights."""
    peers = build_peers(work.made, work.folder)
    torch.save(vars(ask_peers(peers, work.side)), work.answers)
    peers.pipeline().save_pretrained(work.saved)
    modules = dict(zip(part_names(work.made.spec), [peers.unet, peers.autoencoder, *peers.towers], strict=True))
    count = sum(value.numel() for module in modules.values() for value in module.parameters())
    return count, {part: digests(module.state_dict()) for part, module in modules.items()}


def file_from_folder(work: Work) -> tuple[Any, Prints]:
    """The single file that Rein makes of the peers' folder; their U-Net's configuration, and the weights loaded."""
    model = load(work.saved, "cpu", "float32")
    write_single(work.single, work.made.spec, ModuleSource(_networks(model)))
    config = json.loads((work.saved / "unet" / "config.json").read_text())
    return config, _loaded(model)


def read_by_diffusers(work: Work, unet_config: Mapping[str, Any]) -> Prints:
    """The weights that diffusers' converters make of the single file."""
    from diffusers.loaders import single_file_utils as peer

    made, found = work.made, {}
    layout = original_layout(made.spec)
    levels = made.spec.autoencoder.channels
    autoencoder: dict[str, Any] = {"block_out_channels": levels}
    autoencoder |= {key: ("x",) * len(levels) for key in ("down_block_types", "up_block_types")}
    for index, part in enumerate(part_names(made.spec)):
        weights = open_weights(work.single)  # anew for each part, so that the pages of the last one are let go
        file = {name: weights[name] for name in weights}
        if part == "unet":
            read = peer.convert_ldm_unet_checkpoint(file, dict(unet_config))
        elif part == "autoencoder":
            read = peer.convert_ldm_vae_checkpoint(file, autoencoder)
        elif layout[part].naming == "openclip":
            config = type("Config", (), {"hidden_size": made.spec.towers[index - 2].width})
            read = peer.convert_open_clip_checkpoint(type("Model", (), {"config": config}), file, layout[part].prefix)
        else:
            read = peer.convert_ldm_clip_checkpoint(file)
        found[part] = digests(read)
        del read, file, weights
    return found


def rein_answers(work: Work) -> tuple[tuple[float, float, float, float], bool, Prints]:
    """Rein's errors from the single file, whether that comes back from the model as it was, and the weights loaded."""
    model = load(work.single, "cpu", "float32")
    again = work.folder / "again.safetensors"
    write_single(again, model.spec, ModuleSource(_networks(model)))
    same = same_bytes(work.single, again)
    again.unlink()
    theirs = Answers(**torch.load(work.answers, weights_only=True))
    return compare(model, theirs, work.side), same, _loaded(model)


def same_bytes(first: Path, second: Path) -> bool:
    """Whether two files hold the same tensors, bit for bit."""
    ours, theirs = open_weights(first), open_weights(second)
    return ours.keys() == theirs.keys() and all(
        ours.infos[name].shape == theirs.infos[name].shape
        and torch.equal(ours.read(name).view(torch.uint8), theirs.read(name).view(torch.uint8))
        for name in ours
    )


def measure(name: str, full: bool, side: int, folder: Path) -> Row:
    """All checks of a family; `folder` is empty and takes its files.

    At full size each step is a process of its own, so that one model at most is in memory.
    """
    work = Work(name, full, side, folder)
    step = _apart if full else _here
    count, wanted = step(peers_answer, work)
    config, from_folder = step(file_from_folder, work)
    shutil.rmtree(work.saved)
    names_read = step(read_by_diffusers, work, config) == wanted
    (text, unet, decoded, picture), round_trip, from_file = step(rein_answers, work)
    equal = wanted == from_folder == from_file
    return Row(name, full, count, text, unet, decoded, picture, equal, names_read, round_trip)


def _here(step: Callable[..., Any], *arguments: Any) -> Any:
    return step(*arguments)


def _apart(step: Callable[..., Any], *arguments: Any) -> Any:
    """A step in a process that ends with it; its time and memory are told on stderr."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        result, seconds, memory = pool.submit(_timed, step, *arguments).result()
    told = f"{step.__name__}: {seconds:.0f} s, at most {memory / 2**30:.1f} GiB in memory, mapped files counted"
    print(told, file=sys.stderr, flush=True)
    return result


def _timed(step: Callable[..., Any], *arguments: Any) -> tuple[Any, float, int]:
    began = time.perf_counter()
    result = step(*arguments)
    return result, time.perf_counter() - began, status_bytes("VmHWM")


def _networks(model: Model) -> dict[str, torch.nn.Module]:
    parts = model.parts
    return dict(zip(part_names(model.spec), [parts.unet, parts.autoencoder, *parts.towers], strict=True))


def _loaded(model: Model) -> Prints:
    return {part: digests(network.state_dict()) for part, network in _networks(model).items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--family", choices=list(PUBLISHED), action="append", help="may be given several times")
    parser.add_argument("--full", action="store_true", help="at full size: 5 to 16 GB of memory, 9 to 28 GB of disk")
    parser.add_argument("--side", type=int, help="pixels; by default 64, and 256 at full size")
    parser.add_argument("--write", type=Path, help="the Markdown file to put the rows into")
    parser.add_argument("--folder", type=Path, help="where to put the weights meanwhile")
    options = parser.parse_args()
    side = options.side or (256 if options.full else 64)
    rows = []
    for name in options.family or PUBLISHED:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            rows.append(measure(name, options.full, side, Path(folder)))
        print(table(rows).splitlines()[-1], flush=True)
        if options.write is not None:
            write_table(options.write, rows)
    print(table(rows))
    if not all(row.passed for row in rows):
        raise SystemExit("some measures are out of their bounds")


if __name__ == "__main__":
    main()
