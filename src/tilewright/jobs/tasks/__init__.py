"""What a model is judged by: one `Task` a kind, all alike to a job. Torch is imported only when a task is built.

`decide` says which task a model is judged by; `check_task` finds everything that can be wrong before torch is imported; `build_task` builds it.
"""

from .building import build_task, check_task
from .deciding import decide
from .protocol import Measure, Scores, Split, Task

__all__ = ["Measure", "Scores", "Split", "Task", "build_task", "check_task", "decide"]
