"""``python -m fsspill.ray start --head ...``: a command of Ray, with the hook active.

For environments in which Python runs no ``.pth`` file. Ray's processes inherit the hook through
PYTHONPATH.
"""

from __future__ import annotations

import sys

from fsspill.ray.installation import install


def main() -> None:
    """Run the command of Ray that the arguments are."""
    install()
    from ray.scripts.scripts import main as run

    sys.argv[0] = "ray"
    run()


if __name__ == "__main__":
    main()
