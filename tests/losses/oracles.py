"""The losses as naive float64 loops over lists, from the equations alone. Slow on purpose; nothing of connr is imported."""

import math

LEAST = 1e-30  # the clamp that the losses state


def ln(x):
    return math.log(max(x, LEAST))


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def unit(a):
    norm = math.sqrt(sum(x * x for x in a))
    return [x / norm if norm > 0 else 0.0 for x in a]


def cos(a, b):
    return dot(unit(a), unit(b))


def column(p, k):
    return [row[k] for row in p]


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def add(a, b):
    return [x + y for x, y in zip(a, b, strict=True)]


# sphere, pair, group


def normalize_rows(rows):
    return [unit(row) for row in rows]


def negative_cosine(queries, positives, weight):
    return [[-weight * cos(q, z) for z in own] for q, own in zip(queries, positives, strict=True)]


def info_nce(queries, positives, negatives, temperature):
    table = []
    for q, own in zip(queries, positives, strict=True):
        row = []
        for z in own:
            positive = math.exp(cos(q, z) / temperature)
            row.append(-math.log(positive / (positive + sum(math.exp(dot(unit(q), n) / temperature) for n in negatives))))
        table.append(row)
    return table


def group_mean(pairs, kept, total=None):
    anchors = [mean(row) for row, keep in zip(pairs, kept, strict=True) if keep]
    count = len(anchors) if total is None else total
    return sum(anchors) / count if count else 0.0


# contrast of rows


def nt_xent(first, second, temperature, ignored=None):
    b = len(first)
    rows = first + second
    losses = []
    for i in range(2 * b):
        other_view = i + b if i < b else i - b
        denominator = 0.0
        for j in range(2 * b):
            if j == i:
                continue
            if ignored is not None and j != other_view and ignored[i % b][j % b]:
                continue
            denominator += math.exp(cos(rows[i], rows[j]) / temperature)
        losses.append(-math.log(math.exp(cos(rows[i], rows[other_view]) / temperature) / denominator))
    return mean(losses)


def same_label(labels):
    return [[a >= 0 and b >= 0 and a == b for b in labels] for a in labels]


def graph_contrast(anchors, candidates, weights, temperature, compared=None):
    losses = []
    for i, a in enumerate(anchors):
        numerator = denominator = 0.0
        for j, x in enumerate(candidates):
            e = math.exp(cos(a, x) / temperature)
            numerator += weights[i][j] * e
            if compared is None or compared[i][j]:
                denominator += e
        if numerator > 0 and denominator > 0:
            losses.append(-math.log(numerator / denominator))
    return mean(losses) if losses else 0.0


# assignments


def column_nt_xent(first, second, temperature):
    K = len(first[0])
    return nt_xent([column(first, k) for k in range(K)], [column(second, k) for k in range(K)], temperature)


def column_cross_entropy(first, second):
    K = len(first[0])
    losses = []
    for k in range(K):
        e = [math.exp(cos(column(first, k), column(second, other))) for other in range(K)]
        losses.append(-math.log(e[k] / sum(e)))
    return mean(losses)


def mean_entropy(assignments):
    total = 0.0
    for k in range(len(assignments[0])):
        p = mean(column(assignments, k))
        total -= p * ln(p)
    return total


def kl_to_uniform(assignments):
    K = len(assignments[0])
    total = 0.0
    for k in range(K):
        p = mean(column(assignments, k))
        total += p * (ln(p) - math.log(1 / K))
    return total


def negative_mutual_information(first, second, weight):
    K = len(first[0])
    Q = [[mean(p[k] * q[m] for p, q in zip(first, second, strict=True)) for m in range(K)] for k in range(K)]
    total = sum(Q[k][m] + Q[m][k] for k in range(K) for m in range(K))
    P = [[(Q[k][m] + Q[m][k]) / total for m in range(K)] for k in range(K)]
    marginal = [sum(P[k][m] for m in range(K)) for k in range(K)]
    loss = 0.0
    for k in range(K):
        for m in range(K):
            loss -= P[k][m] * (ln(P[k][m]) - weight * ln(marginal[k]) - weight * ln(marginal[m]))
    return loss


def neighbour_consistency(assignments, neighbours):
    return mean(-ln(dot(p, n)) for p, n in zip(assignments, neighbours, strict=True))


def neighbour_matching(assignments, neighbours):
    return neighbour_consistency(assignments, neighbours) + column_cross_entropy(assignments, neighbours)


# self-labels


def negative_log_softmax(logits, k):
    largest = max(logits)
    return largest + math.log(sum(math.exp(x - largest) for x in logits)) - logits[k]


