"""Asks llvm-mca how near the hot loops of a model's aarch64 kernels come to the peak of the multiply-add units.

    python loop_throughput.py EDGECC MODEL.onnx [--allow-size] [--precision fp16] [--cpu cortex-a55] [--core neoverse-n1 ..]

Takes the assembly that `edgecc --emit asm` writes, and of each kernel the loops without a loop inside that multiply and
add vectors. Prints, per loop, how often it runs where constants before it and around it tell (`trips`), multiply-adds of
vectors and other instructions of an iteration, and per core the multiply-adds of numbers in a cycle and the part of the peak
that they are. The last lines are the same of each kernel and of all, each loop weighted by its multiply-adds. The peak is two
vectors a cycle, four on neoverse-v1. Figures are those of llvm-mca-19's models, with all data in the first-level cache. Needs
`llvm-mca-19`.
"""
import argparse
import re
import subprocess
import sys

CORES = ["neoverse-n1", "neoverse-v1", "neoverse-n2", "cortex-a55", "cortex-a510"]
ITERATIONS = 100
PRODUCTS = re.compile(r"^fml[as] v\d+\.(4s|8h)")
LABEL = re.compile(r"^(\.?[A-Za-z_]*\d+):")
JUMP = re.compile(r"^(?:b\.[a-z]+|cbn?z [wx]\d+,|b) (\.?[A-Za-z_]*\d+)$")


def peak(core):
    """Vectors of multiply-adds in a cycle."""
    return 4 if core == "neoverse-v1" else 2


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
            lines.append(line.strip())
    if name:
        yield name, lines


def loops(lines):
    """First and last line of every loop: from a label to a jump back to it."""
    places = {}
    for place, line in enumerate(lines):
        if label := LABEL.match(line):
            places[label[1]] = place
        target = JUMP.match(line)
        if target and target[1] in places:
            yield places[target[1]], place


def iterations(lines, begin, end):
    """Iterations of a loop that counts a constant down; None where it is not one."""
    counters = [re.match(r"^subs (x\d+), \1, #1$", line) for line in lines[begin:end]]
    counter = next((match[1] for match in reversed(counters) if match), None)
    if counter is None:
        return None
    for line in reversed(lines[:begin]):
        if constant := re.match(rf"^movz {counter}, #(\d+), lsl #0$", line):
            return int(constant[1])
        if re.match(rf"^(?:\w+ {counter},|ldp .*\b{counter},)", line):
            return None
    return None


def hot_loops(lines, least_products):
    """Of the loops without a loop inside: their trips, and the instructions of one iteration."""
    every = list(loops(lines))
    for begin, end in every:
        body = [line for line in lines[begin + 1:end + 1] if not LABEL.match(line)]
        has_inner = any(begin < other and last < end for other, last in every)
        products = sum(bool(PRODUCTS.match(line)) for line in body)
        if not has_inner and products >= least_products:
            around = [each for each in every if each[0] <= begin and end <= each[1]]
            trips = 1
            for each in around:
                trips *= iterations(lines, *each) or 1
            yield trips, body


def cycles(bodies, core):
    """Cycles of one iteration of each body."""
    text = ""
    for number, body in enumerate(bodies):
        instructions = [line for line in body if not line.startswith(("b", "cb"))]
        text += f"# LLVM-MCA-BEGIN {number}\n" + "\n".join(instructions) + f"\n# LLVM-MCA-END {number}\n"
    command = ["llvm-mca-19", "-march=aarch64", f"-mcpu={core}", "-mattr=+fullfp16", f"-iterations={ITERATIONS}"]
    command += ["-resource-pressure=false", "-instruction-info=false"]
    report = subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout
    return [int(total) / ITERATIONS for total in re.findall(r"Total Cycles:\s+(\d+)", report)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("edgecc")
    parser.add_argument("model")
    parser.add_argument("--allow-size", action="store_true")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--core", nargs="*", default=CORES)
    parser.add_argument("--cpu", default="generic", help="the processor that edgecc compiles for")
    parser.add_argument("--least-products", type=int, default=16, help="leave out loops with fewer multiply-adds of vectors")
    arguments = parser.parse_args()
    flags = ["--allow-size"] if arguments.allow_size else []
    flags += ["--precision", arguments.precision, "--cpu", arguments.cpu]
    command = [arguments.edgecc, arguments.model, "--target", "aarch64", "--emit", "asm", *flags]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    hot = [(name, trips, body) for name, lines in kernels(listing)
           for trips, body in hot_loops(lines, arguments.least_products)]
    if not hot:
        sys.exit("no loop of multiply-adds found")
    bodies = [body for _, _, body in hot]
    taken = {core: cycles(bodies, core) for core in arguments.core}
    print(f"{'kernel':<16} {'trips':>9} {'products':>8} {'others':>7}", *(f"{core:>14}" for core in arguments.core))
    sums = {}
    for place, (name, trips, body) in enumerate(hot):
        products = sum(bool(PRODUCTS.match(line)) for line in body)
        lanes = 8 if any(".8h" in line for line in body if PRODUCTS.match(line)) else 4
        figures = []
        for core in arguments.core:
            vectors = products / taken[core][place]
            figures.append(f"{lanes * vectors:>7.2f} {vectors / peak(core):>5.0%} ")
            for kernel in (name, "all"):
                sums.setdefault(kernel, {}).setdefault(core, [0, 0])
                sums[kernel][core][0] += trips * products
                sums[kernel][core][1] += trips * taken[core][place]
        print(f"{name:<16} {trips:>9} {products:>8} {len(body) - products:>7}", *figures)
    sums["all"] = sums.pop("all")
    for name, by_core in sums.items():
        shares = (products / spent / peak(core) for core, (products, spent) in by_core.items())
        print(f"{name:<42} ", *(f"{share:>13.1%} " for share in shares))


if __name__ == "__main__":
    main()
