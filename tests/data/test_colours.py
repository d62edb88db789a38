import numpy as np
import pytest

from rein.data.colours import COLOURS, Colour, Pixels, from_oklab, main_colour, recolour, to_oklab


def disc(*rgb: int, shade: float = 0.5) -> Pixels:
    """A disc, its lower half darker, on nothing."""
    rows, columns = np.mgrid[:32, :32]
    icon = np.zeros((32, 32, 4), np.uint8)
    inside = (rows - 15.5) ** 2 + (columns - 15.5) ** 2 < 150
    icon[inside] = (*rgb, 255)
    icon[inside & (rows > 20), :3] = (np.array(rgb) * shade).astype(np.uint8)
    return icon


def hue_and_chroma(rgb: Pixels) -> tuple[float, float]:
    lab = to_oklab(rgb.reshape(-1, 3)).mean(axis=0)
    return float(np.degrees(np.arctan2(lab[2], lab[1])) % 360), float(np.hypot(lab[1], lab[2]))


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [
        # From the CSS Color 4 conversion of the sRGB corners.
        ((255, 255, 255), (1.0, 0.0, 0.0)),
        ((0, 0, 0), (0.0, 0.0, 0.0)),
        ((255, 0, 0), (0.62796, 0.22486, 0.12585)),
        ((0, 255, 0), (0.86644, -0.23389, 0.17950)),
        ((0, 0, 255), (0.45201, -0.03246, -0.31153)),
    ],
)
def test_oklab_agrees_with_published_values(rgb: tuple[int, int, int], lab: tuple[float, float, float]) -> None:
    assert to_oklab(np.array([rgb], np.uint8))[0] == pytest.approx(lab, abs=2e-4)


def test_there_and_back_is_the_same_to_one_level() -> None:
    levels = np.linspace(0, 255, 9, dtype=np.uint8)
    rgb = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(-1, 3)
    assert np.abs(from_oklab(to_oklab(rgb)).astype(int) - rgb).max() <= 1


def test_the_main_colour_is_measured() -> None:
    red = main_colour(disc(220, 40, 40))
    assert red.share == 1.0 and red.hue == pytest.approx(27, abs=4) and red.chroma > 0.15
    grey = main_colour(disc(150, 150, 150))
    assert grey.chroma == 0.0 and grey.share > 0.9
    two = disc(220, 40, 40, shade=1.0)
    two[:, :10, :3] = (40, 200, 60)
    assert 0.5 < main_colour(two).share < 0.9
    assert main_colour(np.zeros((8, 8, 4), np.uint8)).share == 0.0


@pytest.mark.parametrize("colour", COLOURS, ids=lambda colour: colour.name)
@pytest.mark.parametrize("start", [(220, 40, 40), (250, 210, 60), (40, 90, 200), (140, 140, 140), (255, 255, 255)])
def test_a_disc_takes_each_colour_and_keeps_its_shading(colour: Colour, start: tuple[int, int, int]) -> None:
    icon = disc(*start)
    turned = recolour(icon, colour, main_colour(icon))
    assert np.array_equal(turned[..., 3], icon[..., 3])
    light, dark = turned[12, 16, :3], turned[24, 16, :3]
    lightness = to_oklab(np.stack([light, dark]))[:, 0]
    assert lightness[0] > lightness[1] + 0.04
    assert lightness[0] == pytest.approx(colour.lightness, abs=0.06)
    hue, chroma = hue_and_chroma(light)
    if colour.chroma < 0.02:
        assert chroma < 0.03
    else:
        assert abs((hue - colour.hue + 180) % 360 - 180) < 12
        assert chroma == pytest.approx(colour.chroma, rel=0.35)


def test_other_colours_of_a_drawing_stay() -> None:
    icon = disc(220, 40, 40, shade=1.0)
    icon[:, :8, :3] = (40, 200, 60)
    icon[14:18, 14:18, :3] = 255
    turned = recolour(icon, next(colour for colour in COLOURS if colour.name == "blue"), main_colour(icon))
    assert np.abs(turned[16, 5, :3].astype(int) - (40, 200, 60)).max() <= 2
    assert np.abs(turned[15, 15, :3].astype(int) - 255).max() <= 2
    assert turned[16, 22, 2] > turned[16, 22, 0] + 80


def test_the_drawing_given_is_not_changed() -> None:
    icon = disc(220, 40, 40)
    before = icon.copy()
    recolour(icon, COLOURS[4], main_colour(icon))
    assert np.array_equal(icon, before)
