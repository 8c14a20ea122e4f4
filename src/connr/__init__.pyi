from connr import clustering as clustering
from connr import losses as losses
from connr import methods as methods
from connr import metrics as metrics
from connr import neighbours as neighbours
from connr.estimator import ConNR as ConNR
from connr.estimator import DeepClusterer as DeepClusterer
from connr.integrations.connr_loss import ConNRLoss as ConNRLoss

__version__: str
__all__ = [
    "ConNR",
    "ConNRLoss",
    "DeepClusterer",
    "__version__",
    "clustering",
    "losses",
    "methods",
    "metrics",
    "neighbours",
]
