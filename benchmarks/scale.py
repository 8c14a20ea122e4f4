"""What a run of any size takes of each rank: memory, traffic, arithmetic; and a check of the traffic on real processes.

python benchmarks/scale.py            # the two accounts of docs/scale.md, by formula
python benchmarks/scale.py --check    # 2 and 4 processes on the digits: bytes counted against the formula
"""

import argparse
import math
from typing import NamedTuple

FLOAT, INT = 4, 8  # bytes
FLOPS, NODE_LINK, NET_LINK = 60e12, 200e9, 25e9  # a rank's assumed arithmetic per second, bytes per second; not measured


class Run(NamedTuple):
    """n images of side px into k clusters, features d wide; flops: operations of one image forward."""

    n: int
    k: int
    ranks: int
    batch: int
    px: int
    d: int = 256
    parameters: int = 28_000_000
    flops: float = 7.3e9
    restarts: int = 10
    iterations: int = 100


def step_traffic(r: Run, batch_norms: int = 0) -> int:
    """Bytes a rank hands to the collectives in one step: keys and indices of two directions, gradients, metrics.

    `batch_norms`: numbers summed by batch norm, forward and backward.
    """
    share = math.ceil(r.batch / r.ranks)
    return 2 * share * (r.d * FLOAT + INT) + (r.parameters + 2) * FLOAT + batch_norms * FLOAT


def kmeans_traffic(r: Run) -> int:
    """Bytes a rank hands to the collectives in one iteration of Lloyd: sums in fixed point, and counts."""
    return r.restarts * r.k * (r.d + 1) * INT


def account(r: Run) -> dict[str, str]:
    """The lines of the account, per rank."""
    own, link = math.ceil(r.n / r.ranks), NODE_LINK if r.ranks <= 8 else NET_LINK
    candidates = 2 + int(math.log(r.k))
    forward_backward = 8 * r.flops * r.batch / r.ranks  # two views: online forward and backward (3), target forward (1)
    neighbours = 2 * (2 * r.batch**2 * r.d + 6 * r.batch**3)
    lloyd = 2 * own * r.k * r.restarts * r.d
    start = 2 * own * r.k * r.restarts * candidates * r.d
    sums, steps = r.iterations * kmeans_traffic(r), r.n // r.batch
    return {
        "pixels, all on one device": size(r.n * 3 * r.px**2),
        "pixels, this rank's share": size(own * 3 * r.px**2),
        "features of its share": size(own * r.d * FLOAT),
        "assignments of all images": size(r.n * INT),
        "k-means, sums, members and bounds": size(kmeans_traffic(r) + r.restarts * own * (INT + 2 * FLOAT)),
        "k-means++, distances to the candidates": size(own * r.restarts * candidates * FLOAT),
        "neighbours, six b x b matrices": size(6 * r.batch**2 * FLOAT),
        "step, traffic": f"{size(step_traffic(r))}, {2 * step_traffic(r) / link * 1e3:.0f} ms",
        "step, networks": f"{forward_backward:.2g} operations, {forward_backward / FLOPS * 1e3:.0f} ms",
        "step, neighbours (dense, on every rank)": f"{neighbours:.2g} operations, {neighbours / FLOPS * 1e3:.0f} ms",
        "epoch, steps": f"{steps:,}",
        "epoch, features": f"{own * r.flops:.2g} operations, {own * r.flops / FLOPS:.0f} s",
        "epoch, k-means++": f"{start:.2g} operations, {start / FLOPS:.1f} s, {r.k:,} rounds of 3 messages",
        "epoch, Lloyd": f"{r.iterations * lloyd:.2g} operations, {r.iterations * lloyd / FLOPS:.0f} s",
        "epoch, Lloyd's traffic": f"{size(sums)}, {2 * sums / link:.1f} s",
    }


def size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


ACCOUNTS = {
    "1.28 M images, 1,000 clusters, 8 GPUs": Run(1_281_167, 1_000, 8, 4_096, 224),
    "100 M images, 10,000 clusters, 64 GPUs": Run(100_000_000, 10_000, 64, 16_384, 224),
}


