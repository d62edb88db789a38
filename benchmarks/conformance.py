"""Every family beside diffusers and transformers: the same random weights, the same words and noise.

    python -m benchmarks.conformance                            all families, shrunken: a minute on two cores
    python -m benchmarks.conformance --family sd15 --full       at full size: memory for one model in float32
    python -m benchmarks.conformance --write docs/conformance.md

The peers write a folder (`save_pretrained`), which Rein loads, writes as a single file under the original names, loads
again from that and draws with. Measured are the largest error beside the largest value of text embeddings, U-Net output
and decoded picture, and the PSNR of a whole picture. Beside that the names of the single file are read by diffusers'
own converters, and a second single file, written from the model in memory, is compared with the first tensor by tensor.
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.families import PUBLISHED, Family, Peers, build_peers, family, question
from rein.diffusion.noise import PictureNoise
from rein.formats.keys import original_layout, part_names
from rein.formats.saving import ModuleSource, write_single
from rein.formats.weights import open_weights
from rein.images import pil_to_tensor
from rein.pipeline.model import Model, load

PROMPT, NEGATIVE = "a Red apple, naïve style, on a table", "blurry; 2 of them"
SEED, GUIDANCE, STEPS = 11, 6.0, 10
AESTHETIC = (6.0, 2.5)

LARGEST_ERROR, LEAST_PSNR = 1e-4, 50.0


@dataclass(frozen=True)
class Row:
    """What was measured of a family.

    Fields:
        parameters: of all networks together.
        text, unet, decoded: largest error beside the peer's largest value.
        picture: PSNR of a 10-step picture in dB.
        folder_equals_file: whether the folder and the single file gave the same weights.
        names_read: whether diffusers' converters made the peer's weights of the single file.
        round_trip: whether file -> model -> file gave the same bytes for every tensor.
    """

    family: str
    full: bool
    parameters: int
    text: float
    unet: float
    decoded: float
    picture: float
    folder_equals_file: bool
    names_read: bool
    round_trip: bool

    @property
    def passed(self) -> bool:
        """Whether everything is within its bound."""
        close = max(self.text, self.unet, self.decoded) <= LARGEST_ERROR and self.picture >= LEAST_PSNR
        return close and self.folder_equals_file and self.names_read and self.round_trip


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


def read_by_diffusers(path: Path, made: Family, states: Mapping[str, Mapping[str, Tensor]], unet_config: Any) -> bool:
    """Whether diffusers' converters make the peers' weights of a single file."""
    from diffusers.loaders import single_file_utils as peer

    weights = open_weights(path)
    file = {name: weights[name] for name in weights}
    autoencoder_config: dict[str, Any] = {"block_out_channels": made.spec.autoencoder.channels}
    vae_keys = ("down_block_types", "up_block_types")
    autoencoder_config |= {key: ("x",) * len(made.spec.autoencoder.channels) for key in vae_keys}
    read = {
        "unet": peer.convert_ldm_unet_checkpoint(dict(file), dict(unet_config)),
        "autoencoder": peer.convert_ldm_vae_checkpoint(dict(file), autoencoder_config),
    }
    same = all(_same(read[part], states[part]) for part in read)
    layout = original_layout(made.spec)
    for part, config in zip(part_names(made.spec)[2:], made.spec.towers, strict=True):
        if layout[part].naming == "openclip":
            tower = type("Model", (), {"config": type("Config", (), {"hidden_size": config.width})})
            found = peer.convert_open_clip_checkpoint(tower, file, prefix=layout[part].prefix)
        else:
            found = peer.convert_ldm_clip_checkpoint(dict(file))
        same = same and _same(found, states[part])
    return same


def _same(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> bool:
    """Equal tensors under equal names, with or without the outer name of a text tower."""
    bare = {name.removeprefix("text_model."): value for name, value in found.items() if "position_ids" not in name}
    other = {name.removeprefix("text_model."): value for name, value in wanted.items() if "position_ids" not in name}
    return bare.keys() == other.keys() and all(torch.equal(bare[name], other[name]) for name in bare)


def same_bytes(first: Path, second: Path) -> bool:
    """Whether two files hold the same tensors, bit for bit."""
    ours, theirs = open_weights(first), open_weights(second)
    return ours.keys() == theirs.keys() and all(
        ours.infos[name].shape == theirs.infos[name].shape
        and torch.equal(ours[name].view(torch.uint8), theirs[name].view(torch.uint8))
        for name in ours
    )


def measure(name: str, full: bool, side: int, folder: Path) -> Row:
    """All checks of a family; `folder` is empty and takes its files."""
    made = family(name, full)
    peers = build_peers(made, folder)
    theirs = ask_peers(peers, side)
    saved, single, again = folder / "folder", folder / "single.safetensors", folder / "again.safetensors"
    peers.pipeline().save_pretrained(saved)
    config = peers.unet.config
    modules = dict(zip(part_names(made.spec), [peers.unet, peers.autoencoder, *peers.towers], strict=True))
    count = sum(value.numel() for module in modules.values() for value in module.parameters())
    from_folder = load(saved, "cpu", "float32")
    write_single(single, made.spec, ModuleSource(_networks(from_folder)))
    names_read = read_by_diffusers(single, made, {p: m.state_dict() for p, m in modules.items()}, config)
    del peers, modules
    _release(full)
    model = load(single, "cpu", "float32")
    equal = all(_same(a.state_dict(), b.state_dict()) for a, b in zip(*map(_listed, (from_folder, model)), strict=True))
    del from_folder
    _release(full)
    write_single(again, model.spec, ModuleSource(_networks(model)))
    text, unet, decoded, picture = compare(model, theirs, side)
    return Row(name, full, count, text, unet, decoded, picture, equal, names_read, same_bytes(single, again))


def _release(full: bool) -> None:
    """Let go of a model at once where it is large."""
    if full:
        gc.collect()


def _networks(model: Model) -> dict[str, torch.nn.Module]:
    return dict(zip(part_names(model.spec), _listed(model), strict=True))


def _listed(model: Model) -> list[torch.nn.Module]:
    return [model.parts.unet, model.parts.autoencoder, *model.parts.towers]


HEAD = ("family", "size", "parameters", "text", "U-Net", "decoded", "picture", "folder = file", "names", "round trip")


def table(rows: list[Row]) -> str:
    """The rows as Markdown."""
    lines = [f"| {' | '.join(HEAD)} |", f"|{'---|' * len(HEAD)}"]
    for row in rows:
        errors = [f"{value:.1e}" for value in (row.text, row.unet, row.decoded)]
        checks = ["yes" if good else "NO" for good in (row.folder_equals_file, row.names_read, row.round_trip)]
        size = "full" if row.full else "shrunken"
        cells = [row.family, size, f"{row.parameters:,}", *errors, f"{row.picture:.1f} dB", *checks]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


INTRODUCTION = f"""# Conformance

