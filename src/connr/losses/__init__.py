"""Loss functions of deep clustering: pure functions on tensors, one idea a file, its equation on top.

Inputs are those of the whole batch, gathered over processes with gradient. Losses are scalars unless stated. Everything is
computed in float32 at least (float64 stays float64), whatever the inputs' type; call the losses outside autocast, which would
compute their matrix products in half precision. Embeddings need not be normalised; a queue or memory holds unit rows and is
not normalised again. Nothing waits for the device, keeps state or draws random numbers.

| loss | of |
|---|---|
| `negative_cosine`, `info_nce`, `group_mean` | BYOL, SimSiam, MoCo v2; ConNR |
| `nt_xent`, `same_label` | SimCLR, CC, TCL |
| `graph_contrast` | GCC |
| `column_nt_xent`, `column_cross_entropy` | CC, TCL, TAC; PICA, NNM, GCC |
| `mean_entropy`, `kl_to_uniform` | SCAN, NNM; PICA, CC, TCL |
| `negative_mutual_information` | IIC |
| `neighbour_consistency`, `neighbour_matching` | SCAN, TAC; NNM |
| `confident_cross_entropy`, `balanced_cross_entropy`, `top_per_cluster` | SCAN; TCL |
| `prototype_scattering`, `sampled_positive`, `batch_prototypes` | ProPos |
| `mixture_loss`, `mixture_posterior`, `gate_log_probabilities`, `expert_log_probabilities` | MiCE |
| `instance_discrimination`, `feature_decorrelation` | IDFD |
| `confident_pairs`, `pair_cross_entropy`, `label_cross_entropy`, `jensen_shannon` | DCCM |
| `diversity_penalty`, `clustering_similarities`, `next_threshold` | DivClust |
| `cluster_contrast`, `cluster_embeddings`, `relaxed_assignment`, `in_context`, `assignment_divergence` | TCC |
| `boost_loss`, `pull_together`, `push_apart` | DCBoost |
| `weighted_pointwise_information`, `pair_weights` | TEMI |
"""

from connr.losses.boost import boost_loss, pull_together, push_apart
from connr.losses.cluster_contrast import (
    assignment_divergence,
    cluster_contrast,
    cluster_embeddings,
    in_context,
    relaxed_assignment,
)
from connr.losses.columns import column_cross_entropy, column_nt_xent
from connr.losses.consistency import neighbour_consistency, neighbour_matching
from connr.losses.decorrelation import feature_decorrelation
from connr.losses.distillation import pair_weights, weighted_pointwise_information
from connr.losses.diversity import clustering_similarities, diversity_penalty, next_threshold
from connr.losses.entropy import kl_to_uniform, mean_entropy
from connr.losses.graph_contrast import graph_contrast
from connr.losses.group import group_mean
from connr.losses.instance import instance_discrimination
from connr.losses.mixture import expert_log_probabilities, gate_log_probabilities, mixture_loss, mixture_posterior
from connr.losses.mutual_information import negative_mutual_information
from connr.losses.nt_xent import nt_xent, same_label
from connr.losses.pair import info_nce, negative_cosine
from connr.losses.pairwise import confident_pairs, jensen_shannon, label_cross_entropy, pair_cross_entropy
from connr.losses.prototypes import Prototypes, batch_prototypes, prototype_scattering, sampled_positive
from connr.losses.self_labels import SelfLabelLoss, balanced_cross_entropy, confident_cross_entropy, top_per_cluster
from connr.losses.sphere import normalize_rows

__all__ = [
    "Prototypes",
    "SelfLabelLoss",
    "assignment_divergence",
    "balanced_cross_entropy",
    "batch_prototypes",
    "boost_loss",
    "cluster_contrast",
    "cluster_embeddings",
    "clustering_similarities",
    "column_cross_entropy",
    "column_nt_xent",
    "confident_cross_entropy",
    "confident_pairs",
    "diversity_penalty",
    "expert_log_probabilities",
    "feature_decorrelation",
    "gate_log_probabilities",
    "graph_contrast",
    "group_mean",
    "in_context",
    "info_nce",
    "instance_discrimination",
    "jensen_shannon",
    "kl_to_uniform",
    "label_cross_entropy",
    "mean_entropy",
    "mixture_loss",
    "mixture_posterior",
    "negative_cosine",
    "negative_mutual_information",
    "neighbour_consistency",
    "neighbour_matching",
    "next_threshold",
    "normalize_rows",
    "nt_xent",
    "pair_cross_entropy",
    "pair_weights",
    "prototype_scattering",
    "pull_together",
    "push_apart",
    "relaxed_assignment",
    "same_label",
    "sampled_positive",
    "top_per_cluster",
    "weighted_pointwise_information",
]
