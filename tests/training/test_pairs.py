"""Options that cannot be together are refused before anything is read, each in one line that says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from rein.errors import InputError
from rein.training.recipe import read_recipe


@pytest.mark.parametrize(
    ("recipe", "changes", "message"),
    [
        ("lora", ["data.versions=2"], "data.augmentations and data.versions belong together"),
        ("lora", ["data.keep_tags=1"], "give data.shuffle_tags or data.tag_dropout with it"),
        ("lora", ["data.cache_text=true", "data.shuffle_tags=true"], "which data.shuffle_tags and data.tag_dropout"),
        (
            "lora",
            ["data.cache_text=true", "stage.text_rate=1e-4"],
            "stage 1: data.cache_text keeps what",
        ),
        ("inversion", ["data.cache_text=true"], "and they learn"),
        ("inversion", ["data.trigger=sks"], "or set captions = []"),
        ("autoencoder", ["data.tag_dropout=0.1"], "stage 1: it reads captions once or never"),
        ("lora", ["data.size=64", "stage.crop_size=128"], "stage 1: crop_size is 128, more than data.size, 64"),
    ],
)
def test_impossible_pairs(recipe: str, changes: list[str], message: str) -> None:
    with pytest.raises(InputError) as caught:
        read_recipe(Path(recipe), changes)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("recipe", "changes"),
    [
        ("lora", ["data.versions=2", "data.augmentations=light", "data.trigger=sks"]),
        ("lora", ["data.shuffle_tags=true", "data.keep_tags=1", "data.tag_dropout=0.1"]),
        ("inversion", ["data.trigger=sks", "stage.captions=[]"]),
        ("finetune", ["data.cache_text=true", "stage.text_rate=0.0"]),
    ],
)
def test_possible_pairs(recipe: str, changes: list[str]) -> None:
    assert read_recipe(Path(recipe), changes).stage
