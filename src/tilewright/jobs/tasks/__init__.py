"""What a model is judged by: one `Task` a kind, all alike to a job. Torch is imported only when a task is used."""

from .protocol import Measure, Scores, Split, Task

__all__ = ["Measure", "Scores", "Split", "Task"]
