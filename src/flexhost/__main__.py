"""`python -m flexhost`, and the command `flexhost`."""

import gc
import os
import signal


def main() -> None:
    # until the host has handlers of its own: a signal during the imports is no traceback
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(0))
    gc.disable()  # nothing of what is imported is garbage
    from flexhost import cli

    gc.enable()
    cli.main()


if __name__ == "__main__":
    main()
