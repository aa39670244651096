"""The command line: `nextmove COMMAND ...`; every command is a function of `nextmove.jobs`."""

from __future__ import annotations

import os
import sys

COMMANDS = {
    "demo": "the whole job in one go: record, train, evaluate, report",
    "record": "record demonstrations of a simulator's scripted expert",
    "label": "write the sub-task of every step into recorded demonstrations, in words",
    "scenes": "draw scenes of simulators with captions, questions and answers, to train vision-language models on",
    "train": "train any system: a policy on a LeRobot-format data set, a generator on text or images",
    "evaluate": "judge a policy on a simulator or offline, a generator on held-out text or images",
    "generate": "draw text or images from a trained generator, or a video of how they come about",
    "search": "find the images of a folder that a text describes",
    "caption": "say what images show",
    "ask": "ask a model about images; the answer is written as it comes about",
    "chat": "talk with a language model, SmolLM2 by default",
    "compare": "train and judge many policies on the same demonstrations and seeds",
    "export-lerobot": "write an ACT, Diffusion Policy, SmolVLA, pi0, pi0.5 or pi0-FAST as a checkpoint of LeRobot 0.6",
    "inspect": "look at a data set, a saved model or a LeRobot checkpoint",
    "tasks": "every simulated task and suite that record, evaluate and compare take",
    "systems": "every system of the road and whether it stands yet",
    "road": "the road as a table: what each system changed, its file, its measured figure",
}

USAGE = """nextmove: from demonstrations to a judged policy.

usage: nextmove COMMAND [OPTIONS]

{commands}

`nextmove COMMAND --help` explains a command. A first job, start to end:

  nextmove record pusht --episodes 400
  nextmove train flow-policy runs/pusht --minutes 6
  nextmove evaluate runs/flow-policy --episodes 50

or, with text and images:

  nextmove train gpt shakespeare --minutes 10
  nextmove generate runs/gpt --prompt "To be"
"""


def usage() -> str:
    """The front page."""
    return USAGE.format(commands="\n".join(f"  {name:14} {text}" for name, text in COMMANDS.items()))


def main(argv: list[str] | None = None) -> int:
    """Runs a command; returns the exit status: 0 done, 1 failed, 2 not understood, 130 or 143 stopped by a signal."""
    # Threads that spin while they wait cost a factor of ten beside one more busy process; set before torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # A short spin before sleep keeps most of what spinning gains on an idle machine.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    # Arrow's own allocator asks the system for every buffer that columns are read through: seconds of a set of ten
    # million frames.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    args = list(sys.argv[1:] if argv is None else argv)
    try:
        # The front page is there before what jobs need is imported.
        status = _front(args)
        if status is None:
            from nextmove.host.signals import heard

            with heard():
                status = _answer(args)
                sys.stdout.flush()
        sys.stdout.flush()
        return status
    except (ValueError, FileNotFoundError, OSError, ImportError, RuntimeError) as problem:
        if isinstance(problem, BrokenPipeError) and _unread():
            return 141  # as a shell says it
        if os.environ.get("NEXTMOVE_TRACEBACK"):
            raise
        print(f"nextmove {args[0]}: {_described(problem, args)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        from nextmove.host.signals import StoppedError

        print(f"nextmove {' '.join(args[:1])}: {str(stop) or 'stopped'}{_onwards(args)}", file=sys.stderr)
        return stop.status if isinstance(stop, StoppedError) else 130


CONTINUED = ("demo", "record", "scenes", "train", "evaluate", "compare")
"""Commands that go on from what is kept."""


def _onwards(args: list[str]) -> str:
    """The command that resumes a stopped one, with the words before it."""
    import shlex

    if not args or args[0] not in CONTINUED:
        return ""
    again = [*args, "--resume"] if args[0] == "train" and "--resume" not in args else args
    return f"; to go on: nextmove {shlex.join(again)}"


def _described(problem: Exception, args: list[str]) -> str:
    """An error in a line; of a full disk, or where a job says that it can, also what is kept and how to go on."""
    from nextmove.host.files import full

    if not full(problem):
        return f"{problem}{_onwards(args) if getattr(problem, 'resumable', False) else ''}"
    assert isinstance(problem, OSError)
    notes = " ".join(getattr(problem, "__notes__", []))
    what = f"{problem.filename or 'a file'}: {problem.strerror}. {notes}".strip()
    return f"{what} Make room{_onwards(args)}"


def _front(args: list[str]) -> int | None:
    """0 where the front page is asked for, which is printed; None otherwise."""
    if args and args[0] not in ("-h", "--help", "help"):
        return None
    print(usage())
    return 0


def _answer(args: list[str]) -> int:
    if args[0] in ("-V", "--version"):
        from nextmove import __version__

        print(f"nextmove {__version__}")
        return 0
    if args[0] not in COMMANDS:
        from nextmove.config import nearest

        print(f"nextmove: no command {args[0]!r}{nearest(args[0], COMMANDS)}\n\n{usage()}", file=sys.stderr)
        return 2
    from nextmove.cli.run import run

    return run(args[0], args[1:])


def _unread() -> bool:
    """Whether what reads standard output, `head` say, has gone; then nothing more is written to it."""
    import select

    try:
        there, ends = sys.stdout.fileno(), select.poll()
    except OSError:  # no file: a test's or a notebook's
        return False
    ends.register(there, 0)
    gone = bool(ends.poll(0))
    if gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), there)
    return gone


if __name__ == "__main__":
    sys.exit(main())