Each family with seeded random weights, beside diffusers and transformers, in float32 on the CPU.

- `text`, `U-Net`, `decoded`: the largest error beside the largest value, at most {LARGEST_ERROR:g}.
- `picture`: the PSNR of a {STEPS}-step picture, at least {LEAST_PSNR:g} dB; rounding to 8 bits alone leaves 58.9.
- `folder = file`: the peers' folder and the single file that Rein makes of it load to the same weights.
- `names`: diffusers' converters read that file to the peers' weights.
- `round trip`: that file, loaded and written again, is equal to the last byte of every tensor.

Made by `python -m benchmarks.conformance --write docs/conformance.md`; rows at full size by adding
`--full --family NAME`, which keeps the other rows.

"""


def write_table(path: Path, rows: list[Row]) -> None:
    """Put rows into the file's table; earlier rows of other families or sizes stay."""
    store = path.with_suffix(".json")
    known = (
        {(row["family"], row["full"]): Row(**row) for row in json.loads(store.read_text())} if store.exists() else {}
    )
    known |= {(row.family, row.full): row for row in rows}
    names = list(PUBLISHED)
    ordered = sorted(known.values(), key=lambda row: (not row.full, names.index(row.family)))
    store.write_text(json.dumps([asdict(row) for row in ordered], indent=1) + "\n")
    path.write_text(INTRODUCTION + table(ordered) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--family", choices=list(PUBLISHED), action="append", help="may be given several times")
    parser.add_argument(
        "--full", action="store_true", help="at full size: 4 to 14 GB of memory and 13 to 42 GB of disk"
    )
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
