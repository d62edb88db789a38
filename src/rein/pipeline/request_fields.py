"""The fields of a request: every option of a picture, with its type, its default and its meaning."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from rein.pipeline import fields as kinds
from rein.pipeline.choices import Embeddings, FilePath, Loras


class RequestFields(BaseModel):
    """Every option of a picture. `None` means the model's own choice, or a fresh seed.

    Fields:
        prompt, negative_prompt: what the picture should show, and what it should be led away from; both may be empty.
        width, height: pixels, 16 to 4096, in multiples of the model's latent pixels (8).
        steps: noise levels visited, 1 to 1000; None is 20, or as few as a distilled model needs.
        guidance_scale: 0 to 100; 1 is the prompt as it is, without the negative prompt.
        guidance_rescale: 0 to 1, see `rein.diffusion.guidance.guided`.
        guidance_interval: noise levels (low, high] between which guidance acts.
        sampler, spacing: names, labels ("Euler a"), names in other programs. A sampler's may hold the spacing ("DPM++
            2M Karras"); the spacing "automatic" is the sampler's own.
        eta: 0 to 1, share of fresh noise in the samplers that read it.
        s_churn, s_tmin, s_tmax, s_noise: noise added on the way, see `rein.diffusion.step.SamplerOptions`; only for the
            samplers that read them. s_tmax None is no limit.
        rho, sigma_min, sigma_max: of the spacings that read them, see `rein.diffusion.spacing.SpacingOptions`.
        seed: 0 to 2**63 - 1; picture i of `count` has seed + i. PyTorch's generator on the CPU reads the low 32 bits
            only, so seeds that are equal modulo 2**32 give the same picture.
        count: pictures, 1 to 1000.
        noise_source: "cpu", PyTorch's generator; "philox", the numbers that AUTOMATIC1111's web UI draws on a GPU.
        variation_seed, variation_strength: noise of another seed, and how far the picture's own is turned to it, 0 to
            1; picture i of `count` has variation seed + i. A seed that is not given is a fresh one.
        seed_resize_from: (width, height) in pixels of a picture whose noise is laid in the middle of this one's.
        dialect: how the prompts are read: "rein", "a1111", "comfy" or "compel", see `rein.text.dialects`.
        emphasis: what weights do, where the dialect has modes: "original", "no_norm", "ignore" or "none".
        clip_skip: which state of the text tower is read, counted from its last, 1 to 32; never a later one than the
            model was trained with.
        styles: names of styles to add to the prompts, in order; from `styles_file` (CSV), or those of Rein.
        wildcards: folder of the files that `__name__` in a prompt draws from.
        dynamic: whether `{a|b}` and `__name__` are drawn, from each picture's seed; else they are text.
        original_size, target_size: (width, height) that SDXL is told, in pixels; None is the picture's own size.
        crop: (left, top) that SDXL is told, in pixels.
        aesthetic_score, negative_aesthetic_score: 0 to 10, what SDXL's refiner is told of prompt and negative prompt;
            None is 6 and 2.5.
        loras: adapters, each a file or (file, weight) or (file, weight, text weight), see `rein.pipeline.choices`.
        lora_folder: where `<lora:name:weight>` in the prompt finds its file.
        embeddings: files of learned words, whose names then stand for them in the prompts.
        embedding_folder: more of them, of which those are read whose names stand in a prompt.
        init_image: the picture to start from: a file, a data URL, or in Python a Pillow picture.
        strength: 0 to 1, how much of the way is gone anew; 0 leaves the picture, 1 begins with noise. None is 0.75,
            or 1 when outpainting.
        resize: how `init_image` comes to width x height: "stretch", "crop" (covers it, cut round the middle), "fill"
            (lies within it, the rest painted with its edges), "latent" (stretched as latents).
        loops, loop_strength: how often a result is the next start, 1 to 100, and what strength is multiplied by each
            time.
        mask: white is painted anew, black stays; a picture of any size, transparent is black.
        mask_invert, mask_blur: paint the black parts; pixels of Gaussian blur at its edge, 0 to 256.
        masked_content: what the painting begins with: "original", "fill" (colours from around), "noise", "nothing".
        only_masked, mask_padding: paint the part round the mask alone, at full width x height, with so many pixels
            round it to see, and lay it into the picture.
        soft_mask: grey parts are painted in as many of the last steps as they are bright.
        outpaint: pixels added (left, top, right, bottom).
        depth_image, depth_model: of depth models, the map (bright is near), or a folder of the transformers library's
            model that estimates it from `init_image`.
        image_guidance_scale: of models that edit pictures, 0 to 100, how closely to keep to the picture; None is 1.5.
        hires_scale: draw, make larger by this factor (above 1, to 8), and draw over it.
        hires_upscaler: "latent", "lanczos" or an upscaler's file. hires_steps: None is `steps`. hires_strength: 0 to 1.
        seamless: axes at whose ends the picture goes on at the other side: "none", "x", "y" or "both".
        tile: side in pixels of the parts in which the autoencoder works; None is all at once where it fits.
        refiner, refiner_switch: a model that draws the last steps, and after which share of them it takes over.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    prompt: kinds.Text
    negative_prompt: kinds.Text = ""
    width: kinds.Side | None = None
    height: kinds.Side | None = None
    steps: Annotated[int, Field(ge=1, le=kinds.MAX_STEPS)] | None = None
    guidance_scale: kinds.Scale | None = None
    guidance_rescale: kinds.Share = 0.0
    guidance_interval: kinds.Pair | None = None
    sampler: str | None = None
    spacing: str | None = None
    eta: kinds.Share | None = None
    s_churn: Annotated[float, Field(ge=0, le=kinds.MAX_CHURN)] = 0.0
    s_tmin: Annotated[float, Field(ge=0)] = 0.0
    s_tmax: Annotated[float, Field(ge=0)] | None = None
    s_noise: Annotated[float, Field(ge=0, le=kinds.MAX_NOISE)] = 1.0
    rho: Annotated[float, Field(gt=0, le=100)] | None = None
    sigma_min: kinds.Level | None = None
    sigma_max: kinds.Level | None = None
    seed: kinds.Seed | None = None
    count: kinds.Count = 1
    noise_source: kinds.NoiseName = "cpu"
    variation_seed: kinds.Seed | None = None
    variation_strength: kinds.Share = 0.0
    seed_resize_from: kinds.Sides | None = None
    dialect: str | None = None
    emphasis: str | None = None
    clip_skip: Annotated[int, Field(ge=1, le=kinds.MAX_CLIP_SKIP)] = 1
    styles: kinds.Names = ()
    styles_file: str | None = None
    wildcards: str | None = None
    dynamic: bool = True
    original_size: kinds.Size | None = None
    crop: kinds.Place = (0, 0)
    target_size: kinds.Size | None = None
    aesthetic_score: kinds.Score | None = None
    negative_aesthetic_score: kinds.Score | None = None
    loras: Loras = ()
    lora_folder: FilePath | None = None
    embeddings: Embeddings = ()
    embedding_folder: FilePath | None = None
    init_image: kinds.Picture | None = None
    strength: kinds.Share | None = None
    resize: kinds.Resize = "crop"
    loops: Annotated[int, Field(ge=1, le=kinds.MAX_LOOPS)] = 1
    loop_strength: Annotated[float, Field(ge=0.1, le=2)] = 1.0
    mask: kinds.Picture | None = None
    mask_invert: bool = False
    mask_blur: Annotated[float, Field(ge=0, le=kinds.MAX_BLUR)] = 4.0
    masked_content: kinds.Content = "original"
    only_masked: bool = False
    mask_padding: Annotated[int, Field(ge=0, le=kinds.MAX_PADDING)] = 32
    soft_mask: bool = False
    outpaint: kinds.Margins | None = None
    depth_image: kinds.Picture | None = None
    depth_model: FilePath | None = None
    image_guidance_scale: kinds.Scale | None = None
    hires_scale: Annotated[float, Field(gt=1, le=kinds.MAX_HIRES)] | None = None
    hires_upscaler: FilePath = "lanczos"
    hires_steps: Annotated[int, Field(ge=1, le=kinds.MAX_STEPS)] | None = None
    hires_strength: kinds.Share = 0.6
    seamless: kinds.Seamless = "none"
    tile: Annotated[int, Field(ge=64, le=kinds.MAX_SIDE)] | None = None
    refiner: FilePath | None = None
    refiner_switch: kinds.Share = 0.8

    def is_set(self, name: str) -> bool:
        """Whether a field has another value than its default."""
        return bool(getattr(self, name) != type(self).model_fields[name].default)
