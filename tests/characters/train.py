"""Trains the network that reads rendered characters, and writes it as ONNX with its batch norms as they are (opset 17).

    python train.py [PICTURES [EPOCHS]]      (needs numpy, pillow, torch and the fonts of render.py; about ten minutes)

A network of mobile shape: inverted bottlenecks, hard-swish, squeeze-and-excite. Pictures are [N,3,64,64] with samples 0..1; the
test pictures are other ones than those of the seed that tests use. Writes characters.onnx; fails below 95 % of 4000 pictures.
"""
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from render import CLASSES, SIZE, render

BATCH = 128


class SqueezeExcite(nn.Module):
    def __init__(self, channels):
        super().__init__()
        inner = max(8, channels // 4)
        self.reduce, self.expand = nn.Conv2d(channels, inner, 1), nn.Conv2d(inner, channels, 1)

    def forward(self, x):
        mean = functional.adaptive_avg_pool2d(x, 1)
        return x * functional.hardsigmoid(self.expand(functional.relu(self.reduce(mean))))


def conv(inputs, outputs, kernel=1, stride=1, groups=1, activation=None):
    layers = [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(outputs)]
    return layers + ([activation()] if activation else [])


class Bottleneck(nn.Module):
    def __init__(self, inputs, middle, outputs, kernel, stride, excite, activation):
        super().__init__()
        self.is_residual = stride == 1 and inputs == outputs
        self.body = nn.Sequential(
            *conv(inputs, middle, activation=activation),
            *conv(middle, middle, kernel, stride, middle, activation),
            *([SqueezeExcite(middle)] if excite else []),
            *conv(middle, outputs))

    def forward(self, x):
        return x + self.body(x) if self.is_residual else self.body(x)


def network():
    relu, swish = nn.ReLU, nn.Hardswish
    return nn.Sequential(
        *conv(3, 16, 3, 2, activation=swish),
        Bottleneck(16, 32, 24, 3, 2, False, relu),
        Bottleneck(24, 72, 24, 3, 1, False, relu),
        Bottleneck(24, 96, 40, 5, 2, True, swish),
        Bottleneck(40, 160, 40, 5, 1, True, swish),
        Bottleneck(40, 160, 64, 3, 2, True, swish),
        Bottleneck(64, 256, 64, 3, 1, True, swish),
        *conv(64, 256, activation=swish),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.1), nn.Linear(256, len(CLASSES)))


def floats(images):
    return (torch.from_numpy(images).float() / 255).contiguous(memory_format=torch.channels_last)


def right(model, images, labels):
    model.eval()
    with torch.no_grad():
        answers = torch.cat([model(floats(part)).argmax(1) for part in np.array_split(images, 20)])
    model.train()
    return (answers.numpy() == labels).mean()


def shifted(images, random):
    """Each batch moved by up to three pixels, its border repeated."""
    down, along = random.integers(0, 7, 2)
    return np.pad(images, ((0, 0), (0, 0), (3, 3), (3, 3)), "edge")[:, :, down:down + SIZE, along:along + SIZE]


def train(model, images, labels, test, epochs):
    random = np.random.default_rng(64)
    steps = epochs * (len(images) // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), 4e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, steps, pct_start=0.15)
    started = time.process_time()
    for epoch in range(epochs):
        order = random.permutation(len(images))[:len(images) // BATCH * BATCH]
        for part in order.reshape(-1, BATCH):
            scores = model(floats(shifted(images[part], random)))
            loss = functional.cross_entropy(scores, torch.from_numpy(labels[part]).long(), label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        spent = time.process_time() - started
        print(f"epoch {epoch + 1}: loss {loss.item():.3f}, {right(model, *test):.4f} right, {spent:.0f} s", flush=True)


def main(count=70_000, epochs=4):
    torch.manual_seed(64)
    torch.set_num_threads(1)
    images, labels = render(count, 1)
    test = render(4000, 2)
    model = network().to(memory_format=torch.channels_last)
    train(model, images, labels, test, epochs)
    model.eval()
    accuracy = right(model, *test)
    print(f"{accuracy:.4f} of {len(test[1])} pictures right")
    path = Path(__file__).with_name("characters.onnx")
    warnings.simplefilter("ignore")
    torch.onnx.export(model.eval(), torch.zeros(1, 3, SIZE, SIZE), str(path), opset_version=17, input_names=["image"],
                      output_names=["scores"], training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False)
    assert accuracy >= 0.95


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
