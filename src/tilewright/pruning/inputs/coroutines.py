"""Forward passes that stop in the middle and go on later: one for each batch, of which only one runs at a time.

Pruning layers in the order in which data reach them needs the inputs of a layer on all batches before the first batch may pass it.
Starting every batch anew for every layer costs as many passes as there are layers, and cutting a model into blocks needs
blocks. A pass that waits inside the hook of a layer costs nothing and asks nothing of the model. Python's own coroutines cannot stop
inside a called function, so each pass has a thread; they hand one baton around and never run side by side.
"""

import contextvars
import threading
from collections.abc import Callable
from typing import Any

import torch

__all__ = ["Pass"]


class _Abandoned(BaseException):
    """Unwinds a pass that is not to be finished; no `except Exception` of a model stops it."""


class Pass:
    """One function that runs in steps.

    Parameters
    ----------
    function
        Called with this object; it calls `wait` where it wants to stop.
    """

    def __init__(self, function: Callable[["Pass"], Any]) -> None:
        self.at: Any = None
        """What it waits with."""
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
        """Run until the function waits or ends; raise what it raises."""
        self.at = None
        self._go.release()
        self._back.acquire()
        if self._error is not None:
            raise self._error

    def wait(self, at: Any) -> None:
        """Stop here until the next step. Only the function itself calls this."""
        self.at = at
        self._back.release()
        self._go.acquire()
        if self._abandoned:
            raise _Abandoned

    def abandon(self) -> None:
        """End the function where it stands. Does nothing to one that has ended."""
        if not self.done:
            self._abandoned = True
            self._go.release()
        self._thread.join()

    def _main(self) -> None:
        self._go.acquire()
        try:
            if not self._abandoned:
                with torch.no_grad():  # which is a matter of the thread
                    self.result = self._function(self)
        except _Abandoned:
            pass
        except BaseException as error:
            self._error = error
        self.done = True
        self._back.release()
