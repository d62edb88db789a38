"""Models in single files: every number format and container, averaged weights, other autoencoders, and refusals."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from rein.errors import DamagedFileError, InputError, ReinError
from rein.formats.checkpoint import LoadedModel, load_model
from rein.formats.keys import Place, key_map
from rein.formats.probe import probe_prediction
from rein.formats.saving import ModuleSource, write_single
from rein.formats.single import LoadOptions
from rein.formats.sources import open_model
from rein.formats.tensors import write_tensors
from rein.formats.weights import open_weights
from rein.nn.autoencoder import Autoencoder
from rein.nn.order import waits
from rein.nn.specs import POCKET, TAESD
from rein.nn.unet import UNet
from tests.formats.small_files import original_state, single_file, small

State = dict[str, Tensor]


def foreign(folder: Path, name: str = "sd15", change: Callable[[State], object] = lambda state: None) -> Path:
    """A file that another program wrote: without Rein's texts."""
    state = original_state(name)
    change(state)
    write_tensors(folder / "model.safetensors", state)
    return folder / "model.safetensors"


def options(name: str = "sd15", **more: object) -> LoadOptions:
    """Choose among the shrunken families."""
    return LoadOptions(rows=(small(name)[0],), **more)  # type: ignore[arg-type]


def modules(model: LoadedModel) -> dict[str, nn.Module]:
    named = {"tower": model.towers[0]} | ({"tower_2": model.towers[1]} if len(model.towers) > 1 else {})
    return {"unet": model.unet, "autoencoder": model.autoencoder, **named}


def same(model: LoadedModel, name: str, stored: torch.dtype = torch.float32) -> bool:
    """Whether a model has a family's weights, as far as the type that they were stored in keeps them."""
    wanted = small(name)[1]
    return all(
        torch.equal(value.float(), wanted[part].state_dict()[native].to(stored).float())
        for part, module in modules(model).items()
        for native, value in module.state_dict().items()
    )


@pytest.mark.parametrize("name", ["sd15", "sd21", "sdxl", "sdxl-refiner"])
def test_a_file_of_reins_own_comes_back_as_the_same_model(tmp_path: Path, name: str) -> None:
    model = load_model(single_file(tmp_path, name))
    assert model.spec == small(name)[0]
    assert same(model, name) and model.notes == ()
    assert not any(p.requires_grad for module in modules(model).values() for p in module.parameters())


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2])
def test_weights_are_widened_from_every_stored_format(tmp_path: Path, stored: torch.dtype) -> None:
    path = single_file(tmp_path, dtype=stored)
    assert {info.dtype for info in open_weights(path).infos.values()} != {"F32"}
    assert same(load_model(path), "sd15", stored)
    half = load_model(path, dtype=torch.bfloat16)
    assert {p.dtype for module in modules(half).values() for p in module.parameters()} == {torch.bfloat16}


def test_what_needs_no_conversion_stays_in_the_mapped_file(tmp_path: Path) -> None:
    path = single_file(tmp_path)
    before = path.read_bytes()
    model, infos = load_model(path), open_weights(path).infos
    first, second = (
        model.unet.time_embedding.linear_1.weight,
        model.towers[0].text_model.embeddings.token_embedding.weight,
    )
    names = "model.diffusion_model.time_embed.0.weight", "cond_stage_model.transformer.text_model.embeddings."
    starts = [infos[name].start for name in (names[0], names[1] + "token_embedding.weight")]
    assert first.data_ptr() - second.data_ptr() == starts[0] - starts[1]
    with torch.no_grad():
        first.fill_(3.0)
    assert path.read_bytes() == before
    assert float(load_model(path).unet.time_embedding.linear_1.weight.max()) < 3.0


def test_convolutions_stay_in_the_file_until_they_are_called(tmp_path: Path) -> None:
    path = single_file(tmp_path)
    model, infos = load_model(path), open_weights(path).infos
    layer, other = model.unet.conv_in, model.unet.time_embedding.linear_1
    starts = [infos[f"model.diffusion_model.{name}.weight"].start for name in ("input_blocks.0.0", "time_embed.0")]
    assert layer.weight.data_ptr() - other.weight.data_ptr() == starts[0] - starts[1]
    assert waits(layer) and not waits(model.autoencoder.quant_conv)  # of one pixel: in order as it lies
    expected = small("sd15")[1]["unet"].get_parameter("conv_in.weight")
    layer(torch.zeros(1, 4, 8, 8))
    assert torch.equal(layer.weight, expected) and layer.weight.is_contiguous(memory_format=torch.channels_last)
    half = load_model(path, dtype=torch.bfloat16).unet.conv_in
    assert not waits(half) and half.weight.is_contiguous(memory_format=torch.channels_last)


