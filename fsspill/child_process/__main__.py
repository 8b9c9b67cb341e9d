"""The program of a child process: call the function that arrives on standard input."""

import pickle
import sys


def main() -> None:
    """Take over the parent's ``sys.path``, then load the function and call it."""
    sys.path[:] = pickle.load(sys.stdin.buffer)
    pickle.load(sys.stdin.buffer)()


if __name__ == "__main__":
    main()
