"""The tasks that models are evaluated on, behind one `Task` protocol. Torch is imported only when a task is built.

`decide` chooses the task of a model, `check_task` reports everything that can be checked without torch, and `build_task` builds it.
"""

from .building import build_task, check_task
from .deciding import decide
from .protocol import Measure, Scores, Split, Task

__all__ = ["Measure", "Scores", "Split", "Task", "build_task", "check_task", "decide"]
