"""The hook in child processes of one that called `fsspill.ray.install`.

Python imports the first ``sitecustomize`` on its path at every start. This one arms the hook and
then imports the next one, the user's own.
"""

import os
import sys

import _fsspill_startup

_HERE = os.path.dirname(os.path.abspath(__file__))

_fsspill_startup.start()

sys.path[:] = [path for path in sys.path if os.path.abspath(path or ".") != _HERE]
_own = sys.modules.pop("sitecustomize", None)
try:
    import sitecustomize  # type: ignore[import-not-found]  # noqa: F401
except ImportError as error:
    if error.name != "sitecustomize":
        raise
    # There is none. Python looks for the module that it has just run, and reports an error if it
    # is gone.
    if _own is not None:
        sys.modules["sitecustomize"] = _own