def test_a_pytorch_file_with_constants_beside_the_weights(tmp_path: Path) -> None:
    state = original_state("sd15") | {
        "alphas_cumprod": torch.zeros(1000),
        "cond_stage_model.transformer.text_model.embeddings.position_ids": torch.arange(77)[None],
    }
    path = tmp_path / "model.ckpt"
    torch.save({"state_dict": {name: tensor.clone() for name, tensor in state.items()}, "global_step": 7}, path)
    model = load_model(path, options=options())
    assert same(model, "sd15") and model.notes == ()


def test_the_name_of_a_file_says_nothing(tmp_path: Path) -> None:
    path = single_file(tmp_path).rename(tmp_path / "sdxl-v-pred.ckpt")
    assert load_model(path).spec == small("sd15")[0]


def test_the_hash_is_that_of_the_file(tmp_path: Path) -> None:
    path = single_file(tmp_path)
    assert load_model(path).weights_hash == hashlib.sha256(path.read_bytes()).hexdigest()


def test_unknown_tensors_are_told_and_known_ones_are_not(tmp_path: Path) -> None:
    more = {"strange.weight": torch.zeros(2), "betas": torch.zeros(3), "model_ema.decay": torch.zeros(())}
    model = load_model(foreign(tmp_path, change=lambda state: state.update(more)), options=options())
    assert model.notes == ("not used: 1 tensor: 'strange.weight'",)


def refused(path: Path, chosen: LoadOptions, kind: type[ReinError]) -> str:
    with pytest.raises(kind) as caught:
        load_model(path, options=chosen)
    assert type(caught.value) is kind and "\n" not in str(caught.value)
    return str(caught.value)


def test_a_network_that_would_stay_unfilled_is_refused_with_counts_and_names(tmp_path: Path) -> None:
    def drop(state: State) -> None:
        for name in ("out.0.bias", "out.0.weight", "out.2.bias", "middle_block.1.norm.bias"):
            del state[f"model.diffusion_model.{name}"]

    message = refused(foreign(tmp_path, change=drop), options(), DamagedFileError)
    assert "it lacks 4 tensors: 'model.diffusion_model." in message and message.endswith(", ...")
    assert message.count("'model.diffusion_model.") == 3


def test_a_tensor_of_another_shape_is_refused(tmp_path: Path) -> None:
    name = "model.diffusion_model.out.0.bias"
    path = foreign(tmp_path, change=lambda state: state.update({name: torch.zeros(7)}))
    assert "of another shape are 1 tensor: 'model.diffusion_model.out.0.bias (7,), not (24,)'" in refused(
        path, options(), DamagedFileError
    )


def test_whole_numbers_are_no_weights(tmp_path: Path) -> None:
    name = "model.diffusion_model.out.0.bias"
    path = foreign(tmp_path, change=lambda state: state.update({name: torch.zeros(24, dtype=torch.int64)}))
    assert "holds torch.int64, not weights" in refused(path, options(), DamagedFileError)


def test_missing_parts_are_named(tmp_path: Path) -> None:
    def without(prefix: str) -> Callable[[State], None]:
        def change(state: State) -> None:
            for name in [name for name in state if name.startswith(prefix)]:
                del state[name]

        return change

    path = foreign(tmp_path, change=without("first_stage_model."))
    message = refused(path, options(), InputError)
    assert message.endswith("holds a model of family 'sd15' without its autoencoder; give one with --vae FILE")
    model = load_model(path, options=options(autoencoder=single_file(tmp_path)))
    assert same(model, "sd15")
    path = foreign(tmp_path, "sdxl", without("conditioner.embedders.0."))
    assert "without its text tower" in refused(path, options("sdxl"), InputError)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({"lora_unet_x.lora_down.weight": torch.zeros(4, 4)}, "it holds an adapter"),
        ({"emb_params": torch.zeros(2, 20)}, "it holds an embedding"),
        ({"x": torch.zeros(2, 3, 4)}, "its tensors belong to no kind of network that Rein knows"),
        ({"double_blocks.0.img_attn.qkv.weight": torch.zeros(2, 2, 1)}, "a Flux model"),
    ],
)
def test_a_file_of_another_kind_is_refused_by_what_it_is(tmp_path: Path, state: State, expected: str) -> None:
    write_tensors(tmp_path / "a", state)
    message = refused(tmp_path / "a", LoadOptions(), InputError)
    assert "is no model to draw with" in message and expected in message


