"""Trains ``narrow_resnet50.rendered`` on rendered faces: ``python scripts/train_rendered_backbone.py DIR``.

It made the bundled weights once, as their card says, from a checkout of the repository. People, clips and
random streams come from the namespace ``backbone``; the embedded corpus uses ``corpus``, so they never meet.
"""

import argparse
import hashlib
import json
import logging
import math
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from extract.backbones.narrow_resnet50 import ARCHITECTURE
from extract.backbones.registry import BACKBONES
from extract.corpora.rendered import action
from extract.corpora.rendered.camera import draw_setting, film
from extract.corpora.rendered.face import draw_face
from extract.corpora.rendered.identity import draw_identity, generator
from stores import commit
from stores.editions import AU_12, EXPR_8
from stores.errors import ConfigError

logger = logging.getLogger(__name__)

FEATURES = BACKBONES["narrow_resnet50"].dim
PIXELS = 112
PER_PERSON = 8


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides the weights.

    Attributes:
        seed: names the random streams.
        people: rendered identities, ``PER_PERSON`` pictures each.
        stages: (edge in pixels, pictures seen) in order; resolution grows.
        batch_size, lr, weight_decay: of AdamW with one cosine cycle after a linear warm-up of 3 %.
        finish_lr: the last stage has a cosine cycle of its own from here: the rate of the first cycle is too
            small by then to learn what the new resolution shows.
        average: decay of the moving average of the weights that is kept.
    """

    seed: int = 1
    people: int = 5000
    stages: tuple[tuple[int, int], ...] = ((64, 200_000), (96, 40_000), (112, 20_000))
    batch_size: int = 64
    lr: float = 2e-3
    finish_lr: float = 6e-4
    weight_decay: float = 0.03
    average: float = 0.998


def render_people(split: str, seed: int, people: range) -> tuple[np.ndarray, np.ndarray]:
    """Draws ``PER_PERSON`` frames of each person.

    Returns:
        Pictures (n, 112, 112, 3) uint8 and AU intensities (n, 12) float32.
    """
    pictures, targets = [], []
    for person in people:
        rng = generator("backbone", seed, split, person)
        who = draw_identity(rng)
        for _ in range(PER_PERSON // 4):
            aus = action.trajectory(rng, 64)
            shots = film(rng, draw_setting(rng), 64)
            for frame in rng.choice(64, 4, replace=False):
                intensities = aus[frame]
                if (
                    rng.random() < 0.25
                ):  # combinations that no prototype makes, so that each AU is seen by itself
                    intensities = rng.uniform(0, 1, 12) * (rng.random(12) < 0.25)
                pictures.append(
                    draw_face(who, dict(zip(AU_12, intensities, strict=True)), shots[frame], PIXELS, rng)
                )
                targets.append(intensities)
    return np.stack(pictures), np.stack(targets).astype(np.float32)


def render_pool(split: str, seed: int, people: int, workers: int) -> tuple[Tensor, Tensor]:
    """All pictures of a split as (n, 3, 112, 112) uint8, and AU intensities (n, 12)."""
    shards = [range(i, min(i + 50, people)) for i in range(0, people, 50)]
    pictures, targets = [], []
    with ProcessPoolExecutor(workers) as pool:
        for done, (x, y) in enumerate(
            pool.map(render_people, [split] * len(shards), [seed] * len(shards), shards)
        ):
            pictures.append(x)
            targets.append(y)
            if done % 20 == 0:
                logger.info("rendering %s: %d of %d shards", split, done + 1, len(shards))
    stacked = torch.from_numpy(np.concatenate(pictures)).permute(0, 3, 1, 2).contiguous()
    return stacked, torch.from_numpy(np.concatenate(targets))


def labels(aus: Tensor) -> dict[str, Tensor]:
    """AU intensities (n, 12) -> occurrence (n, 12), expression (n,) and valence/arousal (n, 2)."""
    values = aus.numpy().astype(np.float64)
    affect = np.stack([action.valence(values), action.arousal(values)], axis=1)
    return {
        "intensity": aus,
        "occurrence": (aus >= action.OCCURRENCE).float(),
        "expression": torch.from_numpy(action.expression(values).astype(np.int64)),
        "affect": torch.from_numpy(affect.astype(np.float32)),
    }


class Pupil(nn.Module):
    """The narrow ResNet50 with four linear heads that are thrown away after training."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = ARCHITECTURE(zero_init_residual=True)
        self.trunk.fc = nn.Identity()
        self.heads = nn.ModuleDict(
            {
                "intensity": nn.Linear(FEATURES, len(AU_12)),
                "occurrence": nn.Linear(FEATURES, len(AU_12)),
                "expression": nn.Linear(FEATURES, len(EXPR_8)),
                "affect": nn.Linear(FEATURES, 2),
            }
        )

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        """(B, 3, S, S) normalised pictures -> the four predictions."""
        features = self.trunk(pictures)
        return {name: head(features) for name, head in self.heads.items()}


