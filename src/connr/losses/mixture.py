"""MiCE (Tsai et al. 2021): a mixture of K contrastive experts, trained by expectation-maximisation.

    gate      pi_ik = softmax_k(w_k . g_i / kappa)
    expert    phi_ik = e^{v_ik . h_ik / tau} / (e^{v_ik . h_ik / tau} + sum_m e^{u_mk . h_ik / tau}),  h_ik = f_ik + mu_k
    E-step    q_ik = pi_ik phi_ik / sum_l pi_il phi_il
    M-step    1/b sum_i sum_k q_ik (ln q_ik - ln pi_ik - ln phi_ik)

f, g are the student's embeddings, v the teacher's, u a queue of the teacher's past ones; mu are the experts' prototypes,
w fixed gate vectors. With q from the E-step the loss is 1/b sum_i -ln sum_k pi_ik phi_ik, and so is its gradient.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from connr.losses.precision import check_rows, check_temperature, clamped_log, upcast
from connr.losses.sphere import normalize_rows


def gate_log_probabilities(
    gates: Float[Tensor, "b d"], gate_vectors: Float[Tensor, "K d"], temperature: float = 1.0
) -> Float[Tensor, "b K"]:
    """ln pi, which expert the gate sends each image to.

    Args:
        gates: (b d), g, need not be normalised.
        gate_vectors: (K d), w, need not be normalised.
        temperature: kappa > 0.

    Returns:
        (b K), log-probabilities.

    Raises:
        ValueError: temperature <= 0.
    """
    check_temperature(temperature)
    return F.log_softmax(normalize_rows(gates) @ normalize_rows(gate_vectors).T / temperature, dim=1)


def expert_log_probabilities(
    students: Float[Tensor, "b K d"],
    teachers: Float[Tensor, "b K d"],
    prototypes: Float[Tensor, "K d"],
    queue: Float[Tensor, "m K d"],
    temperature: float = 1.0,
) -> Float[Tensor, "b K"]:
    """ln phi, how surely each expert tells the image's other view from the queue.

    Args:
        students: (b K d), f, one embedding an expert, need not be normalised.
        teachers: (b K d), v, of the other view, need not be normalised.
        prototypes: (K d), mu, need not be normalised; the sum f + mu is not normalised again.
        queue: (m K d), u, rows of L2 norm 1, which are not normalised again; with m = 0 the result is 0.
        temperature: tau > 0.

    Returns:
        (b K), log-probabilities <= 0; they do not sum to 1 over the experts. The computation holds b m K numbers.

    Raises:
        ValueError: temperature <= 0.
    """
    check_temperature(temperature)
    heads = normalize_rows(students) + normalize_rows(prototypes)
    positive = (normalize_rows(teachers) * heads).sum(dim=2) / temperature
    others = torch.logsumexp(torch.einsum("bkd,mkd->mbk", heads, queue.to(heads.dtype)) / temperature, dim=0)
    return positive - torch.logaddexp(positive, others)


@torch.no_grad()
def mixture_posterior(log_gates: Float[Tensor, "b K"], log_experts: Float[Tensor, "b K"]) -> Float[Tensor, "b K"]:
    """The E-step, q: which expert explains each image. Its argmax assigns.

    Args:
        log_gates: (b K), ln pi.
        log_experts: (b K), ln phi.

    Returns:
        (b K), probabilities, without gradient.
    """
    return F.softmax(upcast(log_gates) + upcast(log_experts), dim=1)


def mixture_loss(
    log_gates: Float[Tensor, "b K"], log_experts: Float[Tensor, "b K"], posterior: Float[Tensor, "b K"]
) -> Float[Tensor, ""]:
    """The M-step: minus the evidence lower bound under a fixed posterior.

    Args:
        log_gates: (b K), ln pi, with gradient.
        log_experts: (b K), ln phi, with gradient.
        posterior: (b K), q, from `mixture_posterior`; taken without gradient.

    Returns:
        scalar.

    Raises:
        ValueError: b = 0.
    """
    check_rows("log_gates", log_gates)
    q = upcast(posterior.detach())
    return (q * (clamped_log(q) - upcast(log_gates) - upcast(log_experts))).sum(dim=1).mean()
