"""The gateway with a recorder that takes nothing: what (f) compares recording with.

The product has no switch for it: what was predicted is what everything else stands on. All else is the same process.
"""

import sys

from kingmaker_gateway import recorder
from kingmaker_gateway.__main__ import main


def _take_nothing(self: recorder.Recorder, run: object) -> None:
    pass


if __name__ == "__main__":
    if not callable(getattr(recorder.Recorder, "offer", None)):
        sys.exit("the gateway's recorder has no offer() to switch off: this benchmark is out of date")
    recorder.Recorder.offer = _take_nothing  # type: ignore[method-assign]
    sys.exit(main())
