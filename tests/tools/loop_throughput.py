"""Asks llvm-mca how many multiply-adds per cycle the innermost loops of a model's aarch64 kernels reach.

    python loop_throughput.py EDGECC MODEL.onnx [--allow-size] [--cpu cortex-a55] [--core neoverse-n1 ..]

Takes the assembly that `edgecc --emit asm` writes, and of each kernel the loops without a loop inside that multiply and
add vectors of four f32. Prints, per loop, multiply-adds per iteration and multiply-adds (of one number) per cycle on each
core; the peak is 8 for cores with two units of 128 bits, 16 for neoverse-v1. Figures are those of llvm-mca-19's models, with all
data in the first-level cache. Needs `llvm-mca-19`.
"""
import argparse
import re
import subprocess
import sys

CORES = ["neoverse-n1", "neoverse-v1", "neoverse-n2", "cortex-a55", "cortex-a510"]
ITERATIONS = 100
PRODUCTS = re.compile(r"^\s*fml[as] v\d+\.4s")


def kernels(listing):
    """Kernel names and the lines of their code: a name ends in a colon and does not begin with a dot."""
    name, lines = None, []
    for line in listing.splitlines():
        heading = re.match(r"^;?\s*(?:kernel )?([a-z_]+_\d+)\b.*$", line)
        if heading and not line.startswith("  "):
            if name:
                yield name, lines
            name, lines = heading[1], []
        else:
            lines.append(line)
    if name:
        yield name, lines


def innermost_loops(lines):
    """Bodies of loops that hold no other: from a label to the branch back to it."""
    places = {}
    for place, line in enumerate(lines):
        label = re.match(r"^(\.?[A-Za-z_]*\d+):", line.strip())
        if label:
            places[label[1]] = place
        target = re.match(r"^\s*(?:b\.[a-z]+|cbnz [wx]\d+,|b) (\.?[A-Za-z_]*\d+)$", line)
        if target and target[1] in places:
            body = lines[places[target[1]] + 1:place + 1]
            if not any(re.match(r"^\.?[A-Za-z_]*\d+:", other.strip()) for other in body):
                yield [other.strip() for other in body]


def cycles(body, core):
    """Cycles of one iteration."""
    text = "\n".join(line for line in body if not line.startswith("b")) + "\n"
    command = ["llvm-mca-19", "-march=aarch64", f"-mcpu={core}", f"-iterations={ITERATIONS}"]
    report = subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout
    return int(re.search(r"Total Cycles:\s+(\d+)", report)[1]) / ITERATIONS


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("edgecc")
    parser.add_argument("model")
    parser.add_argument("--allow-size", action="store_true")
    parser.add_argument("--core", nargs="*", default=CORES)
    parser.add_argument("--cpu", default="generic", help="the processor that edgecc compiles for")
    parser.add_argument("--least-products", type=int, default=48, help="leave out loops with fewer multiply-adds of vectors")
    arguments = parser.parse_args()
    flags = ["--allow-size"] if arguments.allow_size else []
    command = [arguments.edgecc, arguments.model, "--target", "aarch64", "--emit", "asm", "--cpu", arguments.cpu, *flags]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    print(f"{'kernel':<20} {'products':>8} {'others':>7}", *(f"{core:>12}" for core in arguments.core))
    seen = set()
    for name, lines in kernels(listing):
        for body in innermost_loops(lines):
            products = sum(bool(PRODUCTS.match(line)) for line in body)
            if products < arguments.least_products or tuple(body) in seen:
                continue
            seen.add(tuple(body))
            rates = [4 * products / cycles(body, core) for core in arguments.core]
            print(f"{name:<20} {products:>8} {len(body) - products:>7}", *(f"{rate:>12.2f}" for rate in rates), flush=True)
    if not seen:
        sys.exit("no loop of multiply-adds found")


if __name__ == "__main__":
    main()
