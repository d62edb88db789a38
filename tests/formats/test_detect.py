"""What a file is, from names and shapes alone: every family at full size, and files of other kinds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

import pytest

from benchmarks.families import PUBLISHED
from rein.formats.averages import average_of
from rein.formats.detect import SPEC_KEY, Detection, detect, lone_autoencoder, sequential_side
from rein.formats.keys import Place, key_map, networks_of, original_layout
from rein.formats.saving import file_metadata
from rein.nn.specs import POCKET, SD15, SD21, SD21_BASE, SDXL, TAESD, VARIANTS, ModelSpec, to_dict
from tests.nn.peers import on_meta


@dataclass(frozen=True)
class Shape:
    """A tensor that is only talked of."""

    shape: tuple[int, ...]


def shapes_of(spec: ModelSpec, layout: Mapping[str, Place] | None = None) -> dict[str, Shape]:
    """The names and shapes of a family's file."""
    return {entry.original: Shape(entry.original_shape) for entry in key_map(spec, layout).entries}


FULL = {name: shapes_of(VARIANTS[name]) for name in ("sd15", "sd21-base", "sdxl")}


def found(infos: Mapping[str, Shape], **metadata: str) -> Detection:
    return detect(infos, metadata)


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_family_is_known_by_its_published_file(name: str) -> None:
    spec = VARIANTS[name]
    seen = found(FULL.get(name) or shapes_of(spec))
    assert seen.kind == "model" and not seen.absent and not seen.ema
    assert seen.layout == original_layout(spec)
    assert seen.spec is not None and seen.spec.unet == spec.unet and seen.spec.towers == spec.towers
    assert seen.settled == (name not in ("sd21-base", "sd21"))
    if seen.settled:
        assert seen.spec == spec


@pytest.mark.parametrize("name", [*PUBLISHED, "pocket"])
def test_a_lone_unet_of_a_diffusers_folder_is_known_too(name: str) -> None:
    spec = VARIANTS[name]
    seen = found(shapes_of(spec, {"unet": Place("", "native")}))
    assert (seen.kind, seen.layout) == ("unet", {"unet": Place("", "native")})
    assert seen.spec is not None and seen.spec.unet == spec.unet
    assert "autoencoder" in seen.absent and "tower" in seen.absent


def test_what_shapes_do_not_tell_texts_may() -> None:
    infos = FULL["sd21-base"]
    assert (found(infos).family, found(infos).settled) == ("sd21-base", False)
    for texts in (
        {"modelspec.prediction_type": "v"},
        {"ss_v_parameterization": "True"},
        {"modelspec.architecture": "stable-diffusion-v2-768-v"},
    ):
        seen = detect(infos, texts)
        assert (seen.family, seen.spec, seen.settled) == ("sd21", SD21, True)
    seen = detect(infos, {"modelspec.prediction_type": "epsilon"})
    assert (seen.spec, seen.settled) == (SD21_BASE, True)


def test_a_marker_among_the_tensors_tells_velocity_and_a_schedule_down_to_noise() -> None:
    seen = found(FULL["sdxl"] | {"v_pred": Shape(()), "ztsnr": Shape(())})
    assert seen.spec is not None
    assert (seen.spec.prediction, seen.spec.schedule.zero_terminal_snr) == ("v", True)
    assert seen.spec.unet == SDXL.unet and seen.settled


def test_averaged_weights_are_noticed() -> None:
    assert found(FULL["sd15"] | {"model_ema.decay": Shape(()), "model_ema.num_updates": Shape(())}).ema


def test_a_file_with_averages_alone_is_known_by_them() -> None:
    plain = FULL["sdxl"]
    infos = {average_of(name) if name.startswith("model.") else name: info for name, info in plain.items()}
    seen, expected = found(infos), found(plain)
    assert (seen.family, seen.layout, seen.kind) == (expected.family, expected.layout, "model")
    assert seen.ema and seen.ema_only and not expected.ema_only
    assert not found(plain | infos).ema_only
    assert found({"model_ema.decay": Shape(()), "x": Shape((2, 3, 4))}).kind == "unknown"


def test_other_forms_of_the_text_tower_are_found() -> None:
    layout = original_layout(SD15) | {"tower": Place("cond_stage_model.transformer.", "headless")}
    seen = found(shapes_of(SD15, layout))
    assert (seen.layout, seen.family) == (layout, "sd15")


def test_towers_are_told_apart_by_width_whatever_their_order() -> None:
    layout = original_layout(SDXL) | {
        "tower": Place("conditioner.embedders.1.transformer.", "native"),
        "tower_2": Place("conditioner.embedders.0.model.", "openclip"),
    }
    assert found(shapes_of(SDXL, layout)).layout == layout


def test_missing_parts_are_told() -> None:
    infos = {name: info for name, info in FULL["sdxl"].items() if not name.startswith("first_stage_model.")}
    assert found(infos).absent == ("autoencoder",)
    infos = {name: info for name, info in FULL["sdxl"].items() if not name.startswith("conditioner.embedders.1.")}
    assert found(infos).absent == ("tower_2",)


def test_a_family_that_nobody_knows_is_described() -> None:
    infos = dict(FULL["sd15"])
    infos["model.diffusion_model.input_blocks.0.0.weight"] = Shape((320, 7, 3, 3))
    seen = found(infos)
    assert (seen.kind, seen.spec) == ("model", None)
    assert seen.note.startswith("a U-Net that no family has: 7 channels in, levels [320, 640, 1280, 1280]")


