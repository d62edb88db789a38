"""The denoising loop of Rein and of diffusers: the same architecture, weights, words and noise, in one run.

    python -m benchmarks.denoising_loop --threads 2 --runs 9

Measured is the way from encoded words and noise to finished latents, guidance included, in float32 on the CPU: no text
encoding, no decoding, no loading. The peer is diffusers' UNet2DConditionModel with FlowMatchEulerDiscreteScheduler,
used as its own pipelines use them; a third row has its weights in channels_last memory, which its pipelines do not do
by themselves. Expected for `pocket`: latents equal to about 1e-5 of their size, and Rein at least 1.3 times as fast.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from dataclasses import asdict

import torch
from torch import Tensor

from benchmarks.common import in_turn, model_to_measure, print_table, summary
from rein.diffusion.noise import PictureNoise
from rein.diffusion.schedule import make_schedule
from rein.diffusion.spacing import spaced_sigmas
from rein.pipeline.adapters import Chosen
from rein.pipeline.generate import run
from rein.pipeline.job import Job
from rein.pipeline.model import Model, load
from rein.pipeline.network import guided_denoiser, plan_request
from rein.pipeline.request import Request
from rein.pipeline.words import drawn_words
from rein.text.encode import Conditioning
from rein.text.plan import PromptPlan

PROMPT = "a red apple, flat style"


def rein_loop(model: Model, request: Request, plan: PromptPlan) -> Callable[[], Tensor]:
    """Rein's own loop from encoded words on, as `model.generate` runs it."""
    assert request.spacing is not None

    @torch.inference_mode()
    def latents() -> Tensor:
        schedule = make_schedule(**asdict(model.spec.schedule))
        sigmas = spaced_sigmas(str(request.spacing), request.steps, schedule)
        denoise = guided_denoiser(model.parts, request, plan, schedule, sigmas)
        for step in run(Job(model.parts, request, schedule, sigmas, denoise, (drawn_words(request),), Chosen())):
            finished = step.latents
        return finished

    return latents


def peer_unet(model: Model) -> torch.nn.Module:
    """diffusers' U-Net of the same shape with the same weights."""
    from diffusers import UNet2DConditionModel

    config = model.spec.unet
    attends = [depth > 0 for depth in config.transformer_depth]
    unet = UNet2DConditionModel(
        sample_size=model.spec.native_size // model.spec.autoencoder.downscale,
        in_channels=config.in_channels,
        out_channels=config.out_channels,
        block_out_channels=config.channels,
        layers_per_block=config.blocks_per_level,
        down_block_types=["CrossAttnDownBlock2D" if here else "DownBlock2D" for here in attends],
        up_block_types=["CrossAttnUpBlock2D" if here else "UpBlock2D" for here in reversed(attends)],
        transformer_layers_per_block=[max(depth, 1) for depth in config.transformer_depth],
        attention_head_dim=list(config.heads),  # by its old name; it is the number of heads
        cross_attention_dim=config.context_width,
        use_linear_projection=config.linear_projection,
        norm_num_groups=config.norm_groups,
        class_embed_type="projection",
        projection_class_embeddings_input_dim=config.pooled_width,
    )
    weights = model.parts.unet.state_dict().items()
    unet.load_state_dict({name.replace("add_embedding", "class_embedding"): value for name, value in weights})
    module: torch.nn.Module = unet.eval().requires_grad_(False)
    return module


def peer_loop(model: Model, request: Request, words: Conditioning, unet: torch.nn.Module) -> Callable[[], Tensor]:
    """The loop as diffusers' pipelines write it: a doubled batch, guidance, a step of the scheduler."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    config, scale = model.spec.autoencoder, request.guidance_scale
    side = (request.height or 0) // config.downscale, (request.width or 0) // config.downscale
    seeds = range(request.seed or 0, (request.seed or 0) + request.count)
    assert scale is not None and words.pooled is not None and request.count == 1
    pooled = words.pooled

    @torch.inference_mode()
    def latents() -> Tensor:
        scheduler = FlowMatchEulerDiscreteScheduler(
            num_train_timesteps=model.spec.schedule.steps, shift=model.spec.schedule.shift
        )
        scheduler.set_timesteps(request.steps)
        x = PictureNoise(seeds).draw((config.latent_channels, *side))
        for timestep in scheduler.timesteps:
            doubled = torch.cat([x, x])
            output = unet(
                doubled, timestep, encoder_hidden_states=words.context, class_labels=pooled, return_dict=False
            )
            unwanted, wanted = output[0].chunk(2)
            x = scheduler.step(unwanted + scale * (wanted - unwanted), timestep, x, return_dict=False)[0]
        finished: Tensor = x
        return finished

    return latents


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="folder of a flow model with pooled text; by default the embedded one")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with model_to_measure(options.model) as (source, label):
        model = load(source, "cpu", "float32")
        measure(model, label, options)


def measure(model: Model, label: str, options: argparse.Namespace) -> None:
    """Run all, print the table."""
    request = Request(prompt=PROMPT, seed=7, steps=options.steps, sampler="euler", spacing="linspace")
    request = request.resolved(model.spec)
    with torch.inference_mode():
        plan = plan_request(model.parts, request)
        words = Conditioning.cat(plan.steps[0].rows)
    contiguous, channels_last = peer_unet(model), peer_unet(model)
    channels_last.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    loops = {
        "rein": rein_loop(model, request, plan),
        "diffusers": peer_loop(model, request, words, contiguous),
        "diffusers, channels_last": peer_loop(model, request, words, channels_last),
    }
    seconds = in_turn(loops, options.runs)
    ours, theirs = loops["rein"](), loops["diffusers"]()
    print(
        f"{label}: {request.width} x {request.height}, {request.steps} guided steps, float32, {options.threads} threads"
    )
    rows = []
    for name, times in seconds.items():
        ratio = statistics.median(other / mine for other, mine in zip(times, seconds["rein"], strict=True))
        rows.append([name, *summary(times), f"{request.steps / statistics.median(times):.1f}", f"{ratio:.2f}"])
    print_table(["seconds", "median", "fastest", "slowest", "steps/s", "times rein's"], rows)
    difference = float((ours - theirs).abs().max())
    print(
        f"largest difference of the final latents: {difference:.2e}, their largest value being {theirs.abs().max():.2f}"
    )


if __name__ == "__main__":
    main()
