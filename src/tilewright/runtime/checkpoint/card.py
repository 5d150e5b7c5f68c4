"""The README of a saved model: what the folder contains and how to open it, for people who do not know this package."""

import math
from collections import Counter
from collections.abc import Mapping

from ...formats import StoredWeight

__all__ = ["is_own_card", "model_card"]


TITLE = "# Packed by Tilewright"


def is_own_card(text: str) -> bool:
    """Return True for a README that `model_card` made, whatever precedes it."""
    return TITLE in text.splitlines()


def model_card(weights: Mapping[str, StoredWeight], opener: str, existing: str = "") -> str:
    """Return the text of README.md.

    Parameters
    ----------
    weights
        Packed weights by parameter name.
    opener
        The line of Python that opens the folder.
    existing
        A model card by other software; the new text is inserted between its front matter and its body. Default: none.
    """
    kept = sum(weight.packed.kept for weight in weights.values())
    density = kept / sum(math.prod(weight.packed.shape) for weight in weights.values())
    patterns = Counter(str(weight.packed.pattern) for weight in weights.values())
    listed = ", ".join(f"`{pattern}` ({count})" for pattern, count in patterns.most_common())
    front, body = _split(existing)
    return f"""{front}{TITLE}

{len(weights)} weights of this model are stored without their zeros: density {density:.3f}, sparsity {1 - density:.3f}. Patterns, with the number of weights
of each: {listed}.

```python
import tilewright

{opener}
```

Programs that import `tilewright` can also open the folder with `from_pretrained` and `SentenceTransformer`. Without it, transformers stops with a size mismatch: each
packed weight has an empty tensor under its own name, so that nothing runs on newly initialised weights. `tilewright.runtime.densified(model)` returns the ordinary dense model.
{body}"""


def _split(text: str) -> tuple[str, str]:
    """Return the YAML front matter of a card followed by a blank line, and the rest preceded by one."""
    if not text.startswith("---\n") or "\n---\n" not in text[4:]:
        return "", f"\n{text}" if text else ""
    end = text.index("\n---\n", 4) + 5
    return text[:end] + "\n", "\n" + text[end:].lstrip("\n")
