"""A peer that writes with llama.cpp, one text for each line it is sent (`turns.answer`); needs llama-cpp-python only.

python benchmarks/llama_peer.py FILE.gguf --threads 2
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import llama_cpp
import numpy as np

from turns import answer, resident


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    begin = resident()
    model = llama_cpp.Llama(
        arguments.file, n_threads=arguments.threads, n_threads_batch=arguments.threads, n_ctx=1024, verbose=False
    )

    def likeliest() -> int:
        logits = llama_cpp.llama_get_logits_ith(model._ctx.ctx, -1)
        return int(np.ctypeslib.as_array(logits, (model.n_vocab(),)).argmax())

    def write(prompt: list[int], new: int) -> dict[str, Any]:
        """The likeliest ids, and the seconds until the first and for the others."""
        model.reset()
        begin = time.perf_counter()
        model.eval(prompt)
        ids = [likeliest()]
        first = time.perf_counter()
        while len(ids) < new:
            model.eval(ids[-1:])
            ids.append(likeliest())
        return {"ids": ids, "read": first - begin, "written": time.perf_counter() - first}

    answer({"write": write, "memory": resident}, {"version": llama_cpp.__version__, "begin": begin})


if __name__ == "__main__":
    main()