@pytest.mark.parametrize("end", ["input_blocks.0.0.weight", "out.2.weight"])
def test_a_unet_that_lacks_its_first_or_last_layer_is_one_still(end: str) -> None:
    infos = dict(FULL["sdxl"])
    del infos[f"model.diffusion_model.{end}"]
    seen = found(infos)
    assert (seen.kind, seen.family) == ("model", "sdxl")


def test_a_hypernetwork_is_called_so() -> None:
    infos = {f"768.{side}.linear.{layer}.weight": Shape((768, 768)) for side in (0, 1) for layer in (0, 1)}
    assert found(infos).kind == "hypernetwork" and "which Rein does not use" in found(infos).note


def test_a_file_of_reins_own_tells_what_it_is() -> None:
    wide = replace(SD15, name="wide", unet=replace(SD15.unet, heads=(4, 4, 4, 4)), native_size=640)
    seen = detect(FULL["sd15"], file_metadata(wide))
    assert seen.spec == wide
    for damaged in ("{", "[]", json.dumps({**to_dict(wide), "towers": []}), "1" * 5000, json.dumps({"name": 3})):
        assert detect(FULL["sd15"], {SPEC_KEY: damaged}).spec == SD15


@pytest.mark.parametrize("naming", ["original", "native", "old attention"])
@pytest.mark.parametrize("prefix", ["", "first_stage_model.", "vae."])
def test_a_lone_autoencoder_is_found_in_every_naming(naming: str, prefix: str) -> None:
    place = Place(prefix, naming)  # type: ignore[arg-type]
    infos = shapes_of(SD15, {"autoencoder": place})
    assert found(infos).kind == "autoencoder"
    assert lone_autoencoder(infos) == (place, SD15.autoencoder)


@pytest.mark.parametrize("config", [TAESD, POCKET.autoencoder], ids=["taesd", "pocket"])
def test_autoencoders_of_other_shapes_are_measured(config: object) -> None:
    spec = replace(SD15, autoencoder=config)  # type: ignore[arg-type]
    infos = shapes_of(spec, {"autoencoder": Place("", "native")})
    assert lone_autoencoder(infos) == (Place("", "native"), config)


def test_the_halves_of_the_original_taesd_are_told_apart() -> None:
    network = on_meta(lambda: networks_of(replace(SD15, autoencoder=TAESD), None)["autoencoder"])  # type: ignore[arg-type]
    for side, first in (("encoder", 0), ("decoder", 1)):
        half = {
            f"{int(number) + first}.{rest}": tuple(value.shape)
            for name, value in network.state_dict().items()
            if name.startswith(f"{side}.layers.")
            for number, _, rest in [name.removeprefix(f"{side}.layers.").partition(".")]
        }
        assert sequential_side(half) == side
    assert sequential_side({"weight": (3, 3)}) == ""


KINDS: dict[str, tuple[str, dict[str, tuple[int, ...]]]] = {
    "kohya": ("adapter", {"lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight": (4, 320, 1, 1)}),
    "peft": ("adapter", {"unet.down_blocks.0.attentions.0.proj_in.lora_A.weight": (4, 320)}),
    "loha": ("adapter", {"lora_unet_a.hada_w1_a": (4, 4), "lora_unet_a.hada_w1_b": (4, 4)}),
    "full difference": ("adapter", {"lora_unet_down_blocks_0_attentions_0_proj_in.diff": (320, 320, 1, 1)}),
    "A1111 embedding": ("embedding", {"string_to_param.*": (2, 768)}),
    "embedding": ("embedding", {"emb_params": (3, 768)}),
    "SDXL embedding": ("embedding", {"clip_l": (1, 768), "clip_g": (1, 1280)}),
    "diffusers embedding": ("embedding", {"<cat>": (768,)}),
    "ESRGAN": ("upscaler", {"model.0.weight": (64, 3, 3, 3), "model.1.sub.0.RDB1.conv1.0.weight": (32, 64, 3, 3)}),
    "newer ESRGAN": ("upscaler", {"params_ema.body.0.rdb1.conv1.weight": (32, 64, 3, 3)}),
    "ControlNet": (
        "controlnet",
        {
            "control_model.input_hint_block.0.weight": (16, 3, 3, 3),
            "control_model.input_blocks.0.0.weight": (320, 4, 3, 3),
        },
    ),
    "Flux": ("other", {"double_blocks.0.img_attn.qkv.weight": (9216, 3072), "img_in.weight": (3072, 64)}),
    "SD3": ("other", {"model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight": (4608, 1536), "a": (1, 1, 1)}),
    "text tower": ("text tower", {"text_model.embeddings.token_embedding.weight": (49408, 768), "b": (1, 2, 3)}),
    "nothing known": ("unknown", {"x": (2, 3, 4), "y": (4,)}),
    "empty": ("unknown", {}),
}


@pytest.mark.parametrize("name", KINDS)
def test_files_of_other_kinds_are_named(name: str) -> None:
    kind, shapes = KINDS[name]
    seen = found({key: Shape(shape) for key, shape in shapes.items()})
    assert seen.kind == kind
    assert kind not in ("other", "unknown", "controlnet", "upscaler") or seen.note
