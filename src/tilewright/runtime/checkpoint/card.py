"""The README of a saved model: what the folder is, and how to open it, for whoever finds it without knowing this package."""

import math
from collections import Counter
from collections.abc import Mapping

from ...formats import StoredWeight

__all__ = ["is_own_card", "model_card"]


TITLE = "# Packed by Tilewright"


def is_own_card(text: str) -> bool:
    """Return True for a README that `model_card` made, with whatever stands in front of it."""
    return TITLE in text.splitlines()


def model_card(weights: Mapping[str, StoredWeight], opener: str, existing: str = "") -> str:
    """Return the text of README.md.

    Parameters
    ----------
    weights
        What is packed, by parameter name.
    opener
        The line of Python that opens the folder.
    existing
        A model card that other software wrote; ours goes in front of it, behind its front matter.
    """
    kept = sum(weight.packed.kept for weight in weights.values())
    density = kept / sum(math.prod(weight.packed.shape) for weight in weights.values())
    patterns = Counter(str(weight.packed.pattern) for weight in weights.values())
    listed = ", ".join(f"`{pattern}` ({count})" for pattern, count in patterns.most_common())
    front, body = _split(existing)
    return f"""{front}{TITLE}

{len(weights)} weights of this model are stored without their zeros: density {density:.3f}, sparsity {1 - density:.3f}. Patterns and how many weights have
them: {listed}.

```python
import tilewright

{opener}
```

Programs that import `tilewright` can also open the folder with `from_pretrained` and `SentenceTransformer`. Without it, transformers stops with a size mismatch: each
packed weight has an empty tensor under its own name, so that nothing runs on newly initialised weights. `tilewright.runtime.densified(model)` is the ordinary dense model.
{body}"""


def _split(text: str) -> tuple[str, str]:
    """Return the YAML front matter of a card with a blank line behind it, and the rest with one before it."""
    if not text.startswith("---\n") or "\n---\n" not in text[4:]:
        return "", f"\n{text}" if text else ""
    end = text.index("\n---\n", 4) + 5
    return text[:end] + "\n", "\n" + text[end:].lstrip("\n")
