"""`About`: the facts at the top of a report."""

from dataclasses import dataclass

__all__ = ["About"]


@dataclass(frozen=True)
class About:
    """What a job did, to which model, and how to use the result. Empty fields are omitted from the page.

    Parameters
    ----------
    model
        The pruned model and its size.
    task
        Task that the model is evaluated on, and its data.
    date
        Date of the job, as text.
    seconds
        Duration of the run in seconds; None if unknown.
    command
        Command that repeats the job.
    use
        Python code that loads the result and calls it.
    """

    model: str = ""
    task: str = ""
    date: str = ""
    seconds: float | None = None
    command: str = ""
    use: str = ""
