"""Cuts pictures into crops, seeded: FOLDER KIND COUNT SEED HEIGHT WIDTH OUT.npz

KIND is `scenes` (parts of all pictures of the folder), `faces` (around the astronaut's face, and small grey faces of
lfw_subset.npy) or `text` (parts of the printed pages). Crops are a third of a picture or more, of about the wanted shape, some of
them mirrored and brighter or darker. `images` is f32 [COUNT,3,HEIGHT,WIDTH], red first, 0..255.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

SCENES = ["astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "china.jpg", "flower.jpg"]
TEXTS = ["page.png", "text.png"]
# Left, top, right and bottom of the face in astronaut.png.
FACE = (176, 60, 272, 176)


def part(random, picture, shape):
    """A part of the shape, within a fifth, from a third of the picture on."""
    ratio = shape[1] / shape[0] * random.uniform(0.85, 1.2)
    width, height = picture.size
    largest = min(height, width / ratio)
    down = largest * random.uniform(0.35, 1)
    left, top = random.uniform(0, width - down * ratio), random.uniform(0, height - down)
    return picture.crop((round(left), round(top), round(left + down * ratio), round(top + down)))


def face(random, folder):
    if random.uniform() < 0.5:
        faces = np.load(folder / "lfw_subset.npy")[:100]
        small = faces[random.integers(len(faces))]
        return Image.fromarray((small * 255).astype(np.uint8)).convert("RGB")
    picture = Image.open(folder / "astronaut.png").convert("RGB")
    left, top, right, bottom = FACE
    side = (bottom - top) * random.uniform(1.2, 2)
    x, y = (left + right) / 2 + random.uniform(-12, 12), (top + bottom) / 2 + random.uniform(-12, 12)
    turned = picture.rotate(random.uniform(-12, 12), Image.BICUBIC, center=(x, y))
    return turned.crop((round(x - side / 2), round(y - side / 2), round(x + side / 2), round(y + side / 2)))


def crop(random, folder, kind, shape):
    if kind == "faces":
        picture = face(random, folder)
    else:
        names = SCENES if kind == "scenes" else TEXTS
        picture = part(random, Image.open(folder / names[random.integers(len(names))]).convert("RGB"), shape)
    if kind != "text" and random.uniform() < 0.5:
        picture = picture.transpose(Image.FLIP_LEFT_RIGHT)
    pixels = np.asarray(picture.resize(shape[::-1], Image.BILINEAR), np.float32)
    return np.clip(pixels * random.uniform(0.75, 1.2), 0, 255).transpose(2, 0, 1)


folder, kind, count, seed, height, width, out = sys.argv[1:]
random = np.random.default_rng(int(seed))
crops = [crop(random, Path(folder), kind, (int(height), int(width))) for _ in range(int(count))]
np.savez(out, images=np.stack(crops))
