"""Teaching a model that can draw already: the loss, the sheets and the numbers that all ways of teaching share.

What learns, and what is saved, is each objective's own: all weights here, an adapter in `rein.training.lora`, a word in
`rein.training.inversion`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from PIL import Image
from torch import Tensor, nn

from rein.formats.checkpoint import LoadedModel
from rein.formats.embeddings import save_embedding
from rein.formats.folder import UNET_FILE, tower_file
from rein.formats.tensors import write_tensors
from rein.images import grid
from rein.text.encode import Conditioning
from rein.text.inversion import Embedding
from rein.training.answers import Asked, KeptAnswers
from rein.training.crops import window_side, windows
from rein.training.lessons import Lesson
from rein.training.memory import recompute_blocks
from rein.training.noising import NoiseLoss
from rein.training.objective import Batch, Losses, Player
from rein.training.pupil import Pupil, Tokens, check_teachable, tokenise
from rein.training.showing import draw_with
from rein.training.tables_teach import FinetuneTable, TeachTable
from rein.training.words import FrozenWords

Answering = Callable[..., Tensor]
"""A `Pupil`, or its forward past a compiled form, which would be compiled again for other shapes."""

_VALIDATED, _AT_ONCE, _SHOWN = 64, 16, 8


@dataclass(frozen=True)
class Lessons:
    """What a model is taught with.

    Fields:
        train, held_out: pictures; where none are held out, numbers are taken of those that are trained on.
        prior: pictures of the class that must not be forgotten.
        provenance: what the saved file tells of its making.
        words: what the text towers make of all captions, where that is kept because they do not learn.
    """

    train: Sequence[Lesson]
    held_out: Sequence[Lesson] = ()
    prior: Sequence[Lesson] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)
    words: Mapping[str, Conditioning] = field(default_factory=dict)

    def to(self, device: torch.device) -> Lessons:
        """The same on a device."""
        train, held_out, prior = (
            [lesson.to(device) for lesson in part] for part in (self.train, self.held_out, self.prior)
        )
        return replace(self, train=train, held_out=held_out, prior=prior)


class TeachObjective:
    """Teaches all networks of `model`, whose own weights change. `vectors` begin a learned `word`."""

    name = "teach"

    def __init__(self, model: LoadedModel, table: TeachTable, lessons: Lessons, word: Embedding | None = None) -> None:
        check_teachable(model)
        self.model, self.table, self.lessons, self.word = model, table, lessons, word
        self.loss = NoiseLoss.of(table, model.spec)
        for network in (model.unet, model.autoencoder, *model.towers):
            network.requires_grad_(False)
        self.pupil = Pupil(model, () if word is None else word.vectors)
        if table.checkpointing:
            recompute_blocks(self.pupil)
        self._tokens: dict[str, Tokens] = {}
        self._frozen = FrozenWords(model, lessons.words) if lessons.words else None
        self._window = None if table.crop_size is None else window_side(table.crop_size, model.spec)
        self._kept: KeptAnswers | None = None

    def place(self, device: torch.device) -> None:
        """Move lessons and networks to the device, and note what the model says of the class before it is taught."""
        self.lessons = self.lessons.to(device)
        self.model.autoencoder.to(device)
        self.pupil.to(device)
        prior = self.table.prior
        if prior is not None and self.lessons.prior:
            prompts, times = (prior.prompt, *prior.others), prior.answers if prior.keep == "answers" else 1
            asked = self._asker(self.pupil.forward)
            self._kept = KeptAnswers.of(asked, self.lessons.prior, prompts, self.loss, times)

    def players(self) -> list[Player]:
        """What learns, together."""
        return [Player(self.name, self.pupil, self._loss, rates=self.rates())]

    def rates(self) -> Mapping[str, float]:
        """Factors of the learning rate by the beginning of a parameter's name."""
        return {}

    def size(self) -> int:
        return len(self.lessons.train)

    def picture(self, index: int) -> str:
        """What messages call a picture."""
        return self.lessons.train[index].name

    def _loss(self, module: nn.Module, batch: Batch) -> Losses:
        generator, prior, dropout = batch.generator, self.table.prior, self.table.caption_dropout
        own = [self.lessons.train[index] for index in batch.indices.tolist()]
        if prior is None or self._kept is None:
            return {"loss": self._errors(module, own, generator, dropout).mean()}
        if prior.keep == "answers":
            learned = self._errors(module, own, generator, dropout).mean()
            kept = self._kept.error(self._asker(module), len(own), generator)
        else:
            lots = torch.randint(len(self.lessons.prior), (len(own),), generator=generator, device=generator.device)
            drawn = [self.lessons.prior[index] for index in lots.tolist()]
            errors = self._errors(module, [*own, *drawn], generator, dropout)
            learned, kept = errors[: len(own)].mean(), errors[len(own) :].mean()
        return {"loss": learned + prior.weight * kept, "own": learned.detach(), "class": kept.detach()}

    def _asker(self, module: Answering) -> Asked:
        """The model as `KeptAnswers` asks it."""

        def asked(shown: Tensor, timestep: Tensor, texts: Sequence[str], dropped: Tensor) -> Tensor:
            return module(shown, timestep, self.words(texts), dropped)

        return asked

    def _errors(
        self, module: Answering, lessons: Sequence[Lesson], generator: torch.Generator, dropout: float
    ) -> Tensor:
        """The error (B,) of each lesson. Those of one shape go through the networks together."""
        device = generator.device
        lots = torch.rand(2, len(lessons), generator=generator, device=device).cpu()
        groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for place, lesson in enumerate(lessons):
            groups[tuple(lesson.latents.shape)].append(place)
        errors = torch.zeros(len(lessons), device=device)
        for places in groups.values():
            chosen = [lessons[place] for place in places]
            dropped = lots[0, places] < dropout
            texts = [
                "" if gone else lesson.text(lot)
                for lesson, gone, lot in zip(chosen, dropped.tolist(), lots[1, places].tolist(), strict=True)
            ]
            found = self._asked(module, chosen, texts, dropped.to(device), generator)
            errors = errors.index_put((torch.tensor(places, device=device),), found)
        return errors

    def _asked(
        self,
        module: Answering,
        lessons: Sequence[Lesson],
        texts: Sequence[str],
        dropped: Tensor,
        generator: torch.Generator,
    ) -> Tensor:
        x0 = torch.stack([lesson.latents.float() for lesson in lessons])  # autocast stacks no halves on the CPU
        masks = [lesson.mask for lesson in lessons]
        mask = None
        if any(entry is not None for entry in masks):
            mask = torch.stack([torch.ones_like(x[:1]) if m is None else m for m, x in zip(masks, x0, strict=True)])
        place: Tensor | None = None
        if self._window is not None:
            x0, mask, place = windows(x0, mask, self._window, self.model.spec.autoencoder.downscale, generator)
        words = self.words(texts)

        def answer(shown: Tensor, timestep: Tensor) -> Tensor:
            return module(shown, timestep, words, dropped, place)

        return self.loss(answer, x0, generator, mask)

    def words(self, texts: Sequence[str]) -> Tokens | Conditioning:
        """Texts as the pupil takes them: as its towers read them, or what these make of them, where that is kept."""
        if self._frozen is not None:
            return self._frozen.features(texts)
        return self.tokens(texts).to(self.model.device)

    def tokens(self, texts: Sequence[str]) -> Tokens:
        """Texts as the towers read them; each is read once."""
        for text in set(texts) - self._tokens.keys():
            self._tokens[text] = tokenise([text], self.model, self.word)
        found = [self._tokens[text] for text in texts]
        return Tokens(torch.cat([t.ids for t in found], dim=1), torch.cat([t.slots for t in found], dim=1))

    def validate(self) -> dict[str, float]:
        """The loss at fixed noise on held-out pictures, or on the first that are trained on; and the class's drift.

        The drift is how far the answers for pictures of the class have moved, as a share of their size at the start.
        """
        lessons = self.lessons.held_out or self.lessons.train
        generator = torch.Generator(lessons[0].latents.device).manual_seed(1)
        count, total = min(_VALIDATED, len(lessons)), 0.0
        for first in range(0, count, _AT_ONCE):
            part = lessons[first : min(first + _AT_ONCE, count)]
            total += float(self._errors(self.pupil.forward, part, generator, 0.0).sum())
        numbers = {"held_out_loss" if self.lessons.held_out else "fixed_loss": total / count}
        if self._kept is not None:
            numbers["class_drift"] = self._kept.drift(self._asker(self.pupil.forward))
        return numbers

    def sample(self) -> Image.Image:
        """A labelled sheet, drawn by the pipeline: the table's prompts, or captions of the data; seeds 0, 1, 2 ..."""
        shown = self.lessons.held_out or self.lessons.train
        texts = list(self.table.samples) or [lesson.captions[0] for lesson in shown[:_SHOWN]]
        if self.table.prior is not None and not self.table.samples:
            texts.append(self.table.prior.prompt)
        with TemporaryDirectory() as folder:
            words: tuple[str, ...] = ()
            if self.word is not None:
                words = (str(save_embedding(Path(folder) / f"{self.word.name}.safetensors", self.learned(self.word))),)
            images = [
                draw_with(self.model, text, seed, steps=self.table.sample_steps, embeddings=words)
                for seed, text in enumerate(texts)
            ]
        return grid(images, columns=min(8, len(images)), labels=texts)

    def learned(self, word: Embedding) -> Embedding:
        """The word with its vectors as they are now."""
        return Embedding(word.name, tuple(vectors.detach().float().cpu() for vectors in self.pupil.words))


class FinetuneObjective(TeachObjective):
    """All weights of the U-Net learn, and those of the text towers where the table gives them a rate."""

    name = "finetune"

    def __init__(self, model: LoadedModel, table: FinetuneTable, lessons: Lessons) -> None:
        super().__init__(model, table, lessons)
        self.rate_of_text = table.text_rate / table.learning_rate
        model.unet.requires_grad_(True)
        for tower in model.towers:
            tower.requires_grad_(table.text_rate > 0)

    def rates(self) -> Mapping[str, float]:
        return {"towers": self.rate_of_text} if self.rate_of_text else {}

    def save(self, folder: Path) -> None:
        """Write U-Net and text towers, as a model's folder names them."""
        folder.mkdir(parents=True, exist_ok=True)
        towers = {tower_file(number): tower for number, tower in enumerate(self.model.towers)}
        for file, network in ({UNET_FILE: self.model.unet} | towers).items():
            tensors = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
            write_tensors(folder / file, tensors, {"format": "pt", **self.lessons.provenance})