def averaged(state: State) -> None:
    """Adds averages, all of them 1, as LitEma names them."""
    for name in [name for name in state if name.startswith("model.diffusion_model.")]:
        short = name.removeprefix("model.").replace(".", "")
        state[f"model_ema.{short}"] = torch.ones_like(state[name])
    state["model_ema.decay"] = torch.ones(())


def test_averaged_weights_are_taken_when_they_are_wanted(tmp_path: Path) -> None:
    path = foreign(tmp_path, change=averaged)
    assert same(load_model(path, options=options()), "sd15")
    model = load_model(path, options=options(ema=True))
    assert all(bool((value == 1).all()) for value in model.unet.state_dict().values())
    assert torch.equal(
        model.autoencoder.quant_conv.weight, small("sd15")[1]["autoencoder"].get_parameter("quant_conv.weight")
    )
    assert "has no averaged (EMA) weights" in refused(single_file(tmp_path), LoadOptions(ema=True), InputError)
    assert model.notes == ()


def averaged_alone(state: State) -> None:
    """Leaves of the U-Net its averages alone."""
    averaged(state)
    for name in [name for name in state if name.startswith("model.diffusion_model.")]:
        del state[name]


@pytest.mark.parametrize("name", ["sd15", "sd21", "sdxl"])
def test_a_file_with_averages_alone_is_a_model_too(tmp_path: Path, name: str) -> None:
    path = foreign(tmp_path, name, averaged_alone)
    for chosen in (options(name), options(name, ema=True)):
        model = load_model(path, options=chosen)
        assert model.spec.unet == small(name)[0].unet and model.notes == ()
        assert all(bool((value == 1).all()) for value in model.unet.state_dict().values())
    opened = open_model(path, options(name))
    assert bool((opened.source.tensor("unet", "conv_in.weight") == 1).all())
    assert torch.equal(
        opened.source.tensor("tower", "text_model.final_layer_norm.bias"),
        small(name)[1]["tower"].get_parameter("text_model.final_layer_norm.bias"),
    )


def test_averages_alone_must_be_complete_too(tmp_path: Path) -> None:
    def partial(state: State) -> None:
        averaged_alone(state)
        del state["model_ema.diffusion_modelout0bias"], state["model_ema.diffusion_modelmiddle_block0emb_layers1bias"]

    message = refused(foreign(tmp_path, change=partial), options(), DamagedFileError)
    assert "it lacks 2 tensors: 'model_ema.diffusion_model" in message


def test_averages_must_be_complete(tmp_path: Path) -> None:
    def partial(state: State) -> None:
        averaged(state)
        del state["model_ema.diffusion_modelout2weight"]

    message = refused(foreign(tmp_path, change=partial), options(ema=True), DamagedFileError)
    assert "it lacks 1 tensor: 'model_ema.diffusion_modelout2weight'" in message


@pytest.mark.parametrize("naming", ["original", "native", "old attention"])
def test_a_lone_autoencoder_takes_the_place_of_the_models_own(tmp_path: Path, naming: str) -> None:
    spec, _ = small("sd15")
    other = Autoencoder(spec.autoencoder)
    keys = key_map(spec, {"autoencoder": Place("", naming)})  # type: ignore[arg-type]
    write_tensors(tmp_path / "vae", dict(keys.to_original("autoencoder", other.state_dict())))
    model = load_model(single_file(tmp_path), options=LoadOptions(autoencoder=tmp_path / "vae"))
    state = other.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in model.autoencoder.state_dict().items())
    assert model.spec == spec
    assert model.weights_hash != load_model(single_file(tmp_path)).weights_hash


@pytest.fixture(scope="module")
def taesd() -> Autoencoder:
    torch.manual_seed(3)
    return Autoencoder(TAESD).eval()


def checked_tiny(model: LoadedModel, taesd: Autoencoder) -> None:
    """The tiny autoencoder reads scaled latents."""
    assert (model.spec.autoencoder, model.spec.latent_scale) == (TAESD, 1.0)
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    state = taesd.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in model.autoencoder.state_dict().items())
    assert torch.allclose(model.autoencoder.decode(latents), taesd.decode(latents), atol=1e-5)
    pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(model.autoencoder.encode(pixels).mode(), taesd.encode(pixels).mode(), atol=1e-5)


@torch.no_grad()
def test_a_tiny_autoencoder_in_one_file(tmp_path: Path, taesd: Autoencoder) -> None:
    write_tensors(tmp_path / "taesd.safetensors", taesd.state_dict())
    chosen = LoadOptions(autoencoder=tmp_path / "taesd.safetensors")
    checked_tiny(load_model(single_file(tmp_path), options=chosen), taesd)


