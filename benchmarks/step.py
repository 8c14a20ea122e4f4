"""A training step, and its parts: BYOL and ConNR here beside lightly's BYOL loop and the bare encoder, turn about.

python benchmarks/step.py [--network resnet18] [--batch 256] [--rounds 3] [--precision 32-true] [--compile] [--json FILE]

Same encoder (torchvision's ResNet-18 with the stem for small images), widths of the heads, batch, precision, and strengths of
augmentation; images of 32 px, made up. lightly's loop is that of its BYOL example, with its transforms (Pillow, torchvision)
in the same process. *bare* is the online encoder alone, both views forward and backward, already tensors; *encoders* has the
target's forward passes besides, without which there is no BYOL.
"""

import argparse
import copy
import json
import platform
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from connr import experiment, recipe
from connr.losses import group_mean
from connr.reproduce.steps import first_step

NETWORKS = {  # settings that turn the recipe of CIFAR-10 into one with this network
    "resnet18": [],
    "small": ["backbone={name: small, width: 32, stages: 3}", "method.base.hidden=512", "method.base.out=128"],
}
SIZE = 32


class Ours:
    """Steps of both phases and their parts, on the recipe of CIFAR-10."""

    def __init__(self, network: str, batch: int, precision: str, compiled: bool) -> None:
        self.recipe = recipe.load("cifar10", [*NETWORKS[network], f"train.batch_size={batch}", f"train.precision={precision}"])
        self.steps = first_step(self.recipe, batch)
        self.method, self.base = self.steps.method, self.steps.method.base
        if compiled:
            for network in self.method.networks():
                network.compile()
        self.autocast, self.pixels, self.generator = autocast(precision), self.steps.pixels, self.steps.generator
        self.indices = torch.arange(batch)

    def views(self) -> tuple[Tensor, Tensor]:
        one, other = self.steps.views(self.steps.phases[0]).values()
        return one, other

    def step(self, phase: int) -> None:
        self.steps.run(self.steps.phases[phase], autocast=self.autocast)

    def encoders(self, with_target: bool) -> Callable[[], None]:
        """Both views through the online encoder, forward and backward, and through the target's, forward."""
        views, online, target = self.views(), self.base.online[0], self.base.target[0]

        def encoders() -> None:
            with self.autocast():
                total = sum(online(view).float().square().mean() for view in views)
                with torch.no_grad():
                    for view in views if with_target else ():
                        target(view)
            total.backward()
            self.steps.optimizer.zero_grad()

        return encoders

    def parts(self) -> dict[str, Callable[[], object]]:
        """What a step consists of beside the encoders, each on its own."""
        width, section = self.recipe.method.base.out, self.recipe.method.group
        keys = nn.functional.normalize(torch.randn(len(self.indices), width, generator=self.generator), dim=1)
        queries = torch.randn(len(self.indices), width, generator=self.generator, requires_grad=True)
        context, neighbourhood = self.steps.context(self.steps.phases[1]), section.neighbourhood.build()
        anchors = section.anchors.build(context.clusters, context.epoch, context.epoch, context.epochs)
        neighbours, kept = neighbourhood(keys), anchors(keys, self.indices)
        features = [self.base.online[0](self.views()[0]).detach() for _ in range(2)]

        def heads() -> None:
            with self.autocast():
                total = sum(self.base.predictor(self.base.online[1](part)).float().square().mean() for part in features)
                with torch.no_grad():
                    for part in features:
                        self.base.target[1](part)
            total.backward()

        def loss() -> None:
            for _ in range(2):
                group_mean(self.base.pair_loss(queries, keys[neighbours]), kept).backward()

        for parameter in self.method.parameters():
            parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
        gradients = [p.grad for p in self.method.parameters() if p.grad is not None]
        return {
            "augmentation": self.views,
            "heads": heads,
            "neighbours": lambda: [neighbourhood(keys) for _ in range(2)],
            "anchor filter": lambda: [anchors(keys, self.indices) for _ in range(2)],
            "loss": loss,
            "norm of the gradient": lambda: get_total_norm(gradients),
            "optimiser": self.steps.optimizer.step,
            "target network": partial(self.method.after_step, 0.5),
        }


