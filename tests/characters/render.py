"""Renders characters in colour, as a camera may see them: in perspective, blurred, noisy, before all kinds of backgrounds.

    python render.py COUNT SEED FILE.npz        (needs numpy, pillow and the Debian packages in PACKAGES)

Writes `images` (u8, [COUNT,3,64,64]) and `labels` (u8, places in CLASSES). Every picture is drawn from the seed and its own number
alone. Ends with status 3, and one line, where a font is missing.
"""
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

# Characters that cannot be told apart without their neighbours are one class.
CLASSES = ("0Oo 1 2 3 4 5 6 7 8 9 A B Cc D E F G H Il J Kk L M N Pp Q R Ss T Uu Vv Ww Xx Yy Zz "
           "a b d e f g h i j m n q r t").split()
PACKAGES = "fonts-cabin fonts-dejavu-core fonts-freefont-ttf fonts-liberation fonts-open-sans"
FOLDER = Path("/usr/share/fonts")
FONTS = """
truetype/dejavu/DejaVuSans-Bold truetype/dejavu/DejaVuSans truetype/dejavu/DejaVuSansMono-Bold truetype/dejavu/DejaVuSansMono
truetype/dejavu/DejaVuSerif-Bold truetype/dejavu/DejaVuSerif
truetype/freefont/FreeMonoBold truetype/freefont/FreeMono truetype/freefont/FreeSansBold truetype/freefont/FreeSansOblique
truetype/freefont/FreeSans truetype/freefont/FreeSerifBold truetype/freefont/FreeSerifItalic truetype/freefont/FreeSerif
truetype/liberation/LiberationMono-Bold truetype/liberation/LiberationMono-Regular truetype/liberation/LiberationSans-Bold
truetype/liberation/LiberationSans-Italic truetype/liberation/LiberationSans-Regular
truetype/liberation/LiberationSansNarrow-Bold truetype/liberation/LiberationSansNarrow-Regular
truetype/liberation/LiberationSerif-Bold truetype/liberation/LiberationSerif-Italic truetype/liberation/LiberationSerif-Regular
truetype/open-sans/OpenSans-Bold truetype/open-sans/OpenSans-CondBold truetype/open-sans/OpenSans-Light
truetype/open-sans/OpenSans-Regular
opentype/cabin/Cabin-Bold opentype/cabin/Cabin-Italic opentype/cabin/Cabin-Regular
""".split()
SIZE = 64


def fonts():
    """Each font at the size of a character in a mask."""
    def load(name):
        path = next((path for path in (FOLDER / f"{name}.ttf", FOLDER / f"{name}.otf") if path.exists()), None)
        if path is None:
            print(f"no font {name}: apt-get install {PACKAGES}")
            sys.exit(3)
        return ImageFont.truetype(str(path), 88)
    return [load(name) for name in FONTS]


def perspective(random):
    """The eight numbers of Pillow's perspective that bring corners, each moved by itself, of a turned square to a picture's."""
    angle, side = np.radians(random.uniform(-14, 14)), random.uniform(46, 68)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * side
    source = corners @ turn.T + random.uniform(-0.16, 0.16, (4, 2)) * side + 64 + random.uniform(-8, 8, 2)
    target = np.array([[0, 0], [SIZE, 0], [SIZE, SIZE], [0, SIZE]], float)
    rows, wanted = [], []
    for (x, y), (u, v) in zip(target, source):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        wanted += [u, v]
    return np.linalg.solve(rows, wanted)


def background(random):
    """[64,64,3], 0..255: one colour, a gradient, soft spots, or shapes."""
    kind = random.integers(4)
    first, second = random.uniform(0, 255, (2, 3))
    if kind == 0:
        return np.broadcast_to(first, (SIZE, SIZE, 3))
    if kind == 1:
        direction = random.normal(0, 1, 2)
        share = (np.mgrid[:SIZE, :SIZE] * direction[:, None, None]).sum(0)
        share = (share - share.min()) / max(np.ptp(share), 1e-6)
        return first + (second - first) * share[..., None] * 0.7
    if kind == 2:
        spots = np.clip(first + random.normal(0, 35, (6, 6, 3)), 0, 255).astype(np.uint8)
        return np.asarray(Image.fromarray(spots).resize((SIZE, SIZE), Image.BICUBIC), float)
    picture = Image.new("RGB", (SIZE, SIZE), tuple(first.astype(int)))
    draw = ImageDraw.Draw(picture)
    for _ in range(random.integers(2, 7)):
        colour = tuple(np.clip(first + random.normal(0, 45, 3), 0, 255).astype(int))
        x, y = random.integers(-16, SIZE, 2)
        width, height = random.integers(8, 48, 2)
        [draw.rectangle, draw.ellipse][random.integers(2)]([x, y, x + width, y + height], fill=colour)
    return np.asarray(picture, float)


def ink(random, behind):
    """A colour that differs from the mean of what is behind it."""
    mean = behind.mean((0, 1))
    while True:
        colour = random.uniform(0, 255, 3)
        if abs((colour - mean) @ (0.3, 0.59, 0.11)) > 60:
            return colour


def picture(random, faces):
    """[3,64,64] u8 and its class."""
    label = random.integers(len(CLASSES))
    character = CLASSES[label][random.integers(len(CLASSES[label]))]
    face = faces[random.integers(len(faces))]
    mask = Image.new("L", (128, 128))
    ImageDraw.Draw(mask).text((64, 64), character, fill=255, font=face, anchor="mm")
    mask = mask.transform((SIZE, SIZE), Image.PERSPECTIVE, perspective(random), Image.BICUBIC)
    behind = background(random)
    share = np.asarray(mask, float)[..., None] / 255
    colours = behind + (ink(random, behind) - behind) * share
    whole = Image.fromarray(np.clip(colours, 0, 255).astype(np.uint8)).filter(
        ImageFilter.GaussianBlur(max(0.0, random.uniform(-0.5, 1.8))))
    noisy = np.asarray(whole, float) + random.normal(0, random.uniform(0, 18), (SIZE, SIZE, 3))
    return np.clip(noisy, 0, 255).round().astype(np.uint8).transpose(2, 0, 1), label


def render(count, seed):
    """`count` pictures with their classes."""
    faces = fonts()
    images, labels = np.empty((count, 3, SIZE, SIZE), np.uint8), np.empty(count, np.uint8)
    for place in range(count):
        images[place], labels[place] = picture(np.random.default_rng([seed, place]), faces)
    return images, labels


if __name__ == "__main__":
    images, labels = render(int(sys.argv[1]), int(sys.argv[2]))
    np.savez(sys.argv[3], images=images, labels=labels)
