"""The command line: ``python -m fastnn``, or ``fastnn``."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence

import fastnn as fnn
from fastnn.console import complain, tell, unannounced

_DESCRIPTION = """\
Neural networks whose every kernel is compiled by Numba.

Without a command, this runs `digits`: it trains on the bundled handwritten digits (no download), tests on
held-out images, and races against the same training in plain NumPy.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        By default the arguments of the process.

    Returns
    -------
    int
        Exit code: 0 success, 1 a failure (with a message), 130 interrupted. (Wrong arguments raise
        SystemExit with code 2, as in argparse.)
    """
    options = _parser().parse_args(arguments)
    try:
        return _COMMANDS[options.command or "digits"](options)
    except KeyboardInterrupt:
        complain("fastnn: interrupted")
        return 130
    except BrokenPipeError:
        # the reader of the output has left (`| head`): nothing more can be written, not even on exit
        with contextlib.suppress(Exception):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (OSError, MemoryError) as error:
        complain(f"fastnn: {error or type(error).__name__}")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fastnn", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"fastnn {fnn.__version__}")
    parser.set_defaults(epochs=60, batch_size=16, seed=0, dtype="float32", quiet=False)
    commands = parser.add_subparsers(dest="command", metavar="command", required=False)

    digits = commands.add_parser("digits", help="train on the bundled digits and race against NumPy (default)")
    digits.add_argument("--epochs", type=_positive, default=60, help="passes over the data (default 60)")
    digits.add_argument("--batch-size", type=_positive, default=16, help="images per step (default 16)")
    digits.add_argument("--seed", type=_seed, default=0, help="of weights, batches and held-out images (default 0)")
    digits.add_argument("--dtype", choices=("float32", "float64"), default="float32", help="of all arithmetic")
    digits.add_argument("--quiet", action="store_true", help="print the results only")

    commands.add_parser("info", help="show versions, processor, cache and CUDA: useful in a bug report")

    cache = commands.add_parser("cache", help="show where compiled kernels are kept; `cache clear` removes them")
    cache.add_argument("action", nargs="?", choices=("show", "clear"), default="show")

    warm = commands.add_parser(
        "warm", help="compile the kernels of the usual networks now, for example for a container image"
    )
    warm.add_argument("--dtype", choices=("float32", "float64", "both"), default="float32")
    warm.add_argument(
        "--cuda",
        nargs="?",
        const="",
        metavar="ARCHITECTURE",
        help="compile CUDA kernels instead, for this machine's GPU, or without a GPU for an architecture such as 90a",
    )
    return parser


def _positive(text: str) -> int:
    value = _integer(text)
    if not 1 <= value <= 1_000_000:
        raise argparse.ArgumentTypeError(f"expected an integer from 1 to 1000000, got {text}")
    return value


def _seed(text: str) -> int:
    value = _integer(text)
    if not 0 <= value < 2**64:
        raise argparse.ArgumentTypeError(f"expected an integer from 0 to 2**64 - 1, got {text}")
    return value


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected an integer, got {text!r}") from None


def _digits(options: argparse.Namespace) -> int:
    from fastnn.demo.digits import demonstrate
    from fastnn.demo.race import Setup

    setup = Setup(options.epochs, options.batch_size, options.seed, options.dtype)
    return demonstrate(setup, quiet=options.quiet)


def _info(options: argparse.Namespace) -> int:
    from fastnn.demo.info import describe

    tell(describe())
    return 0


def _cache(options: argparse.Namespace) -> int:
    if options.action == "clear":
        tell(f"removed {fnn.cache.clear()} kernels")
        return 0
    tell(f"{fnn.cache.described()}: {len(fnn.cache.entries())} kernels, {fnn.cache.size()} bytes")
    return 0


def _warm(options: argparse.Namespace) -> int:
    from fastnn.demo import warm

    dtypes = ("float32", "float64") if options.dtype == "both" else (options.dtype,)
    if options.cuda is not None:
        from fastnn.demo import warm_cuda

        return warm_cuda.run(dtypes, options.cuda)
    keys = warm.common(dtypes)
    count = len(warm.missing(keys))
    tell(f"{len(keys)} kernels, {count} to be compiled")
    with unannounced():
        seconds = warm.prepare(keys)
    tell(f"ready after {seconds:.1f} s; kept in {fnn.cache.described()}")
    return 0


_COMMANDS = {"digits": _digits, "info": _info, "cache": _cache, "warm": _warm}

if __name__ == "__main__":
    sys.exit(main())
