"""The maps of names: the published names, nothing twice, and every value back bit for bit."""

from __future__ import annotations

import pytest
import torch

from benchmarks.families import PUBLISHED
from rein.errors import DamagedFileError
from rein.formats.key_names import renamed, unet_modules
from rein.formats.keys import Entry, Place, key_map, original_layout, part_names
from rein.nn.specs import SD15, SD21, SDXL, SDXL_REFINER, VARIANTS
from tests.formats.small_files import original_state, small

COUNTS = {"sd15": 1130, "sd21": 1214, "sdxl": 2513, "sdxl-refiner": 1857}
"""Tensors that draw. SD1.5's file has 1,145 with the constants of its schedule and the position ids."""

SD1_NAMES = {
    "model.diffusion_model.input_blocks.0.0.weight": ("unet", "conv_in.weight"),
    "model.diffusion_model.time_embed.2.bias": ("unet", "time_embedding.linear_2.bias"),
    "model.diffusion_model.input_blocks.3.0.op.weight": ("unet", "down_blocks.0.downsamplers.0.conv.weight"),
    "model.diffusion_model.input_blocks.4.0.skip_connection.weight": (
        "unet", "down_blocks.1.resnets.0.conv_shortcut.weight",
    ),
    "model.diffusion_model.input_blocks.8.1.transformer_blocks.0.attn2.to_k.weight": (
        "unet", "down_blocks.2.attentions.1.transformer_blocks.0.attn2.to_k.weight",
    ),
    "model.diffusion_model.input_blocks.11.0.emb_layers.1.weight": (
        "unet", "down_blocks.3.resnets.1.time_emb_proj.weight",
    ),
    "model.diffusion_model.middle_block.1.proj_in.weight": ("unet", "mid_block.attentions.0.proj_in.weight"),
    "model.diffusion_model.middle_block.2.out_layers.3.bias": ("unet", "mid_block.resnets.1.conv2.bias"),
    "model.diffusion_model.output_blocks.2.1.conv.weight": ("unet", "up_blocks.0.upsamplers.0.conv.weight"),
    "model.diffusion_model.output_blocks.5.2.conv.weight": ("unet", "up_blocks.1.upsamplers.0.conv.weight"),
    "model.diffusion_model.output_blocks.11.1.norm.weight": ("unet", "up_blocks.3.attentions.2.norm.weight"),
    "model.diffusion_model.out.2.weight": ("unet", "conv_out.weight"),
    "first_stage_model.encoder.down.3.block.1.conv2.weight": (
        "autoencoder", "encoder.down_blocks.3.resnets.1.conv2.weight",
    ),
    "first_stage_model.decoder.up.0.block.2.norm1.weight": (
        "autoencoder", "decoder.up_blocks.3.resnets.2.norm1.weight",
    ),
    "first_stage_model.decoder.up.3.upsample.conv.weight": (
        "autoencoder", "decoder.up_blocks.0.upsamplers.0.conv.weight",
    ),
    "first_stage_model.decoder.mid.attn_1.proj_out.weight": (
        "autoencoder", "decoder.mid_block.attentions.0.to_out.0.weight",
    ),
    "first_stage_model.quant_conv.weight": ("autoencoder", "quant_conv.weight"),
    "cond_stage_model.transformer.text_model.final_layer_norm.weight": ("tower", "text_model.final_layer_norm.weight"),
}  # fmt: skip
"""From the published v1-5-pruned-emaonly.safetensors."""

OTHER_NAMES = [
    (SD21, "cond_stage_model.model.transformer.resblocks.22.attn.in_proj_weight", (3072, 1024)),
    (SD21, "cond_stage_model.model.positional_embedding", (77, 1024)),
    (SD21, "cond_stage_model.model.ln_final.weight", (1024,)),
    (SDXL, "conditioner.embedders.0.transformer.text_model.embeddings.token_embedding.weight", (49408, 768)),
    (SDXL, "conditioner.embedders.1.model.text_projection", (1280, 1280)),
    (SDXL, "conditioner.embedders.1.model.transformer.resblocks.31.mlp.c_fc.weight", (5120, 1280)),
    (SDXL, "model.diffusion_model.label_emb.0.0.weight", (1280, 2816)),
    (SDXL, "model.diffusion_model.input_blocks.7.1.transformer_blocks.9.ff.net.0.proj.weight", (10240, 1280)),
    (SDXL, "model.diffusion_model.output_blocks.2.2.conv.weight", (1280, 1280, 3, 3)),
    (SDXL, "first_stage_model.encoder.mid.attn_1.q.weight", (512, 512, 1, 1)),
    (SDXL_REFINER, "conditioner.embedders.0.model.ln_final.bias", (1280,)),
    (SDXL_REFINER, "model.diffusion_model.label_emb.0.0.weight", (1536, 2560)),
    (SDXL_REFINER, "model.diffusion_model.input_blocks.4.1.transformer_blocks.3.norm3.weight", (768,)),
]


