"""Pictures of a folder by number: what training reads."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from rein.data import pictures as module
from rein.data.colour_spaces import ColourSpace
from rein.data.entries import Reading
from rein.data.pictures import PictureOptions, open_pictures
from rein.errors import InputError
from tests.data.gathered import bytes_of, painted, save_collection


def test_pixels_captions_and_buckets(tmp_path: Path) -> None:
    found = open_pictures(save_collection(tmp_path), 48)
    assert len(found) == 3
    assert [found.name(index) for index in range(3)] == ["0.png", "1.png", "2.png"]
    assert [found.bucket(index) for index in range(3)] == [(48, 48), (64, 32), (40, 56)]
    assert found.captions(1) == ("picture 1", "the same again")
    for index in range(3):
        width, height = found.bucket(index)
        assert found.pixels(index).shape == (height, width, 3)
        assert found.pixels(index).dtype == np.uint8
        assert found.mask(index) is None
    assert (found.pixels(0) == np.asarray(painted(48, 48, 0))).all()
    assert found.buckets() == {(40, 56): (2,), (48, 48): (0,), (64, 32): (1,)}
    assert found.skipped == ()


def test_square_pictures(tmp_path: Path) -> None:
    found = open_pictures(save_collection(tmp_path), 48, PictureOptions(buckets=False))
    assert {found.pixels(index).shape for index in range(3)} == {(48, 48, 3)}


def test_masks_from_files_and_from_transparency(tmp_path: Path) -> None:
    save_collection(tmp_path, [(96, 48), (48, 48)])
    half = np.zeros((48, 96), np.uint8)
    half[:, 48:] = 255
    Image.fromarray(half).resize((48, 24), Image.Resampling.NEAREST).save(tmp_path / "0-masklabel.png")
    clear = painted(48, 48, 1).convert("RGBA")
    clear.putalpha(Image.fromarray(half[:, 24:72]))
    clear.save(tmp_path / "1.png")
    plain = open_pictures(tmp_path, 48)
    mask = plain.mask(0)
    assert mask is not None and mask.shape == (32, 64)
    assert (mask[:, :30] == 0).all() and (mask[:, 34:] == 255).all()
    assert plain.mask(1) is None
    by_alpha = open_pictures(tmp_path, 48, PictureOptions(alpha_masks=True)).mask(1)
    assert by_alpha is not None
    assert (by_alpha == half[:, 24:72]).all()


def test_the_fingerprint_is_of_content_and_options(tmp_path: Path) -> None:
    folder = save_collection(tmp_path / "a")
    one = open_pictures(folder, 48)
    again = open_pictures(shutil.copytree(folder, tmp_path / "b"), 48)
    assert one.fingerprint == again.fingerprint
    others = [
        open_pictures(folder, 40),
        open_pictures(folder, 48, PictureOptions(crop="smart")),
        open_pictures(folder, 48, PictureOptions(buckets=False)),
        one.subset([0, 1]),
    ]
    (tmp_path / "b" / "1.txt").write_text("other words")
    reworded = open_pictures(tmp_path / "b", 48)
    painted(96, 48, 77).save(tmp_path / "b" / "1.png")
    others += [reworded, open_pictures(tmp_path / "b", 48)]
    assert len({one.fingerprint, *(other.fingerprint for other in others)}) == 7
    assert [reworded.key(index) == one.key(index) for index in range(3)] == [True] * 3  # words change no pixels
    assert [others[-1].key(index) == one.key(index) for index in range(3)] == [True, False, True]


def test_what_cannot_be_used_is_named(tmp_path: Path) -> None:
    save_collection(tmp_path, [(48, 48)] * 3)
    good = bytes_of(painted(48, 48, 1))
    (tmp_path / "1.png").write_bytes(good[: len(good) // 2])
    painted(20, 60, 1).save(tmp_path / "2.png")
    (tmp_path / "3.jpg").write_bytes(b"no picture")
    Image.new("1", (9000, 9000)).save(tmp_path / "bomb.png")
    assert (tmp_path / "bomb.png").stat().st_size < 20_000
    found = open_pictures(tmp_path, 48)
    assert len(found) == 1
    reasons = {entry.name: entry.reason for entry in found.skipped}
    assert "9000 x 9000; up to 67108864 pixels are read" in reasons["bomb.png"]
    assert "truncated" in reasons["1.png"]
    assert reasons["2.png"] == "20 x 60 pixels: its short side must have 24 or more"
    assert "not a PNG, JPEG or WebP picture" in reasons["3.jpg"]
    assert len(open_pictures(tmp_path, 48, PictureOptions(minimum=1))) == 2


def test_a_folder_without_usable_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no folder"):
        open_pictures(tmp_path / "none", 48)
    with pytest.raises(InputError, match="there are no pictures in"):
        open_pictures(tmp_path, 48)
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"can be used, 1 were left out: a\.png"):
        open_pictures(tmp_path, 48)
    with pytest.raises(InputError, match="say at which size"):
        open_pictures(tmp_path)


def test_turned_pictures_are_read_as_they_look(tmp_path: Path) -> None:
    image = painted(64, 48, 4)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    image.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    found = open_pictures(tmp_path, 48)
    assert found.bucket(0) == (40, 56)
    turned = np.asarray(image.transpose(Image.Transpose.ROTATE_270).resize((40, 56)), int)
    assert np.abs(found.pixels(0).astype(int) - turned).mean() < 12


def test_a_profile_changes_the_colours_and_a_broken_one_does_not(tmp_path: Path) -> None:
    """The profile of sRGB changes nothing; one whose red and blue are exchanged does."""
    image = painted(48, 48, 4)
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    red, blue = own.index(b"rXYZ"), own.index(b"bXYZ")
    swapped = bytearray(own)
    swapped[red : red + 4], swapped[blue : blue + 4] = own[blue : blue + 4], own[red : red + 4]
    for name, profile in (("0", own), ("1", bytes(swapped)), ("2", b"nonsense")):
        image.save(tmp_path / f"{name}.png", icc_profile=profile)
    found = open_pictures(tmp_path, 48)
    plain = np.asarray(image, int)
    assert np.abs(found.pixels(0).astype(int) - plain).max() <= 1
    assert (found.pixels(2) == plain).all()
    assert np.abs(found.pixels(1).astype(int) - plain).mean() > 20


@pytest.mark.parametrize("space", ["srgb", "linear", "lab"])
def test_normalised_values(tmp_path: Path, space: ColourSpace) -> None:
    found = open_pictures(save_collection(tmp_path), 48)
    everything = np.concatenate([found.normalised(index, space).reshape(-1, 3) for index in range(3)])
    assert np.abs(everything.mean(axis=0)).max() < 1e-4
    assert np.abs(everything.std(axis=0) - 1).max() < 1e-4


def test_a_part_kept_back_stays_the_same_when_pictures_are_added(tmp_path: Path) -> None:
    save_collection(tmp_path, [(16, 16)] * 40)
    most, held = open_pictures(tmp_path, 16).split(0.25)
    assert len(most) + len(held) == 40
    assert 3 <= len(held) <= 18
    names = {held.name(index) for index in range(len(held))}
    painted(16, 16, 999).save(tmp_path / "new.png")
    shutil.copy(tmp_path / next(iter(names)), tmp_path / "twin.png")
    _, again = open_pictures(tmp_path, 16).split(0.25)
    found = {again.name(index) for index in range(len(again))}
    assert names | {"twin.png"} <= found <= names | {"twin.png", "new.png"}


def test_pixels_are_kept_in_memory_up_to_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_BYTES", 3 * 48 * 48)
    found = open_pictures(save_collection(tmp_path, [(48, 48)] * 2), 48)
    assert found.pixels(0) is found.pixels(0)
    assert found.pixels(1) is not found.pixels(1)
    assert (found.pixels(1) == found.pixels(1)).all()


def test_captions_in_another_encoding(tmp_path: Path) -> None:
    save_collection(tmp_path, [(48, 48)])
    (tmp_path / "0.txt").write_bytes("für".encode("cp1252"))
    options = PictureOptions(reading=Reading("cp1252"))
    assert open_pictures(tmp_path, 48, options).captions(0) == ("für",)


def test_sixteen_bit_and_grey_pictures(tmp_path: Path) -> None:
    levels = (np.arange(48 * 48).reshape(48, 48) * 28).astype(np.uint16)
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, "PNG")
    (tmp_path / "deep.png").write_bytes(buffer.getvalue())
    painted(48, 48, 1).convert("L").save(tmp_path / "grey.png")
    found = open_pictures(tmp_path, 48)
    assert np.abs(found.pixels(0)[..., 0].astype(int) - np.rint(levels / 257).astype(int)).max() <= 1
    assert (found.pixels(1)[..., 0] == found.pixels(1)[..., 2]).all()
