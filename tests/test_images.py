from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from carryover.data.images import Encoded, Images, decode
from carryover.data.transforms import normalise, resize, to_rgb
from carryover.errors import DataError
from image_files import encoded, picture


def raw_images() -> Images:
    return Images(
        labels=torch.tensor([2, 0, 1, 2, 0]),
        class_names=("a", "b", "c"),
        ids=torch.tensor([7, 8, 9, 10, 11]),
        columns={"domain": ["p", "q", "r", "s", "t"]},
        digest="d",
        pixels=torch.arange(5 * 4, dtype=torch.uint8).reshape(5, 1, 2, 2),
    )


def encoded_images(*contents: bytes, channels: int = 1) -> Images:
    blob = torch.frombuffer(bytearray(b"".join(contents)), dtype=torch.uint8)
    ends = torch.tensor([len(content) for content in contents]).cumsum(0)
    starts = torch.cat([ends.new_zeros(1), ends[:-1]])
    count = len(contents)
    return Images(
        labels=torch.arange(count),
        class_names=tuple("abcdefgh"[:count]),
        ids=torch.arange(count),
        columns={},
        digest="d",
        pixels=Encoded((blob,), torch.stack([torch.zeros_like(ends), starts, ends], 1), channels),
    )


def test_floats_lie_in_0_to_1_and_keep_the_grey_channel() -> None:
    x = raw_images().floats(torch.tensor([4, 0]))
    assert x.shape == (2, 1, 2, 2)
    assert torch.equal(x[0].flatten(), torch.tensor([16.0, 17.0, 18.0, 19.0]) / 255)


def test_select_keeps_order_ids_and_columns_and_has_its_own_digest() -> None:
    chosen = raw_images().select(torch.tensor([3, 1]))
    assert len(chosen) == 2
    assert chosen.labels.tolist() == [2, 0]
    assert chosen.ids.tolist() == [10, 8]
    assert chosen.columns == {"domain": ["s", "q"]}
    assert isinstance(chosen.pixels, Tensor)
    assert chosen.pixels[:, 0, 0, 0].tolist() == [12, 4]
    other = raw_images().select(torch.tensor([1, 3]))
    assert len({chosen.digest, other.digest, "d"}) == 3


def test_of_classes_keeps_file_order_and_numbers_classes_by_sorted_id() -> None:
    kept = raw_images().of_classes([2, 0])
    assert kept.labels.tolist() == [1, 0, 1, 0]
    assert kept.ids.tolist() == [7, 8, 10, 11]
    assert kept.class_names == ("a", "c")
    assert kept.digest == raw_images().of_classes([0, 2, 2]).digest


def test_of_classes_names_a_class_outside_the_data() -> None:
    with pytest.raises(DataError, match=r"expected classes among 0\.\.2, got 12, 13; name"):
        raw_images().of_classes([1, 12, 13])
    with pytest.raises(DataError, match=r"expected classes among 0\.\.2, got none"):
        raw_images().of_classes([])


def test_of_classes_names_a_class_without_images_in_this_split() -> None:
    split = raw_images().select(torch.tensor([0, 1]))
    with pytest.raises(DataError, match="found none of class 1 \\('b'\\) in this split"):
        split.of_classes([0, 1])


def test_encoded_images_decode_on_access_also_after_select() -> None:
    first, second = picture(0), picture(1)
    images = encoded_images(encoded(first), encoded(second)).select(torch.tensor([1]))
    assert torch.equal(images.image(0)[0], torch.from_numpy(np.array(second)))
    assert torch.equal(images.floats(torch.tensor([0])), images.image(0)[None].float() / 255)


def test_grey_images_of_a_colour_set_become_rgb() -> None:
    images = encoded_images(encoded(picture(0)), encoded(picture(1, "RGB")), channels=3)
    x = images.floats(torch.arange(2))
    assert x.shape == (2, 3, 6, 6)
    assert torch.equal(x[0, 0], x[0, 2])


def test_floats_of_mixed_sizes_need_a_size() -> None:
    images = encoded_images(encoded(picture(0, size=(8, 6))), encoded(picture(1, size=(6, 6))))
    with pytest.raises(DataError, match="expected images of one size, got 6x6, 6x8 px"):
        images.floats(torch.arange(2))
    assert images.floats(torch.arange(2), size=4).shape == (2, 1, 4, 4)