def test_the_names_are_the_published_ones() -> None:
    keys = key_map(SD15)
    assert {name: (keys.by_original[name].part, *keys.by_original[name].natives) for name in SD1_NAMES} == {
        name: tuple(place) for name, place in SD1_NAMES.items()
    }


@pytest.mark.parametrize("spec", [SD21, SDXL, SDXL_REFINER], ids=lambda spec: spec.name)
def test_names_and_shapes_of_other_families_are_the_published_ones(spec: object) -> None:
    wanted = {name: shape for row, name, shape in OTHER_NAMES if row is spec}
    keys = key_map(spec)  # type: ignore[arg-type]
    assert {name: keys.by_original[name].original_shape for name in wanted} == wanted


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_native_tensor_has_one_name_and_no_name_is_there_twice(name: str) -> None:
    spec, networks = small(name)
    keys = key_map(spec)
    native = {(part, entry) for part, module in networks.items() for entry in module.state_dict()}
    assert keys.by_native.keys() == native
    assert len(keys.by_original) == len(keys.entries)
    assert sum(len(entry.natives) for entry in keys.entries) == len(native)


@pytest.mark.parametrize("name", COUNTS)
def test_a_file_has_as_many_tensors_as_published(name: str) -> None:
    assert len(key_map(VARIANTS[name]).entries) == COUNTS[name]


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_value_comes_back_bit_for_bit(name: str) -> None:
    spec, networks = small(name)
    keys = key_map(spec)
    back: dict[str, dict[str, torch.Tensor]] = {part: {} for part in part_names(spec)}
    for original, tensor in original_state(name).items():
        assert tuple(tensor.shape) == keys.by_original[original].original_shape
        for part, native, value in keys.to_native(original, tensor):
            back[part][native] = value
    for part, module in networks.items():
        state = module.state_dict()
        assert back[part].keys() == state.keys()
        assert all(torch.equal(back[part][entry], state[entry]) for entry in state)


def test_stacked_projections_are_in_the_order_query_key_value() -> None:
    spec, networks = small("sd21")
    entry = key_map(spec).by_original["cond_stage_model.model.transformer.resblocks.0.attn.in_proj_bias"]
    place = "text_model.encoder.layers.0.self_attn"
    assert entry.natives == tuple(f"{place}.{kind}_proj.bias" for kind in "qkv")
    state = networks["tower"].state_dict()
    stacked = entry.to_original([state[name] for name in entry.natives])
    assert torch.equal(stacked[20:40], state[f"{place}.k_proj.bias"])


def test_the_projection_of_openclip_is_transposed() -> None:
    spec, networks = small("sdxl")
    entry = key_map(spec).by_native["tower_2", "text_projection.weight"]
    native = networks["tower_2"].state_dict()["text_projection.weight"]
    assert entry.original_shape == (12, 28) and tuple(native.shape) == (28, 12)
    assert torch.equal(entry.to_original([native]), native.t())


def test_a_matrix_may_be_stored_as_a_1x1_convolution_and_the_other_way_round() -> None:
    keys = key_map(SD15)
    attention = keys.by_native["autoencoder", "decoder.mid_block.attentions.0.to_q.weight"]
    assert attention.fits((512, 512, 1, 1)) and attention.fits((512, 512))
    assert attention.to_native(torch.zeros(512, 512, 1, 1)).popitem()[1].shape == (512, 512)
    entrance = keys.by_native["unet", "down_blocks.0.attentions.0.proj_in.weight"]
    assert entrance.fits((320, 320)) and not entrance.fits((320, 640))


def test_another_shape_is_refused_by_name() -> None:
    entry = Entry("a.weight", "unet", ("b.weight",), (2, 3), "none")
    with pytest.raises(DamagedFileError, match=r"tensor 'a.weight' has the shape \(3, 2\), not \(2, 3\)"):
        entry.to_native(torch.zeros(3, 2))


def test_modules_are_renamed_by_their_longest_known_part() -> None:
    table = unet_modules(SDXL.unet)
    inner = "down_blocks.2.attentions.1.transformer_blocks.9.attn1.to_q"
    assert renamed(inner, table) == "input_blocks.8.1.transformer_blocks.9.attn1.to_q"
    assert renamed("up_blocks.0.upsamplers.0.conv.bias", table) == "output_blocks.2.2.conv.bias"
    assert renamed("up_blocks.1.resnets.2.conv_shortcut", table) == "output_blocks.5.0.skip_connection"
    with pytest.raises(KeyError):
        renamed("conv.weight", table)


def test_a_layout_may_have_other_prefixes_and_namings() -> None:
    spec = small("sd15")[0]
    layout = original_layout(spec) | {"tower": Place("text.", "headless")}
    keys = key_map(spec, layout)
    assert "text.embeddings.token_embedding.weight" in keys.by_original
    old = key_map(spec, {"autoencoder": Place("", "old attention")})
    assert old.by_original["decoder.mid_block.attentions.0.proj_attn.bias"].natives == (
        "decoder.mid_block.attentions.0.to_out.0.bias",
    )
