"""The equations as naive float64 loops, written from the text alone. Slow on purpose; nothing of connr is imported."""

import math

import numpy as np


def cosines(features):
    rows = [np.asarray(f, dtype=np.float64) for f in features]
    return np.array([[float(sum(a * b for a, b in zip(f, g, strict=True))) for g in rows] for f in rows])


def ranking(similarity, i):
    """All indices, i first, then by falling similarity, ties by index."""
    others = [j for j in range(len(similarity)) if j != i]
    return [i, *sorted(others, key=lambda j: (-similarity[i][j], j))]


def local(features, k):
    similarity = cosines(features)
    return [ranking(similarity, i)[:k] for i in range(len(features))]


def contextual_similarity(features, k1, k2, alpha, layers):
    """H H^T of Eqs. 3-7."""
    b = len(features)
    similarity = cosines(features)
    nearest = [ranking(similarity, i) for i in range(b)]
    h = [[0.0] * b for _ in range(b)]
    for i in range(b):
        for j in range(b):
            i_knows_j, j_knows_i = j in nearest[i][:k1], i in nearest[j][:k1]
            h[i][j] = 1.0 if i_knows_j and j_knows_i else 0.5 if i_knows_j or j_knows_i else 0.0
    for _ in range(layers):
        symmetric = [[h[i][j] + h[j][i] for j in range(b)] for i in range(b)]
        new = []
        for i in range(b):
            row = [0.0] * b
            for j in nearest[i][:k2]:
                weight = 1.0 if j == i else similarity[i][j] ** alpha
                for column in range(b):
                    row[column] += weight * symmetric[j][column]
            norm = math.sqrt(sum(x * x for x in row))
            new.append([x / norm for x in row])
        h = new
    return cosines(h)


def contextual_ranking(scores, similarity, i):
    """All indices, i first, then by falling score; those with a score of 0 by falling similarity; ties by index."""
    score = [round(float(x), 9) for x in scores[i]]
    others = [j for j in range(len(score)) if j != i]
    return [i, *sorted(others, key=lambda j: (-score[j], -round(float(similarity[i][j]), 9) if score[j] == 0 else 0, j))]


def boundary_ratio(features, centroids, assignments):
    ratios = []
    for f, own in zip(features, assignments, strict=True):
        distances = [math.sqrt(sum((a - b) ** 2 for a, b in zip(f, c, strict=True))) for c in centroids]
        d_own = distances[own]
        d_next = min(d for index, d in enumerate(distances) if index != own)
        larger = max(d_own, d_next)
        ratios.append(1.0 if larger == 0 else 1 - (d_next - d_own) / larger)
    return ratios


def keep(ratios, numerator, denominator):
    """The fraction is numerator / denominator, so that the floor is exact."""
    rank = max(1, len(ratios) * numerator // denominator)
    sigma = sorted(ratios)[rank - 1]
    return [r <= sigma for r in ratios]


def linear_fraction(t, t0, end, initial, final):
    if t < t0:
        return initial
    if t >= end:
        return final
    return initial + (final - initial) / (end - t0) * (t - t0)


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(sum(x * x for x in a)) / math.sqrt(sum(x * x for x in b))


def group_loss(queries, keys, neighbours, kept):
    """Eq. 14 with the pair loss -2 cos."""
    anchors = []
    for i, query in enumerate(queries):
        if kept[i]:
            pairs = [-2 * cosine(query, keys[j]) for j in neighbours[i]]
            anchors.append(sum(pairs) / len(pairs))
    return sum(anchors) / len(anchors)


def instance_loss(queries, keys):
    """Eq. 1, times 2 as the pair loss is."""
    return -2 * sum(cosine(q, z) for q, z in zip(queries, keys, strict=True)) / len(queries)


def squared(a, b):
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))


def lloyd(points, centroids, assignments):
    """The new centroids of one iteration, given the assignments to the old ones; empty clusters re-seeded, farthest first."""
    distances = [squared(p, centroids[a]) for p, a in zip(points, assignments, strict=True)]
    farthest = sorted(range(len(points)), key=lambda i: -distances[i])
    new = []
    for cluster, old in enumerate(centroids):
        members = [p for p, a in zip(points, assignments, strict=True) if a == cluster]
        if members:
            new.append([sum(column) / len(members) for column in zip(*members, strict=True)])
        else:
            candidate = farthest.pop(0)
            new.append(list(points[candidate]) if distances[candidate] > 0 else list(old))
    return new


def best_inertia(points, n_clusters):
    """The least sum of squares over all partitions into at most n_clusters parts."""
    best = math.inf

    def extend(assignments, used):
        nonlocal best
        if len(assignments) == len(points):
            total = 0.0
            for cluster in range(used):
                members = [p for p, a in zip(points, assignments, strict=True) if a == cluster]
                centre = [sum(column) / len(members) for column in zip(*members, strict=True)]
                total += sum(squared(p, centre) for p in members)
            best = min(best, total)
            return
        for cluster in range(min(used + 1, n_clusters)):
            extend([*assignments, cluster], max(used, cluster + 1))

    extend([], 0)
    return best


def info_nce(query, key, queue, temperature):
    """One term of Eq. 17; keys are unit vectors already."""
    norm = math.sqrt(sum(x * x for x in query))

    def similarity(other):
        return sum(x * y for x, y in zip(query, other, strict=True)) / norm

    positive = math.exp(similarity(key) / temperature)
    negatives = sum(math.exp(similarity(negative) / temperature) for negative in queue)
    return -math.log(positive / (positive + negatives))
