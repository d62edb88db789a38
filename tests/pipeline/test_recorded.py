"""Settings read out of pictures: Rein's own, and those of other programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from rein.errors import DamagedFileError, InputError
from rein.image_files import write_png
from rein.pipeline.graphs import from_comfyui, from_invokeai
from rein.pipeline.infotext_reader import from_infotext
from rein.pipeline.model import Model
from rein.pipeline.recorded import read_recorded

A1111 = """a castle, (highly detailed:1.2),
by the sea <lora:ink:0.8>
Negative prompt: blurry, "text": here
Steps: 28, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 6.5, Seed: 1234, Size: 512x768, \
Model hash: 6ce0161689, Model: v1-5-pruned, Clip skip: 2, \
Denoising strength: 0.4, Lora hashes: "ink: aabbcc, b: dd", Version: v1.10.1"""


def picture(folder: Path, **texts: str) -> Path:
    path = folder / "picture.png"
    write_png(Image.new("RGB", (16, 16)), path, texts)
    return path


def test_the_settings_of_a_picture_make_it_again(pocket: Model, tmp_path: Path) -> None:
    result = pocket.generate("a red apple", seed=7, steps=3, guidance_scale=2.5, negative_prompt="blue")
    [path] = result.save(tmp_path)
    recorded = read_recorded(path)
    assert recorded.source == "rein"
    assert (recorded.model, recorded.model_hash) == (pocket.name, pocket.weights_hash)
    assert recorded.unread == ()
    again = pocket.generate(recorded.request)
    assert again.images[0].tobytes() == result.images[0].tobytes()


def test_infotext_of_the_web_ui(tmp_path: Path) -> None:
    recorded = read_recorded(picture(tmp_path, parameters=A1111))
    request = recorded.request
    assert recorded.source == "a1111"
    assert request.prompt == "a castle, (highly detailed:1.2),\nby the sea <lora:ink:0.8>"
    assert request.negative_prompt == 'blurry, "text": here'
    assert (request.steps, request.sampler, request.spacing) == (28, "dpmpp_2m", "karras")
    assert (request.guidance_scale, request.seed, request.width, request.height) == (6.5, 1234, 512, 768)
    assert request.clip_skip == 2
    assert (recorded.model, recorded.model_hash) == ("v1-5-pruned", "6ce0161689")
    assert recorded.unread == ("Denoising strength: 0.4",)  # of a picture that is not in the file
    assert request.noise_source == "philox"  # that program draws on the GPU where it writes nothing


VARIED = """a castle
Steps: 9, Sampler: Euler a, CFG scale: 7, Seed: 11, Size: 640x768, Variation seed: 99, Variation seed strength: 0.25, \
Seed resize from: 512x512, RNG: NV, Tiling: True, Denoising strength: 0.35, Hires upscale: 1.5, Hires steps: 6, \
Hires upscaler: Latent, Version: v1.10.1"""


def test_variations_and_a_second_pass_of_the_web_ui(tmp_path: Path) -> None:
    recorded = read_recorded(picture(tmp_path, parameters=VARIED))
    request = recorded.request
    assert recorded.unread == ()
    assert (request.variation_seed, request.variation_strength, request.seed_resize_from) == (99, 0.25, (512, 512))
    assert (request.noise_source, request.seamless) == ("philox", "both")
    assert (request.hires_scale, request.hires_steps, request.hires_strength) == (1.5, 6, 0.35)
    assert request.hires_upscaler == "latent"


@pytest.mark.parametrize(
    ("settings", "fields", "unread"),
    [
        ("RNG: CPU", {"noise_source": "cpu"}, []),
        ("RNG: GPU", {"noise_source": "philox"}, []),
        ("RNG: cuda", {"noise_source": "philox"}, []),
        ("RNG: dice", {}, ["RNG: dice"]),
        (
            "RNG: CPU, Variation seed: 4, Variation seed strength: 0",
            {},
            ["Variation seed: 4", "Variation seed strength: 0"],
        ),
        ("RNG: CPU, Seed resize from: 512", {}, ["Seed resize from: 512"]),
        ("RNG: CPU, Tile X: True", {"seamless": "x"}, []),
        ("RNG: CPU, Tiling: yes", {}, ["Tiling: yes"]),
        (
            "RNG: CPU, Hires upscale: 2, Hires upscaler: R-ESRGAN 4x+",
            {"hires_scale": 2.0},
            ["Hires upscaler: R-ESRGAN 4x+"],
        ),
        ("RNG: CPU, Mask blur: 4, Inpaint area: Only masked", {}, ["Mask blur: 4", "Inpaint area: Only masked"]),
    ],
)
def test_settings_one_by_one(settings: str, fields: dict[str, object], unread: list[str]) -> None:
    read = from_infotext(f"apple\nSteps: 5, Sampler: Euler, Seed: 1, {settings}")
    names = ("noise_source", "variation_seed", "seed_resize_from", "seamless", "hires_scale", "hires_upscaler")
    assert {name: read.fields[name] for name in names if name in read.fields and name in fields} == fields
    assert all(name not in read.fields for name in names if name not in ("noise_source", *fields))
    assert read.unread == unread


def test_an_old_combined_name_sets_the_schedule_too() -> None:
    read = from_infotext("apple\nSteps: 5, Sampler: DPM++ 2M SDE Karras, Seed: 1, RNG: CPU")
    assert (read.fields["sampler"], read.fields["spacing"]) == ("dpmpp_2m_sde", "karras")
    assert read.unread == []


@pytest.mark.parametrize(
    ("text", "prompt", "negative"),
    [
        ("", "", ""),
        ("apple", "apple", ""),
        ("apple\nNegative prompt: a\nb", "apple", "a\nb"),
        ("Steps: of the temple\nNegative prompt: x\nSteps: 3, Seed: 4", "Steps: of the temple", "x"),
    ],
)
def test_prompts_are_found_in_any_infotext(text: str, prompt: str, negative: str) -> None:
    read = from_infotext(text)
    assert (read.fields["prompt"], read.fields["negative_prompt"]) == (prompt, negative)


def test_our_own_infotext_is_read_back(pocket: Model) -> None:
    result = pocket.generate("a (red) apple", seed=3, steps=2, negative_prompt="b", sampler="heun", guidance_scale=3.0)
    read = from_infotext(result.infotext())
    request = result.single(0)
    for name in ("prompt", "negative_prompt", "steps", "seed", "sampler", "guidance_scale", "width", "height"):
        assert read.fields[name] == getattr(request, name), name
    assert read.unread == []


def comfy() -> dict[str, object]:
    def node(kind: str, **inputs: object) -> dict[str, object]:
        return {"class_type": kind, "inputs": inputs}

    return {
        "3": node(
            "KSampler",
            seed=99,
            steps=25,
            cfg=7,
            sampler_name="dpmpp_2m_sde_gpu",
            scheduler="karras",
            denoise=1,
            model=["10", 0],
            positive=["6", 0],
            negative=["7", 0],
            latent_image=["5", 0],
        ),
        "4": node("CheckpointLoaderSimple", ckpt_name="v1-5.safetensors"),
        "5": node("EmptyLatentImage", width=640, height=512, batch_size=1),
        "6": node("CLIPTextEncode", text="a fox", clip=["10", 1]),
        "7": node("CLIPTextEncode", text="bad", clip=["10", 1]),
        "8": node("VAEDecode", samples=["3", 0], vae=["4", 2]),
        "9": node("SaveImage", images=["8", 0]),
        "10": node("LoraLoader", lora_name="ink.safetensors", strength_model=0.7, model=["4", 0], clip=["4", 1]),
        "11": node("UpscaleModelLoader", model_name="4x"),
    }


def test_a_graph_of_comfyui(tmp_path: Path) -> None:
    recorded = read_recorded(picture(tmp_path, prompt=json.dumps(comfy())))
    request = recorded.request
    assert (request.prompt, request.negative_prompt, request.dialect) == ("a fox", "bad", "comfy")
    assert (request.seed, request.steps, request.guidance_scale) == (99, 25, 7.0)
    assert (request.sampler, request.spacing, request.width, request.height) == ("dpmpp_2m_sde", "karras", 640, 512)
    assert recorded.model == "v1-5.safetensors"
    assert recorded.unread == (
        "LoRA: ink.safetensors 0.7 (give it with --lora)",
        "node 11 (UpscaleModelLoader)",
    )


def test_a_graph_that_goes_round_or_holds_nothing() -> None:
    graph = comfy()
    graph["6"] = {
        "class_type": "ConditioningCombine",
        "inputs": {"conditioning_1": ["6", 0], "conditioning_2": ["3", 0]},
    }
    assert from_comfyui(graph).fields["prompt"] == ""
    assert "no KSampler node" in from_comfyui({"1": {"class_type": "Note", "inputs": {}}, "2": 5}).unread[0]


def test_metadata_of_invokeai() -> None:
    read = from_invokeai(
        {
            "positive_prompt": "a fox++",
            "seed": 5,
            "steps": 30,
            "cfg_scale": 7.5,
            "scheduler": "dpmpp_2m_k",
            "width": 512,
            "height": 512,
            "clip_skip": 0,
            "model": {"name": "stable-diffusion-v1-5", "hash": "blake3:12"},
            "seamless_x": True,
            "loras": [],
        }
    )
    assert read.fields == {
        "prompt": "a fox++",
        "dialect": "compel",
        "seed": 5,
        "steps": 30,
        "guidance_scale": 7.5,
        "sampler": "dpmpp_2m",
        "spacing": "karras",
        "width": 512,
        "height": 512,
        "clip_skip": 1,
    }
    assert read.unread == ["seamless_x: True"]
    assert read.model == "stable-diffusion-v1-5"


def test_values_out_of_range_are_refused_in_our_words(tmp_path: Path) -> None:
    path = picture(tmp_path, parameters="apple\nSteps: 100000, Seed: 3")
    with pytest.raises(InputError, match=r"steps is 100000: it must be a whole number from 1 to 1000"):
        read_recorded(path)


def test_pictures_without_whole_settings(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no settings"):
        read_recorded(picture(tmp_path))
    for text in ("{", "[]", '{"model": 3}', '{"model": {}, "request": 7}'):
        with pytest.raises(DamagedFileError, match="its settings are"):
            read_recorded(picture(tmp_path, rein=text))
