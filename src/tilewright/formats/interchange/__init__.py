"""Import and export of other tools' checkpoints."""

from .dense import export_dense
from .sparse24 import export_sparse24, import_sparse24

__all__ = ["export_dense", "export_sparse24", "import_sparse24"]