def counted(ranks: object, send: object, batch: int) -> None:
    """On a rank: one step, and one k-means of two lengths, with every byte given to a collective counted."""
    import torch
    import torch.distributed as dist
    from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

    from connr import experiment, recipe
    from connr.clustering.kmeans import kmeans
    from connr.data import open_images
    from connr.distributed.batch_norm import synchronise
    from connr.engine import update
    from connr.engine.optimizers import optimizer_for
    from connr.engine.update import distributed
    from connr.methods import Batch, Context

    handed = [0]

    def counting(real: object) -> object:
        def told(*arguments: object, **named: object) -> object:
            tensor = arguments[-1]
            handed[0] += tensor.numel() * tensor.element_size()  # type: ignore[attr-defined]
            return real(*arguments, **named)  # type: ignore[operator]

        return told

    dist.all_reduce, dist.all_gather = counting(dist.all_reduce), counting(dist.all_gather)

    def bytes_of(what: object) -> int:
        handed[0] = 0
        what()  # type: ignore[operator]
        return handed[0]

    r = recipe.load("digits", [f"train.batch_size={batch}"])
    images, plan, method = open_images("digits", 8, 1), experiment.plan_for(r, [0.5], [0.25]), experiment.build(r)
    parameters = sum(p.numel() for group in method.parameter_groups().values() for p in group)
    own = ranks.share(batch)  # type: ignore[attr-defined]
    pixels = images.images[:batch][own]

    def shared_method() -> torch.nn.Module:
        """The method in DDP, whose gradients are counted as they leave."""
        shared = distributed(method, ranks, find_unused_parameters=False)  # type: ignore[arg-type]

        def hook(_: object, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
            handed[0] += bucket.buffer().numel() * bucket.buffer().element_size()
            return allreduce_hook(dist.group.WORLD, bucket)

        shared.register_comm_hook(None, hook)  # type: ignore[operator]
        return shared

    def step() -> None:
        views, phase = {name: plan.normalise(pixels) for name in ("one", "other")}, method.phases()[0]
        context = Context(phase.name, 0, plan.epochs, 0, batch, communicator=ranks)
        rows = Batch(views, torch.arange(batch)[own])
        update(method, optimizer_for(method, plan.optimizer), rows, context, 0.5, step=shared)

    shared = shared_method()
    plain = bytes_of(step)
    synchronise(method, ranks)
    shared = shared_method()
    norms = bytes_of(step) - plain
    generator = torch.Generator().manual_seed(ranks.rank)  # type: ignore[attr-defined]
    features = torch.nn.functional.normalize(torch.randn(200, 32, generator=generator), dim=1)

    def clusters(iterations: int) -> None:
        kmeans(features, 10, restarts=5, max_iterations=iterations, tolerance=-1.0, communicator=ranks)

    lloyd = (bytes_of(lambda: clusters(12)) - bytes_of(lambda: clusters(2))) / 10
    if ranks.rank == 0:  # type: ignore[attr-defined]
        send("counted", parameters, plain, norms, lloyd)  # type: ignore[operator]


def check(batch: int = 128) -> bool:
    """Runs `counted` on 2 and 4 processes, and prints it beside the formula."""
    from connr.distributed.launch import run_in_processes

    right = True
    for count in (2, 4):
        found: list[tuple[int, int, int, float]] = []
        run_in_processes(count, "cpu", counted, (batch,), lambda _, *values, to=found: to.append(values))
        parameters, step, norms, lloyd = found[0]
        run = Run(1797, 10, count, batch, 8, d=128, parameters=parameters)
        iteration = kmeans_traffic(run._replace(d=32, restarts=5))
        right &= (step, lloyd) == (step_traffic(run), iteration)
        print(
            f"{count} processes, a step: {step:,} bytes counted, {step_traffic(run):,} by formula; batch norm {norms:,} more"
        )
        print(f"{count} processes, an iteration of k-means: {lloyd:,.0f} bytes counted, {iteration:,} by formula")
    return right


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    if parser.parse_args().check:
        raise SystemExit(not check())
    names = list(account(next(iter(ACCOUNTS.values()))))
    print(f"| of each rank | {' | '.join(ACCOUNTS)} |\n|---|{'---|' * len(ACCOUNTS)}")
    for name in names:
        print(f"| {name} | {' | '.join(account(r)[name] for r in ACCOUNTS.values())} |")


if __name__ == "__main__":
    main()
