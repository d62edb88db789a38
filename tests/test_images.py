"""Pictures between Pillow, tensors and files."""

import math
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from rein import image_files
from rein.errors import DamagedFileError, InputError, NonFiniteError, OutputError
from rein.image_files import QUALITY, read_format, read_image, read_texts, resaved, write_image, write_png
from rein.images import BEST_PSNR, crop_to, fit_within, grid, pil_to_tensor, psnr, tensor_to_pil, to_rgb

INFOTEXT = "a red apple\nNegative prompt: blurry\nSteps: 20, Sampler: Euler a, Seed: 7"


def gradient(width: int = 37, height: int = 23) -> Image.Image:
    """A picture in which every pixel differs from its neighbours and every level occurs."""
    rows, columns = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([rows * 11, columns * 7, rows * columns], axis=-1).astype(np.uint8))


def equal(one: Image.Image, other: Image.Image) -> bool:
    return one.mode == other.mode and one.size == other.size and one.tobytes() == other.tobytes()


def test_every_level_survives_the_way_to_a_tensor_and_back() -> None:
    tensor = pil_to_tensor(gradient())
    assert tensor.shape == (3, 23, 37)
    assert tensor.dtype == torch.float32
    assert equal(tensor_to_pil(tensor), gradient())


def test_the_range_of_a_tensor_and_its_channel_order() -> None:
    tensor = pil_to_tensor(Image.new("RGB", (2, 2), (255, 0, 51)))
    assert tensor[:, 0, 0].tolist() == pytest.approx([1.0, -1.0, 51 / 127.5 - 1])


def test_what_lies_outside_the_range_is_clipped() -> None:
    assert tensor_to_pil(torch.tensor([9.0, -9.0, 0.0]).reshape(3, 1, 1)).getpixel((0, 0)) == (255, 0, 128)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_picture_with_a_broken_number_is_never_made(value: float) -> None:
    tensor = torch.zeros(3, 4, 4)
    tensor[1, 2, 3] = value
    with pytest.raises(NonFiniteError, match="NaN or infinity"):
        tensor_to_pil(tensor)


def test_a_tensor_of_another_shape_is_a_mistake() -> None:
    with pytest.raises(ValueError, match=r"\(1, 3, 4, 4\)"):
        tensor_to_pil(torch.zeros(1, 3, 4, 4))


def test_half_precision_and_gradients_are_no_obstacle() -> None:
    tensor = torch.zeros(3, 2, 2, dtype=torch.bfloat16, requires_grad=True)
    assert tensor_to_pil(tensor).getpixel((1, 1)) == (128, 128, 128)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "CMYK", "YCbCr", "I;16", "I", "F", "RGBA"])
def test_every_kind_of_picture_becomes_rgb(mode: str) -> None:
    assert pil_to_tensor(Image.new(mode, (3, 2))).shape == (3, 2, 3)


def test_sixteen_bits_are_scaled_and_not_cut() -> None:
    image = Image.fromarray(np.array([[0, 257, 32896, 65535]], dtype=np.uint16))
    assert [to_rgb(image).getpixel((x, 0)) for x in range(4)] == [(v, v, v) for v in (0, 1, 128, 255)]


def test_what_is_transparent_shows_the_background() -> None:
    clear = Image.new("RGBA", (1, 1), (200, 0, 0, 0))
    assert to_rgb(clear).getpixel((0, 0)) == (255, 255, 255)
    assert to_rgb(clear, (0, 0, 9)).getpixel((0, 0)) == (0, 0, 9)
    palette = Image.new("P", (1, 1), 0)
    palette.info["transparency"] = 0
    assert to_rgb(palette).getpixel((0, 0)) == (255, 255, 255)


def test_crop_to_fills_the_size_from_the_middle() -> None:
    wide = Image.new("RGB", (300, 100), "red")
    wide.paste("blue", (100, 0, 200, 100))
    assert equal(crop_to(wide, 100, 100), Image.new("RGB", (100, 100), "blue"))
    assert crop_to(wide, 64, 128).size == (64, 128)


def test_fit_within_keeps_all_of_the_picture() -> None:
    fitted = fit_within(Image.new("RGB", (200, 100), "red"), 100, 100, background=(0, 0, 0))
    assert fitted.size == (100, 100)
    assert [fitted.getpixel((50, y)) for y in (10, 50, 90)] == [(0, 0, 0), (255, 0, 0), (0, 0, 0)]