def loss(outputs: dict[str, Tensor], wanted: dict[str, Tensor]) -> Tensor:
    """Sum of the four losses, scaled to similar size at the start of training."""
    intensity = F.mse_loss(outputs["intensity"], wanted["intensity"]) * 8
    occurrence = F.binary_cross_entropy_with_logits(outputs["occurrence"], wanted["occurrence"]) * 2
    expression = F.cross_entropy(outputs["expression"], wanted["expression"]) * 0.5
    affect = F.mse_loss(outputs["affect"], wanted["affect"]) * 4
    return intensity + occurrence + expression + affect


def augment(pictures: Tensor, size: int, rng: torch.Generator) -> Tensor:
    """(B, 3, 112, 112) uint8 -> (B, 3, size, size) float in about [-1, 1]: shift, zoom, turn, flip, light."""
    n = len(pictures)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=rng) * (high - low) + low

    zoom, angle = uniform(0.9, 1.08, n), uniform(-0.12, 0.12, n)
    flip = torch.where(torch.rand(n, generator=rng) < 0.5, -1.0, 1.0)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0], theta[:, 0, 1] = zoom * torch.cos(angle) * flip, -zoom * torch.sin(angle)
    theta[:, 1, 0], theta[:, 1, 1] = zoom * torch.sin(angle) * flip, zoom * torch.cos(angle)
    theta[:, :, 2] = uniform(-0.08, 0.08, n, 2)
    x = pictures.float().sub_(127.5).div_(127.5)
    if size < PIXELS:
        x = F.interpolate(x, (size, size), mode="bilinear", antialias=True, align_corners=False)
    grid = F.affine_grid(theta, [n, 3, size, size], align_corners=False)
    x = F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    x = x * uniform(0.75, 1.25, n, 1, 1, 1) + uniform(-0.15, 0.15, n, 3, 1, 1)
    for i in torch.nonzero(torch.rand(n, generator=rng) < 0.25).flatten().tolist():
        top, left = (torch.rand(2, generator=rng) * size * 0.8).int().tolist()
        edge = int(size * (0.1 + 0.2 * float(torch.rand(1, generator=rng))))
        x[i, :, top : top + edge, left : left + edge] = uniform(-1, 1, 3, 1, 1)
    return (x + torch.randn(x.shape, generator=rng) * 0.03).contiguous(memory_format=torch.channels_last)