@pytest.mark.parametrize(
    ("mode", "channels"), [("1", 1), ("L", 1), ("LA", 1), ("P", 3), ("RGB", 3), ("RGBA", 3)]
)
def test_decode_gives_grey_or_rgb_for_every_png_mode(mode: str, channels: int) -> None:
    image = decode(encoded(picture(0, mode)), "x")
    assert image.dtype == torch.uint8
    assert image.shape == (channels, 6, 6)


def test_decode_keeps_the_pixels_of_rgb_and_turns_cmyk_into_it() -> None:
    values = torch.from_numpy(np.array(picture(0, "RGB"))).permute(2, 0, 1)
    assert torch.equal(decode(encoded(picture(0, "RGB")), "x"), values)
    red = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    pixel = decode(encoded(red, "TIFF"), "x")[:, 4, 4]
    assert pixel.tolist() == [255, 0, 0]


def test_decode_scales_16_bits_to_8_by_257() -> None:
    values = np.array([[0, 257, 65535], [128, 129, 32896]], dtype=np.uint16)
    image = decode(encoded(Image.fromarray(values)), "x")
    assert image[0].tolist() == [[0, 1, 255], [0, 1, 128]]
    wide = decode(encoded(Image.fromarray(values.astype(np.int32)), "TIFF"), "x")
    assert torch.equal(wide, image)


def test_decode_refuses_values_beyond_16_bits() -> None:
    wide = Image.fromarray(np.array([[0, 70000]], dtype=np.int32))
    with pytest.raises(DataError, match=r"values 0\.\.70000 are not of 16 bits"):
        decode(encoded(wide, "TIFF"), "x")


def test_decode_lays_transparency_over_white() -> None:
    clear_red = encoded(Image.new("RGBA", (2, 2), (255, 0, 0, 0)))
    assert decode(clear_red, "x").unique().tolist() == [255]
    half_black = encoded(Image.new("LA", (2, 2), (0, 128)))
    assert decode(half_black, "x").unique().tolist() == [127]
    palette = Image.new("P", (2, 2), 0)
    palette.putpalette([9, 9, 9])
    assert decode(encoded(palette, transparency=0), "x").unique().tolist() == [255]
    grey = encoded(Image.new("L", (2, 2), 5), transparency=5)
    assert decode(grey, "x").unique().tolist() == [255]


@pytest.mark.parametrize(("kind", "mode"), [("JPEG", "RGB"), ("PNG", "L")])
def test_decode_applies_the_orientation_tag(kind: str, mode: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise
    turned = decode(encoded(Image.new(mode, (16, 8)), kind, exif=exif), "x")
    assert turned.shape[1:] == (16, 8)


def test_decode_names_a_damaged_image() -> None:
    content = encoded(picture(0, "RGB", (40, 40)))
    for damaged in (content[: len(content) // 2], b"no image at all", b""):
        with pytest.raises(DataError, match=r"cats/3\.png: expected an image that decodes, got"):
            decode(damaged, "cats/3.png")


def test_decode_refuses_formats_that_start_a_program() -> None:
    eps = io.BytesIO()
    Image.new("L", (2, 2)).save(eps, "EPS")
    with pytest.raises(DataError, match="expected an image that decodes"):
        decode(eps.getvalue(), "x")


@pytest.mark.parametrize("side", [9000, 10000, 20000])
def test_decode_refuses_a_decompression_bomb_by_name(side: int) -> None:
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    bomb = b"\x89PNG\r\n\x1a\n" + chunk + b"\0\0\0\0IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    with pytest.raises(DataError, match="cats/bomb: expected an image of at most 67,108,864"):
        decode(bomb, "cats/bomb")


def test_resize_scales_the_shorter_side_and_crops_the_centre() -> None:
    x = torch.zeros(1, 1, 4, 8)
    x[..., 2:6] = 1
    assert torch.equal(resize(x, 4), torch.ones(1, 1, 4, 4))
    assert resize(torch.rand(2, 3, 10, 7), 5).shape == (2, 3, 5, 5)
    flat = torch.full((1, 3, 9, 9), 0.25)
    assert torch.allclose(resize(flat, 4), torch.full((1, 3, 4, 4), 0.25))


def test_normalise_and_to_rgb() -> None:
    x = torch.tensor([0.0, 0.5, 1.0]).reshape(1, 1, 1, 3)
    assert normalise(x, [0.5], [0.5]).flatten().tolist() == [-1.0, 0.0, 1.0]
    three = normalise(to_rgb(x), [0.0, 0.5, 1.0], [1.0, 0.5, 2.0])
    assert three[0, :, 0, 2].tolist() == [1.0, 1.0, 0.0]
