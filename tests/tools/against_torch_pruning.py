"""Compares the groups of channels that edgecc prunes together with those of torch-pruning, on networks of torchvision.

    python against_torch_pruning.py GROUPS NETWORK ..

GROUPS is the program of `cargo build -p edgecc-tests --example groups`. Needs torch, torchvision, onnx and torch-pruning. A group
is the set of convolutions and dense layers whose results have its channels. Prints for each network how many groups both have
alike, and each group that only one of them has; ends with 1 where there is one. A network that torch-pruning fails on is said.
"""
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import torch
import torch_pruning
import torchvision

MADE_BY = (torch.nn.Conv2d, torch.nn.Linear)


def module_of(node):
    """The module that an exported node stands for: `/features/features.0/features.0.0/Conv` is `features.0.0`."""
    scopes = [scope for scope in node.split("/")[:-1] if scope]
    full = ""
    for scope in scopes:
        # A module in a sequence is named with what is around it, where that is a sequence too.
        around = full.split(".")
        begins = [at for at in range(len(around)) if scope.startswith(".".join(around[at:]) + ".")]
        full = ".".join(around[: begins[0]] + [scope]) if full and begins else f"{full}.{scope}".strip(".")
    return full


def groups_of_edgecc(program, network, example):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        ports = {"input_names": ["x"], "output_names": ["y"]}
        torch.onnx.export(network, (example,), str(path), opset_version=17, dynamo=False, **ports)
        lines = subprocess.run([program, path], check=True, capture_output=True, text=True).stdout.splitlines()
    groups = set()
    for line in lines:
        width, *names = line.split()
        groups.add((int(width), frozenset(map(module_of, names))))
    return groups


def groups_of_torch_pruning(network, example):
    graph = torch_pruning.DependencyGraph().build_dependency(network, example_inputs=example)
    names = {module: name for name, module in network.named_modules()}
    makers_out = (torch_pruning.prune_conv_out_channels, torch_pruning.prune_linear_out_channels,
                  torch_pruning.prune_depthwise_conv_out_channels)
    # What makes the network's output stays whole.
    ignored = [module for module in network.modules() if isinstance(module, MADE_BY)][-1:]
    groups = set()
    for group in graph.get_all_groups(ignored_layers=ignored, root_module_types=list(MADE_BY)):
        makers, width = set(), 0
        for dependency, indices in group:
            module = dependency.target.module
            if isinstance(module, MADE_BY) and dependency.handler in makers_out:
                makers.add(names[module])
                width = max(width, len(indices))
        groups.add((width, frozenset(makers)))
    return groups


def main():
    program, *networks = sys.argv[1:]
    differ = False
    for name in networks:
        warnings.filterwarnings("ignore")
        torch.manual_seed(7)
        arguments = {"aux_logits": False, "init_weights": True} if name == "inception_v3" else {}
        network = getattr(torchvision.models, name)(weights=None, **arguments).eval()
        example = torch.randn(1, 3, *([299, 299] if name == "inception_v3" else [224, 224]))
        own = groups_of_edgecc(program, network, example)
        try:
            theirs = groups_of_torch_pruning(network, example)
        except Exception as error:
            print(f"{name:<20} {len(own)} groups of edgecc; torch-pruning fails: {type(error).__name__}: {error}")
            continue
        print(f"{name:<20} {len(own & theirs)} groups alike", flush=True)
        for title, groups in (("edgecc", own - theirs), ("torch-pruning", theirs - own)):
            for width, makers in sorted(groups, key=lambda group: sorted(group[1])):
                print(f"    {title} alone: {width} channels of {', '.join(sorted(makers))}")
                differ = True
    sys.exit(differ)


if __name__ == "__main__":
    main()