def rate_at(recipe: Recipe, step: int) -> float:
    """The learning rate of one step."""
    steps = [seen // recipe.batch_size for _, seen in recipe.stages]
    finish = sum(steps[:-1])
    if step >= finish:
        return recipe.finish_lr * 0.5 * (1 + math.cos(math.pi * (step - finish) / steps[-1]))
    share = step / sum(steps)
    return recipe.lr * min(1.0, share / 0.03 + 1e-3) * 0.5 * (1 + math.cos(math.pi * share))


def train(recipe: Recipe, folder: Path, device: str, workers: int) -> Pupil:
    """Trains by ``recipe``; leaves a checkpoint in ``folder`` every 500 steps and resumes from it.

    Raises:
        ConfigError: ``folder`` holds a training by another recipe.
    """
    recipe_path, described = folder / "recipe.json", json.dumps(asdict(recipe))
    if recipe_path.exists() and recipe_path.read_text(encoding="utf-8") != described:
        msg = f"{folder} holds a training by another recipe ({recipe_path}), expected {described}: empty it"
        raise ConfigError(msg)
    recipe_path.write_text(described, encoding="utf-8")
    torch.manual_seed(recipe.seed)
    pool_path = folder / "pool.pt"
    if pool_path.exists():
        pictures, aus = torch.load(pool_path, weights_only=True)
    else:
        pictures, aus = render_pool("train", recipe.seed, recipe.people, workers)
        _save((pictures, aus), pool_path)
    wanted = labels(aus)
    logger.info("%d pictures; expressions %s", len(pictures), torch.bincount(wanted["expression"]).tolist())
    net = Pupil().to(memory_format=torch.channels_last).to(device)
    decay = [p for p in net.parameters() if p.ndim > 1]
    rest = [p for p in net.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": recipe.weight_decay}, {"params": rest, "weight_decay": 0.0}],
        lr=recipe.lr,
    )
    plan = [size for size, seen in recipe.stages for _ in range(seen // recipe.batch_size)]
    kept = {name: value.detach().clone() for name, value in net.state_dict().items()}
    state_path, first = folder / "training.pt", 0
    if state_path.exists():
        state = torch.load(state_path, weights_only=True)
        net.load_state_dict(state["net"])
        optimizer.load_state_dict(state["optimizer"])
        kept, first = state["kept"], int(state["step"])
        logger.info("resuming at step %d", first)
    per_epoch = len(pictures) // recipe.batch_size
    started, recent = time.monotonic(), 0.0
    for step in range(first, len(plan)):
        epoch, within = divmod(step, per_epoch)
        order = torch.randperm(
            len(pictures), generator=torch.Generator().manual_seed(recipe.seed * 1000 + epoch)
        )
        rows = order[within * recipe.batch_size : (within + 1) * recipe.batch_size]
        rng = torch.Generator().manual_seed(recipe.seed * 1_000_000 + step)
        for group in optimizer.param_groups:
            group["lr"] = rate_at(recipe, step)
        net.train()
        outputs = net(augment(pictures[rows], plan[step], rng).to(device))
        total = loss(outputs, {name: value[rows].to(device) for name, value in wanted.items()})
        optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimizer.step()
        keep = min(recipe.average, (1 + step) / (10 + step))
        with torch.no_grad():
            for name, value in net.state_dict().items():
                if value.is_floating_point():
                    kept[name].lerp_(value, 1 - keep)
                else:
                    kept[name].copy_(value)
        recent = 0.98 * recent + 0.02 * float(total.detach()) if step > first else float(total.detach())
        if (step + 1) % 100 == 0:
            rate = (step + 1 - first) * recipe.batch_size / (time.monotonic() - started)
            logger.info(
                "step %d of %d, %d px, loss %.4f, %.0f pictures/s",
                step + 1,
                len(plan),
                plan[step],
                recent,
                rate,
            )
        if (step + 1) % 500 == 0:
            state = {
                "net": net.state_dict(),
                "optimizer": optimizer.state_dict(),
                "kept": kept,
                "step": step + 1,
            }
            _save(state, state_path)
    net.load_state_dict(kept)
    return net


def _save(content: object, path: Path) -> None:
    with commit.temporary(path.parent, path.name) as part:
        torch.save(content, part)
        part.replace(path)


def export(net: Pupil, recipe: Recipe, path: Path, minutes: float) -> None:
    """Writes the trunk as float16 safetensors in torchvision's names, and its card beside it."""
    tensors = {
        name: value.detach().cpu().half().contiguous()
        for name, value in net.trunk.state_dict().items()
        if value.is_floating_point()
    }
    save_file(tensors, path)
    card = {
        "backbone": "narrow_resnet50",
        "weights": "rendered",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "trained_on": ["rendered faces"],
        "licence": "MIT",
        "for": "the embedded corpus only; it has never seen a photograph",
        "trained_with": "python scripts/train_rendered_backbone.py",
        "recipe": asdict(recipe),
        "minutes": round(minutes, 1),
        "torch": torch.__version__,
    }
    path.with_suffix(".json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Parses the command line, trains, and writes the weights and the recipe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where checkpoints and the finished weights go")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--workers", type=int, default=2, help="processes that render")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="share of the recipe's pictures to see (for a trial)"
    )
    chosen = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    recipe = Recipe()
    if chosen.scale != 1.0:
        stages = tuple((size, int(seen * chosen.scale)) for size, seen in recipe.stages)
        recipe = Recipe(people=int(recipe.people * min(1.0, chosen.scale)), stages=stages)
    chosen.folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    net = train(recipe, chosen.folder, chosen.device, chosen.workers)
    minutes = (time.monotonic() - started) / 60
    export(net, recipe, chosen.folder / "narrow_resnet50.rendered.safetensors", minutes)


if __name__ == "__main__":
    main()