def test_a_grid_lays_pictures_out_row_by_row() -> None:
    colours = ["red", "lime", "blue"]
    sheet = grid([Image.new("RGB", (10, 8), colour) for colour in colours], columns=2, gap=2)
    assert sheet.size == (2 + 2 * 12, 2 + 2 * 10)
    assert [sheet.getpixel(at) for at in ((2, 2), (14, 2), (2, 12))] == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    assert sheet.getpixel((14, 12)) == (255, 255, 255)


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (4, 2), (5, 3), (9, 3), (10, 4)])
def test_a_grid_is_about_square_by_default(count: int, columns: int) -> None:
    assert grid([gradient(10, 10)] * count, gap=0).width == columns * 10


def test_pictures_of_different_sizes_are_centred() -> None:
    sheet = grid([Image.new("RGB", (20, 20), "red"), Image.new("RGB", (10, 10), "blue")], columns=2, gap=0)
    assert sheet.size == (40, 20)
    assert (sheet.getpixel((30, 10)), sheet.getpixel((22, 10))) == ((0, 0, 255), (255, 255, 255))


def test_labels_stand_below_their_pictures() -> None:
    picture = Image.new("RGB", (128, 128), "red")
    plain = grid([picture, picture], columns=2)
    labelled = grid([picture, picture], columns=2, labels=["a red apple", ""])
    strip = np.asarray(labelled)[132:]
    assert labelled.height > plain.height
    assert (strip[:, 4:132] < 100).any(), "the first label has ink"
    assert (strip[:, 136:264] == 255).all(), "the empty one has none"


@pytest.mark.parametrize("label", ["word " * 30, "x" * 300, "x" * 1_000_000, "☃ \n\t é", "a" * 20 + " b"])
def test_a_long_label_is_wrapped_to_its_picture_and_cut(label: str) -> None:
    picture = Image.new("RGB", (64, 64), "red")
    sheet = grid([picture, picture], columns=2, labels=[label, ""])
    assert sheet.height < 64 + 100
    assert (np.asarray(sheet)[68:, 68:] == 255).all(), "no ink under the neighbour"


def test_a_wrong_grid_is_refused() -> None:
    with pytest.raises(InputError, match="at least one picture"):
        grid([])
    with pytest.raises(InputError, match="columns is 0"):
        grid([gradient()], columns=0)
    with pytest.raises(InputError, match="2 labels for 1 pictures"):
        grid([gradient()], labels=["a", "b"])


@pytest.mark.parametrize("text", ["", INFOTEXT, "naïve £", "雪だるま ☃ 🍎", "a\0b", "x" * 3_000_000, "tab\tüß\r\n"])
def test_texts_and_pixels_survive_a_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.png"
    write_png(gradient(), path, {"parameters": text, "rein": '{"seed":7}'})
    assert read_texts(path) == {"parameters": text, "rein": '{"seed":7}'}
    assert equal(read_image(path), gradient())


def test_the_chunk_of_a_text_is_the_plainest_that_can_hold_it(tmp_path: Path) -> None:
    write_png(gradient(), tmp_path / "a.png", {"parameters": "naïve"})
    write_png(gradient(), tmp_path / "b.png", {"parameters": "雪"})
    assert b"tEXtparameters\0na\xefve" in (tmp_path / "a.png").read_bytes()
    assert b"iTXtparameters\0" in (tmp_path / "b.png").read_bytes()


def test_a_half_surrogate_does_not_lose_the_picture(tmp_path: Path) -> None:
    write_png(gradient(), tmp_path / "a.png", {"parameters": "x\ud800y"})
    assert read_texts(tmp_path / "a.png") == {"parameters": "x?y"}


def test_texts_of_others_are_read(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = b"UNICODE\0" + INFOTEXT.encode("utf-16-be")
    for name in ("a.jpg", "a.webp"):
        gradient().save(tmp_path / name, exif=exif)
        assert read_texts(tmp_path / name) == {"parameters": INFOTEXT}
    gradient().save(tmp_path / "plain.png")
    gradient().save(tmp_path / "plain.jpg")
    assert read_texts(tmp_path / "plain.png") == read_texts(tmp_path / "plain.jpg") == {}


@pytest.mark.parametrize(
    ("name", "file_format"), [("a.png", "png"), ("a.JPG", "jpeg"), ("a.jpeg", "jpeg"), ("a.webp", "webp")]
)
def test_a_name_tells_the_format_and_the_texts_are_inside(tmp_path: Path, name: str, file_format: str) -> None:
    texts = {"parameters": INFOTEXT, "rein": '{"prompt": "naïve 雪"}'}
    assert write_image(gradient(), tmp_path / name, texts) == ()
    assert read_format(tmp_path / name) == file_format
    assert read_texts(tmp_path / name) == texts
    assert read_image(tmp_path / name).size == (37, 23)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_quality_decides_what_is_lost(tmp_path: Path) -> None:
    def loss(name: str, quality: int | None) -> float:
        write_image(gradient(), tmp_path / name, quality=quality)
        assert equal(read_image(tmp_path / name), resaved(gradient(), read_format(tmp_path / name), quality or QUALITY))
        pixels = [pil_to_tensor(image)[None] for image in (read_image(tmp_path / name), gradient())]
        return float(psnr(*pixels)[0])

    for name in ("a.jpg", "a.webp"):
        assert loss(name, 20) < loss(name, None) - 2
        assert loss(name, None) == loss(name, QUALITY) <= loss(name, 100)
    assert loss("a.webp", 100) == BEST_PSNR


def test_formats_and_qualities_that_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"quality is 90: PNG files have none"):
        write_image(gradient(), tmp_path / "a.png", quality=90)
    for quality in (0, 101):
        with pytest.raises(InputError, match="it must be a whole number from 1 to 100"):
            write_image(gradient(), tmp_path / "a.jpg", quality=quality)
    with pytest.raises(InputError, match=r"saved as \.png, \.jpg, \.jpeg or \.webp"):
        write_image(gradient(), tmp_path / "a.gif")
    with pytest.raises(InputError, match="at most 16,383 pixels a side"):
        write_image(Image.new("RGB", (16_384, 1)), tmp_path / "a.webp")
    with pytest.raises(OutputError, match="folder does not exist"):
        write_image(gradient(), tmp_path / "none" / "a.jpg")
    assert list(tmp_path.iterdir()) == []


