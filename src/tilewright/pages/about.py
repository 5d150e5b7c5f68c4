"""`About`: what a report is about, in words, for the top of the page."""

from dataclasses import dataclass

__all__ = ["About"]


@dataclass(frozen=True)
class About:
    """What was done, to which model, and how to use the result. What is empty is left out of the page.

    Parameters
    ----------
    model
        The model that was made sparse, and its size.
    task
        What it is judged by, and over what.
    date
        When, as a reader writes it.
    seconds
        How long this run took; None where it is not known.
    command
        What to type to do it again.
    use
        Python code that loads the result and calls it.
    """

    model: str = ""
    task: str = ""
    date: str = ""
    seconds: float | None = None
    command: str = ""
    use: str = ""