def argmax(row):
    return row.index(max(row))


def balanced_cross_entropy(logits, labels, kept):
    """As a weighted mean, each image weighted by one over the size of its class."""
    numerator = denominator = 0.0
    for i, row in enumerate(logits):
        if kept[i]:
            size = sum(1 for j in range(len(labels)) if kept[j] and labels[j] == labels[i])
            numerator += negative_log_softmax(row, labels[i]) / size
            denominator += 1 / size
    return numerator / denominator if denominator else 0.0


def confident_cross_entropy(strong_logits, weak_assignments, threshold):
    kept = [max(row) > threshold for row in weak_assignments]
    labels = [argmax(row) for row in weak_assignments]
    return [balanced_cross_entropy(strong_logits, labels, kept), sum(kept) / len(kept)]


def top_per_cluster(assignments, ratio_numerator, ratio_denominator, threshold):
    b, K = len(assignments), len(assignments[0])
    count = -(-ratio_numerator * b // (ratio_denominator * K))  # ceil in whole numbers
    chosen = [False] * b
    for k in range(K):
        members = [i for i in range(b) if argmax(assignments[i]) == k]
        members.sort(key=lambda i: (-assignments[i][k], i))
        for i in members[:count]:
            chosen[i] = assignments[i][k] >= threshold
    return chosen


# prototypes, mixture


def batch_prototypes(embeddings, labels, n_clusters):
    means, present = [], []
    for k in range(n_clusters):
        total = [0.0] * len(embeddings[0])
        for z, label in zip(embeddings, labels, strict=True):
            if label == k:
                total = add(total, unit(z))
        means.append(unit(total))
        present.append(k in labels)
    return means, present


def prototype_scattering(online, target, labels, n_clusters, temperature):
    mu, present = batch_prototypes(online, labels, n_clusters)
    mu_target, _ = batch_prototypes(target, labels, n_clusters)
    losses = []
    for k in range(n_clusters):
        if not present[k]:
            continue
        own = math.exp(dot(mu[k], mu_target[k]) / temperature)
        others = sum(math.exp(dot(mu[k], mu[m]) / temperature) for m in range(n_clusters) if m != k and present[m])
        losses.append(-math.log(own / (own + others)))
    return mean(losses) if losses else 0.0


def sampled_positive(embeddings, noise, sigma):
    return [[x + sigma * e for x, e in zip(z, eps, strict=True)] for z, eps in zip(embeddings, noise, strict=True)]


def gate_log_probabilities(gates, gate_vectors, temperature):
    table = []
    for g in gates:
        e = [math.exp(cos(w, g) / temperature) for w in gate_vectors]
        table.append([math.log(x / sum(e)) for x in e])
    return table


def expert_log_probabilities(students, teachers, prototypes, queue, temperature):
    table = []
    for f, v in zip(students, teachers, strict=True):
        row = []
        for k in range(len(prototypes)):
            head = add(unit(f[k]), unit(prototypes[k]))
            positive = math.exp(dot(unit(v[k]), head) / temperature)
            negative = sum(math.exp(dot(u[k], head) / temperature) for u in queue)
            row.append(math.log(positive / (positive + negative)))
        table.append(row)
    return table


def mixture_posterior(log_gates, log_experts):
    table = []
    for gates, experts in zip(log_gates, log_experts, strict=True):
        joint = [math.exp(a) * math.exp(b) for a, b in zip(gates, experts, strict=True)]
        table.append([x / sum(joint) for x in joint])
    return table


def mixture_loss(log_gates, log_experts, posterior):
    return mean(
        sum(q * (ln(q) - a - b) for a, b, q in zip(gates, experts, own, strict=True))
        for gates, experts, own in zip(log_gates, log_experts, posterior, strict=True)
    )


# decorrelation, instance


def feature_decorrelation(embeddings, temperature):
    rows = [unit(z) for z in embeddings]
    d = len(rows[0])
    losses = []
    for m in range(d):
        e = [math.exp(cos(column(rows, other), column(rows, m)) / temperature) for other in range(d)]
        losses.append(-math.log(e[m] / sum(e)))
    return mean(losses)


def instance_discrimination(embeddings, memory, indices, temperature):
    losses = []
    for z, index in zip(embeddings, indices, strict=True):
        e = [math.exp(dot(unit(z), m) / temperature) for m in memory]
        losses.append(-math.log(e[index] / sum(e)))
    return mean(losses)


# DCCM


def confident_pairs(assignments, threshold):
    b = len(assignments)
    return [[i == j or cos(assignments[i], assignments[j]) >= threshold for j in range(b)] for i in range(b)]


def pair_cross_entropy(first, second, similar):
    table = [[cos(p, q) for q in second] for p in first]
    largest = max(max(row) for row in table)
    losses = []
    for i, row in enumerate(table):
        for j, s in enumerate(row):
            losses.append(-ln(s / largest) if similar[i][j] else -ln(1 - s / largest))
    return mean(losses)


def label_cross_entropy(predictions, references, threshold):
    losses = []
    for prediction, reference in zip(predictions, references, strict=True):
        if max(reference) >= threshold:
            for k, value in enumerate(prediction):
                losses.append(-ln(value) if k == argmax(reference) else -ln(1 - value))
    return mean(losses) if losses else 0.0


def softplus(x):
    return max(x, 0) + math.log1p(math.exp(-abs(x)))


def jensen_shannon(scores, positive):
    attract, repel = [], []
    for row, own in zip(scores, positive, strict=True):
        for score, belongs in zip(row, own, strict=True):
            if belongs:
                attract.append(softplus(-score))
            else:
                repel.append(softplus(score))
    return (mean(attract) if attract else 0.0) + (mean(repel) if repel else 0.0)


# DivClust


def clustering_similarities(assignments):
    table = []
    for a in assignments:
        row = []
        for b in assignments:
            K = len(a[0])
            row.append(mean(max(cos(column(a, k), column(b, m)) for m in range(K)) for k in range(K)))
        table.append(row)
    return table


def diversity_penalty(assignments, threshold):
    table = clustering_similarities(assignments)
    M = len(table)
    return sum(max(0.0, table[a][b] - threshold) for a in range(M) for b in range(M) if a != b) / M


# TCC


def cluster_embeddings(assignments, embeddings):
    means = []
    for k in range(len(assignments[0])):
        total = [0.0] * len(embeddings[0])
        for p, v in zip(assignments, embeddings, strict=True):
            total = add(total, [p[k] * x for x in unit(v)])
        means.append(unit(total))
    return means


def cluster_contrast(first, second, queue, temperature):
    losses = []
    for k, r in enumerate(first):
        positive = math.exp(cos(r, second[k]) / temperature)
        others = sum(math.exp(cos(r, second[m]) / temperature) for m in range(len(second)) if m != k)
        queued = sum(math.exp(dot(unit(r), u) / temperature) for u in queue)
        losses.append(-math.log(positive / (positive + others + queued)))
    return mean(losses)


def relaxed_assignment(assignments, gumbel, temperature):
    table = []
    for p, noise in zip(assignments, gumbel, strict=True):
        e = [math.exp((ln(x) + g) / temperature) for x, g in zip(p, noise, strict=True)]
        table.append([x / sum(e) for x in e])
    return table


def in_context(embeddings, contexts):
    return [unit(add(unit(v), c)) for v, c in zip(embeddings, contexts, strict=True)]


def assignment_divergence(first, second):
    return mean(sum(x * (ln(x) - ln(y)) for x, y in zip(p, q, strict=True)) for p, q in zip(first, second, strict=True))


# DCBoost


def pull_together(first, second, labels, kept):
    images = range(len(first))
    anchors = [
        mean(1 - cos(first[i], second[j]) for j in images if kept[j] and labels[j] == labels[i]) for i in images if kept[i]
    ]
    return mean(anchors) if anchors else 0.0


def push_apart(embeddings, labels, kept, n_clusters):
    centres = []
    for k in range(n_clusters):
        members = [unit(z) for z, label, keep in zip(embeddings, labels, kept, strict=True) if keep and label == k]
        if members:
            centres.append([mean(values) for values in zip(*members, strict=True)])
    pairs = [cos(a, b) for i, a in enumerate(centres) for j, b in enumerate(centres) if i != j]
    return mean(pairs) if pairs else 0.0


def boost_loss(first, second, labels, kept, n_clusters):
    return pull_together(first, second, labels, kept) + push_apart(first, labels, kept, n_clusters)


# TEMI


def pair_weights(teachers, neighbours):
    heads, b = len(teachers), len(teachers[0])
    return [mean(dot(teachers[h][i], neighbours[h][i]) for h in range(heads)) for i in range(b)]


def weighted_pointwise_information(students, teachers, marginal, weights, beta):
    losses = []
    for p, q, w in zip(students, teachers, weights, strict=True):
        losses.append(-w * math.log(sum((x * y) ** beta / m for x, y, m in zip(p, q, marginal, strict=True))))
    return mean(losses)
