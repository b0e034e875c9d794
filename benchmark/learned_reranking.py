"""Time of re-ranking by CVNet and by RRT, beside the published way: one candidate at a time, all correlations, all tokens of all layers.

    python benchmark/learned_reranking.py --candidates 20 100 --threads 1 --cpu-time

Weights and images are random, which changes no time. The three ways take turns; "alone" is ours with one candidate a call. The published
way is written anew here, with the same weights; "max error" is how far its scores are from ours. Memory is that of one image in a map.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ros2_loc.cli.console import milliseconds, table
from ros2_loc.core.camera import Camera
from ros2_loc.core.pose import Pose
from ros2_loc.core.types import Candidate, Frame, LocalFeatures, PlaceEvidence
from ros2_loc.models import cvnet, rrt
from ros2_loc.models.cvnet import AREAS, CenterPivot, CvNet
from ros2_loc.models.rrt import Rrt
from ros2_loc.models.weights import save_model
from ros2_loc.retrieval.rerankers.cvnet import Cvnet
from ros2_loc.retrieval.rerankers.rrt import RerankingTransformer

ABOUT = {"recipe": "random", "seed": 0, "licence": "Apache-2.0"}
Score = Callable[[PlaceEvidence, Sequence[PlaceEvidence]], np.ndarray]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], epilog=__doc__.partition("\n")[2])
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--candidates", type=int, nargs="+", default=[20, 100])
    parser.add_argument("--size", type=int, nargs=2, default=(512, 384), metavar=("WIDTH", "HEIGHT"), help="of CVNet's images, px")
    parser.add_argument("--keypoints", type=int, default=500, help="of RRT's images")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cpu-time", action="store_true", help="the processor's time instead of the clock's (all threads together)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for count in arguments.candidates:
            for make in (of_cvnet, of_rrt):
                rows.append(compare(*make(Path(folder), arguments), count, arguments.rounds, clock))
                print(table(rows, HEADER), flush=True)
    return 0


HEADER = ("network", "candidates", "together", "alone", "ratio", "published way", "ratio", "max error", "kB an image")


def compare(
    name: str, ours: Score, published: Score, evidence: list[PlaceEvidence], count: int, rounds: int, clock: Callable[[], float]
) -> tuple[str, ...]:
    """One row."""
    query, places = evidence[0], [evidence[1 + index % (len(evidence) - 1)] for index in range(count)]
    ways: dict[str, Callable[[], np.ndarray]] = {
        "together": lambda: ours(query, places),
        "alone": lambda: np.concatenate([ours(query, [place]) for place in places]),
        "published": lambda: np.concatenate([published(query, [place]) for place in places]),
    }
    took: dict[str, list[float]] = {way: [] for way in ways}
    scores: dict[str, np.ndarray] = {}
    ours(query, places[:1])
    for _ in range(rounds):
        for way, run in ways.items():
            started = clock()
            scores[way] = run()
            took[way].append(clock() - started)
    best = {way: statistics.median(seconds) for way, seconds in took.items()}
    error = max(float(np.abs(scores[way] - scores["together"]).max()) for way in ways)
    ratios = {way: f"{best[way] / best['together']:.2f}" for way in ways}
    times = {way: milliseconds(seconds) for way, seconds in best.items()}
    cells = [cell for way in ("alone", "published") for cell in (times[way], ratios[way])]
    return name, str(count), times["together"], *cells, f"{error:.1e}", f"{np.mean([one.num_bytes for one in evidence]) / 1e3:.0f}"


def of_cvnet(folder: Path, arguments: argparse.Namespace) -> tuple[str, Score, Score, list[PlaceEvidence]]:
    network = cvnet.random(CvNet.Config(), 0).eval()
    save_model(folder / "cvnet.safetensors", network, ABOUT)
    reranker = Cvnet(Cvnet.Config(weights=str(folder / "cvnet.safetensors"), max_edge_px=0, scales=(1.0,)))
    evidence = [reranker.describe(noise(seed, *arguments.size), None) for seed in range(5)]

    def published(query: PlaceEvidence, places: Sequence[PlaceEvidence]) -> np.ndarray:
        (place,) = places
        with torch.inference_mode():
            logits = all_correlations(network, maps_of(query), maps_of(place))
        cosine = place.arrays["vector"].astype(np.float32) @ query.arrays["vector"].astype(np.float32)
        return np.asarray(cosine + 0.5 * logits.softmax(dim=1)[:, 1].numpy())

    name = f"cvnet {arguments.size[0]}x{arguments.size[1]}"
    return name, lambda query, places: reranker.score(query, candidates(len(places)), places).scores, published, evidence


def of_rrt(folder: Path, arguments: argparse.Namespace) -> tuple[str, Score, Score, list[PlaceEvidence]]:
    network = rrt.random(Rrt.Config(global_dimension=0), 0).eval()
    save_model(folder / "rrt.safetensors", network, ABOUT)
    reranker = RerankingTransformer(RerankingTransformer.Config(weights=str(folder / "rrt.safetensors")))
    evidence = [reranker.describe(None, features(seed, arguments.keypoints)) for seed in range(5)]
    encoder = as_published(network)

    def published(query: PlaceEvidence, places: Sequence[PlaceEvidence]) -> np.ndarray:
        # the published code fills up to 500 and masks
        images = [reranker._batch([one]) for one in (query, *places)]
        with torch.inference_mode():
            tokens, _ = network.sequence(*images)
            valid = torch.ones(tokens.shape[:2], dtype=torch.bool)
            filling = 2 * 502 - tokens.shape[1]
            tokens, valid = functional.pad(tokens, (0, 0, 0, max(0, filling))), functional.pad(valid, (0, max(0, filling)))
            return np.asarray(network.classifier(encoder(tokens, src_key_padding_mask=~valid)[:, 0])[:, 0].numpy())

    name = f"rrt {arguments.keypoints} keypoints"
    return name, lambda query, places: reranker.score(query, candidates(len(places)), places).scores, published, evidence


def maps_of(evidence: PlaceEvidence) -> list[Tensor]:
    return [torch.from_numpy(evidence.arrays[f"map{index}"]).float() for index in range(len(AREAS))]


def all_correlations(network: CvNet, query: list[Tensor], place: list[Tensor]) -> Tensor:
    """Nine 4-D arrays, each resized, then convolutions of all of them."""
    size = (*query[-1].shape[1:], *place[-1].shape[1:])
    whole = torch.stack([resized_4d(torch.einsum("cij,ckl->ijkl", a, b), size) for a in query for b in place])
    x = whole.clamp(min=0)[None]
    verifier = network.verifier
    places_first = verifier.first.over_query.weight.unflatten(1, (3, 3)).transpose(1, 2).flatten(1, 2)
    x = center_pivot(verifier.first, x, places_first)
    for layer in verifier.layers:
        x = center_pivot(layer, x, layer.over_query.weight)
    return verifier.mlp(x.mean(dim=(2, 3, 4, 5)))  # type: ignore[no-any-return]


def resized_4d(x: Tensor, size: tuple[int, ...]) -> Tensor:
    h, w = x.shape[2:]
    first = functional.interpolate(x.flatten(2).permute(2, 0, 1)[None], size[:2], mode="bilinear", align_corners=True)[0]
    second = first.permute(1, 2, 0).reshape(1, -1, h, w)
    return functional.interpolate(second, size[2:], mode="bilinear", align_corners=True).reshape(size)


def center_pivot(layer: CenterPivot, x: Tensor, over_query: Tensor) -> Tensor:
    """(1, C, h, w, h', w')."""
    s, pad = layer.stride, layer.over_query.padding
    parts = []
    for plane, weight, bias in ((0, over_query, layer.over_query.bias), (1, layer.over_place.weight, layer.over_place.bias)):
        less = x[..., ::s, ::s].permute(0, 4, 5, 1, 2, 3) if plane == 0 else x[:, :, ::s, ::s].permute(0, 2, 3, 1, 4, 5)
        y = functional.conv2d(less.contiguous().flatten(0, 2), weight, bias, s, pad).unflatten(0, less.shape[:3])
        parts.append(y.permute(0, 3, 4, 5, 1, 2) if plane == 0 else y.permute(0, 3, 1, 2, 4, 5))
    return functional.relu(layer.norm((parts[0] + parts[1]).contiguous()))


def as_published(network: Rrt) -> nn.Module:
    """PyTorch's own encoder with the same weights."""
    config = network.config
    layer = nn.TransformerEncoderLayer(config.dimension, config.num_heads, config.hidden, dropout=0.0, batch_first=True)
    encoder = nn.TransformerEncoder(layer, config.num_layers).eval()
    with torch.no_grad():
        for theirs, own in zip(encoder.layers, network.layers, strict=True):
            theirs.self_attn.in_proj_weight.copy_(torch.cat([own.query.weight, own.key_value.weight]))
            theirs.self_attn.in_proj_bias.copy_(torch.cat([own.query.bias, own.key_value.bias]))
            pairs = {"self_attn.out_proj": "merge", "linear1": "expand", "linear2": "contract", "norm1": "norm1", "norm2": "norm2"}
            for their_name, own_name in pairs.items():
                theirs.get_submodule(their_name).load_state_dict(own.get_submodule(own_name).state_dict())
    return encoder


def candidates(count: int) -> list[Candidate]:
    return [Candidate(index, 0.5) for index in range(count)]


def noise(seed: int, width: int, height: int) -> Frame:
    image = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Frame(0, image, Camera.pinhole(width, height, width, width, width / 2, height / 2), Pose.identity())


def features(seed: int, count: int) -> LocalFeatures:
    rng = np.random.default_rng(seed)
    descriptors = rng.normal(size=(count, 128)).astype(np.float32)
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    keypoints, ones = rng.uniform(0, 400, (count, 2)).astype(np.float32), np.ones(count, dtype=np.float32)
    return LocalFeatures(keypoints, descriptors, ones, 16.0 * ones, "random", (640, 480))


if __name__ == "__main__":
    raise SystemExit(main())
