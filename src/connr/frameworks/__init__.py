"""Socket *framework*: how two views become queries and keys, and how a query-key pair is scored."""

from connr.frameworks.byol import BYOL
from connr.frameworks.framework import Framework
from connr.frameworks.moco import MoCo
from connr.frameworks.simsiam import SimSiam

__all__ = ["BYOL", "Framework", "MoCo", "SimSiam"]