@torch.no_grad()
def test_a_tiny_autoencoder_in_its_two_original_files(tmp_path: Path, taesd: Autoencoder) -> None:
    for side, first in (("encoder", 0), ("decoder", 1)):
        half = {
            f"{int(number) + first}.{rest}": value
            for name, value in taesd.state_dict().items()
            if name.startswith(side)
            for number, _, rest in [name.removeprefix(f"{side}.layers.").partition(".")]
        }
        torch.save(half, tmp_path / f"taesd_{side}.pth")
    model = single_file(tmp_path)
    for side in ("encoder", "decoder"):
        checked_tiny(load_model(model, options=LoadOptions(autoencoder=tmp_path / f"taesd_{side}.pth")), taesd)
    (tmp_path / "taesd_encoder.pth").unlink()
    message = refused(model, LoadOptions(autoencoder=tmp_path / "taesd_decoder.pth"), InputError)
    assert "holds only the decoder of a tiny autoencoder: put its encoder beside it as taesd_encoder.pth" in message


def test_an_autoencoder_that_does_not_suit_is_refused(tmp_path: Path) -> None:
    model = single_file(tmp_path)
    write_tensors(tmp_path / "pocket", Autoencoder(POCKET.autoencoder).state_dict())
    message = refused(model, LoadOptions(autoencoder=tmp_path / "pocket"), InputError)
    assert "has latents of 12 channels and 8 pixels, but model 'sd15' needs 4 channels and 8 pixels" in message
    write_tensors(tmp_path / "none", {"x": torch.zeros(2)})
    assert "holds no autoencoder" in refused(model, LoadOptions(autoencoder=tmp_path / "none"), InputError)
    state = small("sd15")[1]["autoencoder"].state_dict()
    write_tensors(tmp_path / "cut", {name: value for name, value in state.items() if name != "encoder.conv_in.bias"})
    message = refused(model, LoadOptions(autoencoder=tmp_path / "cut"), DamagedFileError)
    assert "it lacks 1 tensor: 'encoder.conv_in.bias'" in message


def returning_its_input(unet: UNet) -> UNet:
    """Makes a U-Net give back what it sees, up to a positive factor: weights 0 but for one path of both signs.

    The first convolution copies x and -x, the last block takes that from its skip connection, and the end subtracts
    the two: silu(x) - silu(-x) = x.
    """
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter.zero_()
        last = unet.up_blocks[-1].resnets[-1]  # type: ignore[index]
        width = unet.config.channels[0]
        for channel in range(4):
            for place, sign in ((channel, 1.0), (channel + 4, -1.0)):
                unet.conv_in.weight[place, channel, 1, 1] = sign
                last.conv_shortcut.weight[place, width + place] = 1.0  # type: ignore[union-attr]
                unet.conv_out.weight[channel, place, 1, 1] = sign
        unet.get_parameter("conv_norm_out.weight").fill_(1.0)
    return unet


def test_one_step_tells_noise_from_velocity() -> None:
    spec, networks = small("sd21-base")
    assert probe_prediction(spec, returning_its_input(UNet(spec.unet)), networks["tower"]) == "epsilon"
    silent = UNet(spec.unet)
    for parameter in silent.parameters():
        nn.init.zeros_(parameter)
    assert probe_prediction(spec, silent, networks["tower"]) == "v"
    assert probe_prediction(spec, networks["unet"], networks["tower"]) == "v"  # random weights know no noise


@pytest.mark.parametrize("predicts", ["epsilon", "v"])
def test_a_file_that_does_not_tell_is_probed_unless_one_is_told(tmp_path: Path, predicts: str) -> None:
    spec, networks = small("sd21-base")
    unet = returning_its_input(UNet(spec.unet)) if predicts == "epsilon" else networks["unet"]
    write_single(tmp_path / "a", spec, ModuleSource({**networks, "unet": unet}))
    weights = open_weights(tmp_path / "a")
    write_tensors(tmp_path / "b", {name: weights[name] for name in weights})
    rows = (spec, small("sd21")[0])
    assert load_model(tmp_path / "b", options=LoadOptions(rows=rows)).spec == rows[predicts == "v"]
    for told in ("epsilon", "v"):
        chosen = LoadOptions(rows=rows, prediction=told)
        assert load_model(tmp_path / "b", options=chosen).spec == rows[told == "v"]


def test_a_single_file_is_not_made_of_what_has_no_such_form(tmp_path: Path) -> None:
    spec, networks = small("sd15")
    for changed, reason in (
        (replace(spec, autoencoder=TAESD), "tiny"),
        (replace(spec, vocabulary="own"), "vocabulary"),
    ):
        with pytest.raises(InputError, match=reason):
            write_single(tmp_path / "a", changed, ModuleSource(networks))
    assert not (tmp_path / "a").exists()
