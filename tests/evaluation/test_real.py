import numpy as np
import pytest

from rein.data.compose import draw
from rein.data.icons import IconArt
from rein.data.prompts import held_out_prompts, trained_prompts
from rein.data.scenes import Scene, Thing
from rein.evaluation.real import real_pictures, real_scene


def test_a_seed_decides_the_picture(art: IconArt) -> None:
    [prompt] = trained_prompts(art, "plain", 1)
    pictures = real_pictures(art, [prompt] * 3, [1, 1, 2])
    assert pictures.shape == (3, 32, 32, 3) and pictures.dtype == np.uint8
    assert np.array_equal(pictures[0], pictures[1]) and not np.array_equal(pictures[0], pictures[2])


@pytest.mark.parametrize("kind", ["plain", "colour", "pair"])
def test_it_shows_what_is_asked(art: IconArt, kind: str) -> None:
    for prompt in held_out_prompts(art, kind, 5):
        scene = real_scene(art, prompt, 0)
        assert tuple(thing.concept for thing in scene.things) == prompt.concepts
        assert {thing.colour for thing in scene.things} == {prompt.colour}
        assert scene.style == prompt.style


def test_two_things_are_apart_and_both_there(art: IconArt) -> None:
    [prompt] = held_out_prompts(art, "pair", 1)
    scenes = [real_scene(art, prompt, seed) for seed in range(20)]
    assert {scene.relation for scene in scenes} == {"beside", "above"}
    for scene in scenes:
        first, second = scene.things
        axis = 0 if scene.relation == "beside" else 1
        assert second.centre[axis] - first.centre[axis] > max(first.side, second.side) - 0.05


def test_one_thing_is_drawn_as_the_training_pictures_draw_it(art: IconArt) -> None:
    [prompt] = trained_prompts(art, "plain", 1)
    scene = real_scene(art, prompt, 3)
    [thing] = scene.things
    same = Scene("plain", prompt.style, (Thing(prompt.concepts[0], None, thing.centre, thing.side, thing.mirrored),))
    assert np.array_equal(draw(same, art), draw(scene, art))
    assert 0.8 <= thing.side <= 0.95
