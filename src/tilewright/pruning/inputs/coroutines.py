"""Forward passes that can be paused: one per batch, of which only one runs at a time.

To prune layers in the order in which data reach them, the inputs of a layer on all batches are needed before any batch may pass it.
Running every batch again for every layer would take as many passes as there are layers, and cutting the model into blocks would
require blocks. A pass that waits inside the hook of a layer costs nothing and makes no demands on the model. Python coroutines cannot
be suspended inside an ordinary function call, so each pass has its own thread; the threads hand control to each other and never run
concurrently.
"""

import contextvars
import threading
from collections.abc import Callable
from typing import Any

import torch

__all__ = ["Pass"]


class _Abandoned(BaseException):
    """Unwinds a pass that is not to be finished. A `BaseException`, so that no `except Exception` in a model stops it."""


class Pass:
    """A function that runs in steps.

    Parameters
    ----------
    function
        Function to run. It is called with this object and calls `wait` to pause.
    """

    def __init__(self, function: Callable[["Pass"], Any]) -> None:
        self.at: Any = None
        """Argument of the `wait` call that the function is paused in; None while it runs."""
        self.done = False
        self.result: Any = None
        self._function = function
        self._error: BaseException | None = None
        self._abandoned = False
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=lambda: context.run(self._main), daemon=True)
        self._thread.start()

    def step(self) -> None:
        """Run until the function waits or ends, and re-raise any exception it raises."""
        self.at = None
        self._go.release()
        self._back.acquire()
        if self._error is not None:
            raise self._error

    def wait(self, at: Any) -> None:
        """Pause until the next step. To be called by the function itself only."""
        self.at = at
        self._back.release()
        self._go.acquire()
        if self._abandoned:
            raise _Abandoned

    def abandon(self) -> None:
        """End the function where it is paused. Has no effect if it has already ended."""
        if not self.done:
            self._abandoned = True
            self._go.release()
        self._thread.join()

    def _main(self) -> None:
        self._go.acquire()
        try:
            if not self._abandoned:
                with torch.no_grad():  # grad mode is per thread
                    self.result = self._function(self)
        except _Abandoned:
            pass
        except BaseException as error:
            self._error = error
        self.done = True
        self._back.release()
