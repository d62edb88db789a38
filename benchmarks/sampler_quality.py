"""Which sampler comes nearest to the true solution in how many steps? Measured on a model.

    python -m benchmarks.sampler_quality --model pocket [--prompts 16] [--reference 1000]

Latents are compared, not pictures. Per sampler, spacing and number of steps:

* distance: for samplers without noise, and the others with eta 0: the root mean square difference to the latents of
  Heun's method in `--reference` steps from the same noise, over the deviation of those latents. The equation has one
  solution per noise, so a perfect sampler has 0.
* spread: for samplers that add noise, where no single picture is right: the difference of the deviation of all latents
  to that of the reference's, over it.

Expected for a model of this kind: second order before first from about 10 steps on, and samplers with noise last at few
steps. The rows come in the order of the best at 20 steps.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from benchmarks.common import model_to_measure, print_table
from rein.diffusion.noise import PictureNoise
from rein.diffusion.prediction import find_prediction
from rein.diffusion.samplers import SAMPLERS, SamplerOptions
from rein.diffusion.schedule import make_schedule
from rein.diffusion.spacing import SpacingOptions, spaced_sigmas
from rein.pipeline.job import Job, prepare
from rein.pipeline.model import load
from rein.pipeline.request import Request

WORDS = (
    "a red apple",
    "a blue car",
    "a green tree",
    "two yellow stars",
    "a cat",
    "a house and a dog",
    "a fish",
    "a key",
)
WITHOUT_NOISE = (
    *("euler", "heun", "dpm_2", "dpmpp_2m", "dpmpp_2s_ancestral", "res_multistep", "dpmpp_3m_sde"),
    *("lms", "deis", "ipndm", "unipc", "dpm_fast"),
)
WITH_NOISE = ("euler_ancestral", "dpmpp_2m_sde", "dpmpp_sde", "dpmpp_2s_ancestral", "restart")


@dataclass(frozen=True)
class Trial:
    """One row: a sampler on a spacing, with or without noise."""

    sampler: str
    spacing: str
    noisy: bool

    @property
    def label(self) -> str:
        """As it stands in the table."""
        eta = ", eta 0" if not self.noisy and SAMPLERS[self.sampler].stochastic else ""
        return f"{SAMPLERS[self.sampler].label}{eta}, {self.spacing}"


@torch.inference_mode()
def latents(job: Job, seed: int, trial: Trial, steps: int) -> Tensor:
    """The finished latents (1, C, h, w) of a prepared request's words."""
    info = SAMPLERS[trial.sampler]
    noise = PictureNoise([seed])
    options = SpacingOptions(discard_penultimate=info.discards_penultimate and steps > 1)
    sigmas = spaced_sigmas(trial.spacing, steps, job.schedule, options)
    drawn = noise.draw(job.latent_shape()).to(job.parts.device)
    start = find_prediction(job.parts.spec.prediction).start(drawn, sigmas[0])
    eta = 0.0 if info.reads_eta and not trial.noisy else None
    settings = SamplerOptions(eta, job.schedule.coordinates, schedule=job.schedule)
    *_, last = info.function(job.denoise, start, sigmas, noise, settings)
    return last.x


def scores(trial: Trial, jobs: Sequence[Job], truth: Sequence[Tensor], steps: int) -> float:
    """Distance, or for samplers with noise the difference of spread."""
    made = [latents(job, seed, trial, steps) for seed, job in enumerate(jobs)]
    true, found = torch.cat(list(truth)).double(), torch.cat(made).double()
    if trial.noisy:
        return float((found.std() - true.std()).abs() / true.std())
    return float((found - true).square().mean().sqrt() / true.std())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default=None)
    parser.add_argument("--prompts", type=int, default=16, help="pictures to measure by")
    parser.add_argument("--steps", type=int, nargs="+", default=[5, 10, 20, 50])
    parser.add_argument("--reference", type=int, default=1000, help="steps of the true solution")
    parser.add_argument("--spacings", nargs="+", default=["linspace", "trailing", "karras"])
    parser.add_argument("--guidance", type=float, default=None)
    options = parser.parse_args()
    with model_to_measure(options.model) as (source, name):
        parts = load(source, device="cpu").parts
        words = [WORDS[place % len(WORDS)] for place in range(options.prompts)]
        jobs = [prepare(parts, Request(prompt=text, seed=0, guidance_scale=options.guidance)) for text in words]
        schedule = make_schedule(**asdict(parts.spec.schedule))
        print(f"{name}: {options.prompts} pictures, beside Heun's method in {options.reference} steps")
        reference = Trial("heun", "linspace", noisy=False)
        truth = [latents(job, seed, reference, options.reference) for seed, job in enumerate(jobs)]
        trials = [Trial(sampler, spacing, False) for sampler in WITHOUT_NOISE for spacing in options.spacings]
        trials += [Trial(sampler, spacing, True) for sampler in WITH_NOISE for spacing in options.spacings]
        rows = []
        for trial in trials:
            most = min(options.steps[-1], schedule.steps)
            found = [scores(trial, jobs, truth, min(steps, most)) for steps in options.steps]
            rows.append(
                (trial.noisy, found[min(2, len(found) - 1)], [trial.label, *(f"{value:.4f}" for value in found)])
            )
        for noisy, title in ((False, "without noise: distance"), (True, "with noise: spread")):
            print_table(
                [title, *map(str, options.steps)], [row for is_noisy, _, row in sorted(rows) if is_noisy is noisy]
            )


if __name__ == "__main__":
    main()