class Lightly:
    """The loop of lightly's BYOL example, around the same encoder."""

    def __init__(self, ours: Ours) -> None:
        from lightly.loss import NegativeCosineSimilarity
        from lightly.models.modules import BYOLPredictionHead, BYOLProjectionHead
        from lightly.models.utils import deactivate_requires_grad
        from lightly.transforms.byol_transform import BYOLTransform, BYOLView1Transform

        width, hidden, out = 512, ours.recipe.method.base.hidden, ours.recipe.method.base.out
        self.backbone = copy.deepcopy(experiment.build(ours.recipe).base.online[0]).to(memory_format=torch.contiguous_format)
        if ours.recipe.backbone.name == "small":
            width = ours.recipe.backbone.width * 2 ** (ours.recipe.backbone.stages - 1)
        self.projection, self.prediction = BYOLProjectionHead(width, hidden, out), BYOLPredictionHead(out, hidden, out)
        self.backbone_momentum, self.projection_momentum = copy.deepcopy(self.backbone), copy.deepcopy(self.projection)
        deactivate_requires_grad(self.backbone_momentum)
        deactivate_requires_grad(self.projection_momentum)
        self.criterion, self.autocast = NegativeCosineSimilarity(), ours.autocast
        parameters = [*self.backbone.parameters(), *self.projection.parameters(), *self.prediction.parameters()]
        self.optimizer = torch.optim.SGD(parameters, lr=1e-4, momentum=0.9, weight_decay=5e-4)
        one = {"input_size": SIZE, "gaussian_blur": 0.0, "cj_sat": 0.4}
        self.transform = BYOLTransform(BYOLView1Transform(**one), BYOLView1Transform(**one))
        self.pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in ours.pixels]

    def step(self) -> None:
        from lightly.models.utils import update_momentum

        pairs = [self.transform(picture) for picture in self.pictures]
        x0, x1 = (torch.stack([pair[view] for pair in pairs]) for view in (0, 1))
        update_momentum(self.backbone, self.backbone_momentum, m=0.99)
        update_momentum(self.projection, self.projection_momentum, m=0.99)
        with self.autocast():
            p0, z0 = self.online(x0), self.momentum(x0)
            p1, z1 = self.online(x1), self.momentum(x1)
            loss = 0.5 * (self.criterion(p0, z1) + self.criterion(p1, z0))
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def online(self, x: Tensor) -> Tensor:
        return self.prediction(self.projection(self.backbone(x).flatten(start_dim=1)))

    def momentum(self, x: Tensor) -> Tensor:
        return self.projection_momentum(self.backbone_momentum(x).flatten(start_dim=1)).detach()


def autocast(precision: str) -> Callable:
    return partial(torch.autocast, "cpu", torch.bfloat16) if precision == "bf16-mixed" else nullcontext


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def compare(network: str, batch: int, rounds: int, precision: str, compiled: bool) -> dict:
    """Medians and all rounds of each, and the parts."""
    ours = Ours(network, batch, precision, compiled)
    peers = {
        "bare": ours.encoders(False),
        "encoders": ours.encoders(True),
        "BYOL": partial(ours.step, 0),
        "ConNR": partial(ours.step, 1),
        "lightly": Lightly(ours).step,
    }
    for work in peers.values():
        work()  # warm
    times: dict[str, list[float]] = {name: [] for name in peers}
    names = list(peers)
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            times[name].append(seconds(peers[name]))
    parts = {}
    for name, part in ours.parts().items():
        part()
        parts[name] = statistics.median(seconds(part) for _ in range(max(3, rounds)))
    pairs = [("lightly", "BYOL"), ("lightly", "ConNR"), ("ConNR", "BYOL"), ("ConNR", "encoders"), ("ConNR", "bare")]
    pairs += [("lightly", "bare"), ("encoders", "bare")]
    ratios = {f"{a} / {b}": [x / y for x, y in zip(times[a], times[b], strict=True)] for a, b in pairs}
    return {
        "network": network,
        "batch": batch,
        "precision": precision,
        "compiled": compiled,
        "seconds": {name: statistics.median(all_) for name, all_ in times.items()},
        "ratios": {name: {"median": statistics.median(all_), "all": all_} for name, all_ in ratios.items()},
        "parts": parts,
        "beside_the_encoders": 1 - 1 / statistics.median(ratios["ConNR / encoders"]),
        "parts_beside_the_encoders": sum(parts.values()) / statistics.median(times["ConNR"]),
        "connr_over_byol": (parts["neighbours"] + parts["anchor filter"]) / statistics.median(times["BYOL"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=NETWORKS, default="resnet18")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", choices=["32-true", "bf16-mixed"], default="32-true")
    parser.add_argument("--compile", action="store_true", help="ours through torch.compile, as train.compile does")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    found = compare(arguments.network, arguments.batch, arguments.rounds, arguments.precision, arguments.compile)
    print(f"{arguments.network}, batch {arguments.batch}, {arguments.precision}, {torch.get_num_threads()} threads,")
    print(f"{platform.machine()}, torch {torch.__version__}")
    for name, took in found["seconds"].items():
        print(f"  {name:10s} {took:8.3f} s")
    for name, ratio in found["ratios"].items():
        print(f"  {name:16s} {ratio['median']:.3f} ({min(ratio['all']):.3f}-{max(ratio['all']):.3f})")
    for name, took in found["parts"].items():
        print(f"  {name:22s} {1e3 * took:8.1f} ms, {100 * took / found['seconds']['ConNR']:5.2f} % of a ConNR step")
    print(f"  all beside the encoders {100 * found['beside_the_encoders']:.1f} % of a ConNR step, by difference;")
    print(f"  {100 * found['parts_beside_the_encoders']:.1f} % by the parts.")
    print(f"  ConNR over BYOL {100 * found['connr_over_byol']:.2f} %, by its parts")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
