"""Ten denoising calls over a prefix: its memory rewound, its memory copied at each call, or the prefix read anew.

    python benchmarks/memory_speed.py [--prefix 512] [--suffix 50] [--width 512] [--layers 8] [--threads 1]

An action expert's stream (gated units, norms by size, two heads of keys and values, rotary positions) without its
inputs and head, batch 1, gradients off. One JSON line: processor milliseconds of ten calls each way (medians of rounds
that take turns), and how many times faster the rewound memory is.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import torch

from nextmove.contracts import KeyValue, Memory
from nextmove.nn.attention import Heads
from nextmove.nn.block import Block
from nextmove.nn.feedforward import GatedMlp
from nextmove.nn.mask import block_mask
from nextmove.nn.norm import RmsNorm
from nextmove.nn.rope import Rotary
from nextmove.nn.stream import Stream

CALLS, ROUNDS = 10, 9


@torch.no_grad()
def main() -> None:
    """The three ways in turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("prefix", 512), ("suffix", 50), ("width", 512), ("layers", 8), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    norm = RmsNorm()
    block = Block(options.width, Heads(8, 2, bias=False, out_bias=False), GatedMlp(), norm)
    net = Stream([block] * options.layers, norm=norm, rotary=Rotary()).eval()
    prefix, suffix = (torch.randn(1, n, options.width) for n in (options.prefix, options.suffix))
    memory = net(prefix)[1]
    assert memory is not None
    whole = torch.ones(1, options.prefix + options.suffix, dtype=torch.bool)
    mask = block_mask(whole, torch.arange(whole.shape[1]).ge(options.prefix).long())

    def rewound() -> torch.Tensor:
        return net(suffix, memory=memory.room(options.suffix), remember=False)[0]

    def copied() -> torch.Tensor:
        layers = [KeyValue(layer.keys, layer.values) for layer in memory.layers if layer is not None]
        return net(suffix, memory=Memory(tuple(layers), None, memory.count), remember=False)[0]

    def anew() -> torch.Tensor:
        return net(torch.cat([prefix, suffix], 1), mask=mask, remember=False)[0][:, options.prefix :]

    ways = {"rewound": rewound, "copied": copied, "anew": anew}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        torch.testing.assert_close(way(), rewound(), atol=1e-4, rtol=1e-4)
    for _ in range(ROUNDS):
        for name, way in ways.items():
            start = time.process_time()
            for _ in range(CALLS):
                way()
            seconds[name].append(time.process_time() - start)
    took = {name: statistics.median(found) for name, found in seconds.items()}
    faster = {f"over_{name}": round(took[name] / took["rewound"], 2) for name in ("copied", "anew")}
    print(json.dumps({f"{name}_ms": round(1e3 * value, 1) for name, value in took.items()} | faster))


if __name__ == "__main__":
    main()