def test_settings_too_long_for_a_jpeg_are_named_and_the_picture_is_kept(tmp_path: Path) -> None:
    texts = {"parameters": INFOTEXT, "rein": "x" * 70_000}
    assert write_image(gradient(), tmp_path / "a.jpg", texts) == ("rein",)
    assert read_texts(tmp_path / "a.jpg") == {"parameters": INFOTEXT}
    assert write_image(gradient(), tmp_path / "a.webp", texts) == ()
    assert read_texts(tmp_path / "a.webp") == texts


def test_a_picture_is_read_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    gradient(30, 20).save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").size == (20, 30)


@pytest.mark.parametrize("read", [read_image, read_texts])
def test_a_file_that_is_no_picture_is_refused_in_one_line(tmp_path: Path, read: Callable[..., object]) -> None:
    path = tmp_path / "a.png"
    gradient().save(path)
    whole = path.read_bytes()
    gradient().save(tmp_path / "a.gif")
    for contents in (b"", b"hello", whole[:40], whole[:-40], (tmp_path / "a.gif").read_bytes()):
        path.write_bytes(contents)
        with pytest.raises(DamagedFileError) as caught:
            read(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("read", [read_image, read_texts])
def test_a_picture_that_is_not_there_or_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[..., object]
) -> None:
    with pytest.raises(InputError, match="there is no picture"):
        read(tmp_path / "none.png")
    with pytest.raises(InputError, match="is a folder"):
        read(tmp_path)
    with pytest.raises(InputError, match="cannot read"):
        read(str(tmp_path / "a\0b"))
    gradient().save(tmp_path / "a.png")
    monkeypatch.setattr(image_files, "MAX_PIXELS", 100)
    with pytest.raises(InputError, match="37 x 23; up to 100 pixels"):
        read(tmp_path / "a.png")
    monkeypatch.setattr(image_files, "MAX_FILE_BYTES", 10)
    with pytest.raises(InputError, match="pictures up to 10 bytes"):
        read(tmp_path / "a.png")


@pytest.mark.parametrize("size", [(20_000, 20_000), (9_000, 10_000)])
def test_a_bomb_is_refused_by_its_header(tmp_path: Path, size: tuple[int, int]) -> None:
    gradient().save(tmp_path / "a.png")
    data = bytearray((tmp_path / "a.png").read_bytes())
    data[16:24] = size[0].to_bytes(4, "big") + size[1].to_bytes(4, "big")
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(InputError, match="pixels"):
        read_image(tmp_path / "a.png")


def test_an_unwritable_place_is_refused_and_left_clean(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a folder"):
        write_png(gradient(), tmp_path)
    with pytest.raises(OutputError, match="folder does not exist"):
        write_png(gradient(), tmp_path / "none" / "a.png")
    assert list(tmp_path.iterdir()) == []


def test_psnr_by_hand() -> None:
    real = torch.full((3, 3, 4, 4), 128 / 127.5 - 1)
    made = real.clone()
    made[1] += 2 / 255 * 3  # three levels everywhere
    made[2, :, 0, 0] = 5.0  # clipped to 1: from level 128 to 255
    values = psnr(made, real)
    assert values[0] == BEST_PSNR
    assert values[1].item() == pytest.approx(20 * math.log10(255 / 3), abs=1e-4)
    assert values[2].item() == pytest.approx(10 * math.log10(255**2 / (127**2 / 16)), abs=1e-4)
