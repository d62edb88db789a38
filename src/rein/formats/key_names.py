"""What the modules of each network are called in the original single files, as tables made from a configuration.

Native names are those of the diffusers folder layout. The original ones are those of the published repositories:
CompVis/latent-diffusion (U-Net, autoencoder), mlfoundations/open_clip (text towers of SD2 and SDXL), madebyollin/taesd.
"""

from __future__ import annotations

from collections.abc import Mapping

from rein.nn.specs import AutoencoderConfig, TextTowerConfig, UNetConfig

_RESIDUAL = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_OLD_ATTENTION = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def renamed(name: str, modules: Mapping[str, str]) -> str:
    """`name` with its longest leading part that is a key of `modules` replaced; a KeyError where none is."""
    head, rest = name, ""
    while head:
        if head in modules:
            return modules[head] + rest
        head, dot, last = head.rpartition(".")
        rest = f"{dot}{last}{rest}"
    raise KeyError(name)


def unet_modules(config: UNetConfig) -> dict[str, str]:
    """Native module -> original module of the U-Net: "down_blocks.0.resnets.0.norm1" -> "input_blocks.1.0.in_layers.0".

    Modules within a transformer have the same names in both, so a transformer is one entry.
    """
    table = {
        "conv_in": "input_blocks.0.0",
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "time_embedding.cond_proj": "time_embed.cond_proj",
        "add_embedding.linear_1": "label_emb.0.0",
        "add_embedding.linear_2": "label_emb.0.2",
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
    }
    table |= _down(config) | _up(config)
    last = 1
    if config.middle_depth:
        table["mid_block.attentions.0"] = "middle_block.1"
        last = 2
    table |= _residual("mid_block.resnets.0", "middle_block.0")
    return table | _residual("mid_block.resnets.1", f"middle_block.{last}")


def _residual(native: str, original: str) -> dict[str, str]:
    return {f"{native}.{ours}": f"{original}.{theirs}" for ours, theirs in _RESIDUAL.items()}


def _down(config: UNetConfig) -> dict[str, str]:
    table: dict[str, str] = {}
    place = 1
    for level, depth in enumerate(config.transformer_depth):
        for block in range(config.blocks_per_level):
            table |= _residual(f"down_blocks.{level}.resnets.{block}", f"input_blocks.{place}.0")
            if depth:
                table[f"down_blocks.{level}.attentions.{block}"] = f"input_blocks.{place}.1"
            place += 1
        if level < len(config.channels) - 1:
            table[f"down_blocks.{level}.downsamplers.0.conv"] = f"input_blocks.{place}.0.op"
            place += 1
    return table


def _up(config: UNetConfig) -> dict[str, str]:
    table: dict[str, str] = {}
    place, levels = 0, len(config.channels)
    for step in range(levels):
        attends = config.transformer_depth[levels - 1 - step] > 0
        for block in range(config.blocks_per_level + 1):
            table |= _residual(f"up_blocks.{step}.resnets.{block}", f"output_blocks.{place}.0")
            if attends:
                table[f"up_blocks.{step}.attentions.{block}"] = f"output_blocks.{place}.1"
            place += 1
        if step < levels - 1:
            table[f"up_blocks.{step}.upsamplers.0.conv"] = f"output_blocks.{place - 1}.{1 + attends}.conv"
    return table


def autoencoder_modules(config: AutoencoderConfig) -> dict[str, str]:
    """Native module -> original module of the KL autoencoder; the original counts the decoder's levels backwards."""
    table = {"quant_conv": "quant_conv", "post_quant_conv": "post_quant_conv"}
    levels = len(config.channels)
    for side in ("encoder", "decoder"):
        table |= {f"{side}.conv_in": f"{side}.conv_in", f"{side}.conv_out": f"{side}.conv_out"}
        table[f"{side}.conv_norm_out"] = f"{side}.norm_out"
        for index in range(2):
            table |= _plain(f"{side}.mid_block.resnets.{index}", f"{side}.mid.block_{index + 1}")
        attention = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
        table |= {f"{side}.mid_block.attentions.0.{n}": f"{side}.mid.attn_1.{o}" for n, o in attention.items()}
    for level in range(levels):
        mirrored = levels - 1 - level
        for block in range(config.blocks_per_level + 1):
            table |= _plain(f"encoder.down_blocks.{level}.resnets.{block}", f"encoder.down.{level}.block.{block}")
            table |= _plain(f"decoder.up_blocks.{level}.resnets.{block}", f"decoder.up.{mirrored}.block.{block}")
        table[f"encoder.down_blocks.{level}.downsamplers.0.conv"] = f"encoder.down.{level}.downsample.conv"
        table[f"decoder.up_blocks.{level}.upsamplers.0.conv"] = f"decoder.up.{mirrored}.upsample.conv"
    return table


def _plain(native: str, original: str) -> dict[str, str]:
    """A residual block of the autoencoder, whose layers have the same names but for the shortcut."""
    table = {f"{native}.{layer}": f"{original}.{layer}" for layer in ("norm1", "conv1", "norm2", "conv2")}
    return table | {f"{native}.conv_shortcut": f"{original}.nin_shortcut"}


def old_autoencoder_modules(config: AutoencoderConfig) -> dict[str, str]:
    """Native module -> the name that diffusers before 0.17 gave it: only the middle attention was called otherwise."""
    table = {top: top for top in ("encoder", "decoder", "quant_conv", "post_quant_conv")}
    if config.middle_attention:
        for side in ("encoder", "decoder"):
            place = f"{side}.mid_block.attentions.0"
            table |= {f"{place}.{ours}": f"{place}.{theirs}" for ours, theirs in _OLD_ATTENTION.items()}
    return table


def openclip_modules(config: TextTowerConfig) -> dict[str, str]:
    """Native module or parameter -> OpenCLIP's. The projections q, k, v of a layer share one name: they are stacked."""
    table = {
        "text_model.embeddings.token_embedding": "token_embedding",
        "text_model.embeddings.position_embedding.weight": "positional_embedding",
        "text_model.final_layer_norm": "ln_final",
        "text_projection.weight": "text_projection",
    }
    for layer in range(config.layers):
        native, original = f"text_model.encoder.layers.{layer}", f"transformer.resblocks.{layer}"
        table |= {
            f"{native}.layer_norm1": f"{original}.ln_1",
            f"{native}.layer_norm2": f"{original}.ln_2",
            f"{native}.mlp.fc1": f"{original}.mlp.c_fc",
            f"{native}.mlp.fc2": f"{original}.mlp.c_proj",
            f"{native}.self_attn.out_proj": f"{original}.attn.out_proj",
        }
        for projection in ("q_proj", "k_proj", "v_proj"):
            for kind in ("weight", "bias"):
                table[f"{native}.self_attn.{projection}.{kind}"] = f"{original}.attn.in_proj_{kind}"
    return table


def headless_modules() -> dict[str, str]:
    """Native module -> transformers 5's name of it, without the outer `text_model`."""
    return {"text_model": "", "text_projection": "text_projection"}


def sequential_modules(side: str, first: int, count: int) -> dict[str, str]:
    """Native layer -> the original TAESD's: a bare number in a file of its own for each side.

    `first` is what is counted before the first layer: 1 for the decoder, whose clamp diffusers has no layer for.
    """
    return {f"{side}.layers.{index}": str(index + first) for index in range(count)}
