"""Small predictors learn which patches may leave at three blocks: hidden by masks in training, taken out at test.

Paper: Rao, Zhao, Liu, Lu, Zhou, Hsieh. DynamicViT: Efficient Vision Transformers with Dynamic Token Sparsification. NeurIPS 2021,
arXiv 2106.02034.

Deviations: by default trained from scratch, without a teacher and at one learning rate, as the arm that Tri-Level E-ViT compares
with; the paper starts from dense weights (`start=dense`), whose training is counted with it. Masks save no arithmetic, so the
ratio is the paper's whatever the target asks for, and the row is off it. Where all patches of an image are hidden their mean is
zero. Attention takes its fused form in blocks that hide nothing, where the masked softmax is the same to about 1e-6.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

import torch
from torch import nn
from torch.nn import functional as F

from reference_impls.parts.vit_attention_masks import masked_softmax
from reference_impls.parts.vit_blocks import compose, heads, merge, strongest
from reference_impls.parts.vit_schedule import prune_blocks
from reference_impls.parts.vit_training import Draws, VitTrainer, trained
from suite.naming import UserError
from tasks.images.recipes import AdamW, Recipe
from tasks.vit_training.networks import Shape, Tokens
from tasks.vit_training.patches import take_patches
from tasks.vit_training.problem import Constant, Same, Trained, VitProblem, asked

__all__ = ["DynamicVit"]

TEMPERATURE = 1.0  #: of the Gumbel softmax
LR, LEAST = 1e-3, 1e-6  #: of the predictors where they start from dense weights, whatever the batch
BACKBONE = 0.01  #: of that rate, what the backbone learns at
WARMUP = 1 / 6  #: of the stage: 5 of 30 epochs, in which the backbone does not move


@dataclass(frozen=True)
class DynamicVit:
    """Settings as in the paper and the released code."""

    version: ClassVar[int] = 1

    keep: float = 0.7  #: share of the patches that stay at a stage, of those that the one before left
    start: Literal["scratch", "dense"] = "scratch"  #: initial weights, or those of a dense training, whose network then teaches
    share: float = 0.1  #: of the epochs, what is trained from dense weights
    ratio_weight: float = 2.0  #: of how far the shares that stay lie from what they should be
    distill_weight: float = 0.5  #: of each of the teacher's two terms: its answers, its features of the patches that stay

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 1:
            raise UserError(f"keep={self.keep:g} is no share of the patches; give one above 0 and at most 1, for example 0.7")
        if self.start not in ("scratch", "dense"):
            raise UserError(f"start={self.start}: choose scratch or dense")
        if not 0 < self.share <= 1:
            raise UserError(f"share={self.share:g} of the epochs cannot be trained; give one above 0 and at most 1")

    def solve(self, problem: VitProblem) -> Trained:
        asked(problem, "train_macs")
        shape, trainer = problem.vit, VitTrainer(problem)
        ratios = stage_ratios(self.keep, len(set(prune_blocks(shape.depth))))
        model, recipe, epochs = problem.network(), problem.recipe, problem.epochs
        teacher, before = None, []
        if self.start == "dense":
            dense = trainer.fit("dense", problem.network(), before=True)
            before = [dense.before("dense")]
            teacher = Teacher(dense.model)
            model.load_state_dict(dense.model.state_dict())
            epochs = max(1, round(self.share * epochs))
            warmup = round(WARMUP * epochs)
            recipe = TwoRates.of(problem, lr=LR, least=LEAST, warmup=warmup, held=warmup)
        with_thinning(model, ratios, problem.run.seed("dynamicvit predictors"))
        fitted = trainer.fit(
            "train",
            model,
            epochs=epochs,
            recipe=recipe,
            loss=Objective(recipe, ratios, self.ratio_weight, self.distill_weight, teacher),
            hooks=Draws(problem.run, "dynamicvit decisions", blocks_of(model)),
        )
        return trained(
            fitted,
            before=before,
            schedule=Constant(shape.full),
            ideal=Same(float(shape.macs(thinned(shape, ratios)))),
            frozen=Same(float(problem.macs(teacher.network))) if teacher else None,
            keeps=Kept(model),
        )


def stage_ratios(keep: float, stages: int = 3) -> tuple[float, ...]:
    """Of all patches the share that stays after each stage: rho, rho^2, rho^3."""
    return tuple(keep ** (stage + 1) for stage in range(stages))


def left(patches: int, ratio: float) -> int:
    """Of all patches how many stay at test: the floor of the plain double product, at least 1."""
    return max(1, int(patches * ratio))


def thinned(shape: Shape, ratios: Sequence[float]) -> Tokens:
    """What the blocks see at test."""
    count, tokens, stages = shape.patches, [], dict(zip(sorted(set(prune_blocks(shape.depth))), ratios, strict=True))
    for block in range(shape.depth):
        if block in stages:
            count = min(count, left(shape.patches, stages[block]))
        tokens.append((count + 1, count + 1))
    return tuple(tokens)


class Predictor(nn.Module):
    """Log-scores that a patch stays and that it goes, from itself and the mean of those that are left (`PredictorLG`)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.in_conv = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU())
        self.out_conv = nn.Sequential(
            nn.Linear(width, width // 2),
            nn.GELU(),
            nn.Linear(width // 2, width // 4),
            nn.GELU(),
            nn.Linear(width // 4, 2),
            nn.LogSoftmax(dim=-1),
        )

    def forward(self, patches: torch.Tensor, decision: torch.Tensor) -> torch.Tensor:
        """(B, N, C) and who is left (B, N, 1) to (B, N, 2), the log-score of staying first."""
        x = self.in_conv(patches)
        own, shared = x.tensor_split([x.shape[-1] // 2], -1)
        mean = (shared * decision).sum(1, keepdim=True) / decision.sum(1, keepdim=True).clamp_min(1)
        return self.out_conv(torch.cat([own, mean.expand_as(shared)], -1))  # type: ignore[no-any-return]


def hard_choice(log_scores: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """1 for patches that stay, 0 for those that go, drawn by log-scores (B, N, 2): (B, N, 1).  Gradients are the soft choice's.

    torch's `gumbel_softmax`, with a stream of its own.
    """
    noise = torch.empty_like(log_scores, dtype=torch.float32).exponential_(generator=generator).log()
    soft = ((log_scores - noise) / TEMPERATURE).softmax(-1)[..., :1]
    hard = (soft >= 0.5).to(soft.dtype)
    return hard - soft.detach() + soft


def policy_softmax(q: torch.Tensor, k: torch.Tensor, policy: torch.Tensor) -> torch.Tensor:
    """Weights of attention (B, H, n, n) where hidden keys count nothing but to themselves; policy (B, n, 1) of 0 and 1."""
    keys = policy[:, None, None, :, 0]
    own = torch.eye(policy.shape[1], device=policy.device, dtype=policy.dtype)
    return masked_softmax(q, k, keys + (1 - keys) * own)


@dataclass(frozen=True)
class Seen:
    """What a training pass has decided, with its gradients."""

    decisions: list[torch.Tensor]  #: of each stage (B, N), 1: stays
    tokens: torch.Tensor  #: of the last block (B, 1 + N, C), before the final norm


class ThinningBlocks(nn.Sequential):
    """timm's blocks in their order, some of them with a predictor: in training it hides patches, at test they go."""

    ratios: Sequence[float] = ()  #: of all patches, what stays after each stage at test
    seed: int = 0  #: of the next training pass's draws
    seen: Seen | None = None  #: of the last training pass
    kept: list[torch.Tensor] | None = None  #: where it is asked for, who stays at each stage at test (B, K), of those that entered

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.hide(x) if self.training else self.drop(x)

    def hide(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 1 + N, C) to the same shape."""
        generator = torch.Generator(x.device).manual_seed(self.seed)
        decision, policy, decisions = x.new_ones(len(x), x.shape[1] - 1, 1), None, []
        block: Any
        for block in self:
            if hasattr(block, "predictor"):
                decision = hard_choice(block.predictor(x[:, 1:], decision), generator) * decision
                decisions.append(decision[..., 0])
                policy = F.pad(decision, (0, 0, 1, 0), value=1.0)
            x = block(x) if policy is None else hidden_step(block, x, policy)
        self.seen = Seen(decisions, x)
        return x

    def drop(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 1 + N, C) to (B, 1 + K, C)."""
        patches, ratios = x.shape[1] - 1, iter(self.ratios)
        block: Any
        for block in self:
            if hasattr(block, "predictor"):
                stay, count = left(patches, next(ratios)), x.shape[1] - 1
                if stay < count:
                    score = block.predictor(x[:, 1:], x.new_ones(len(x), count, 1))[..., 0]
                    index = strongest(score, stay)
                    x = take_patches(x, index)
                    if self.kept is not None:
                        self.kept.append(index)
            x = block(x)
        return x

    def __getstate__(self) -> dict[str, Any]:
        """A copy knows nothing of the last pass, whose tensors cannot be copied."""
        return {**self.__dict__, "seen": None}


class Kept(nn.Module):
    """Which patches a network keeps to its end at test: images to numbers of patches (B, K) int64."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        blocks = blocks_of(self.model)
        patches = cast("Any", self.model).patch_embed.num_patches
        blocks.kept = [torch.arange(patches, device=x.device).expand(len(x), -1)]
        try:
            self.model(x)
            return compose(blocks.kept)
        finally:
            blocks.kept = None


def hidden_step(block: Any, x: torch.Tensor, policy: torch.Tensor) -> torch.Tensor:
    """timm's block under a policy (B, n, 1)."""
    q, k, v = heads(block.attn, block.norm1(x))
    weights = policy_softmax(q, k, policy)
    x = x + block.drop_path1(block.ls1(merge(block.attn, weights.to(v.dtype) @ v)))
    return x + block.drop_path2(block.ls2(block.mlp(block.norm2(x))))  # type: ignore[no-any-return]


def with_thinning(model: Any, ratios: Sequence[float], seed: int) -> nn.Module:
    """Give a plain ViT predictors, initialised by a seed as its linear layers are, at `prune_blocks`; returns it."""
    model.blocks = blocks = ThinningBlocks(*model.blocks)
    blocks.ratios = tuple(ratios)
    at = next(model.parameters()).device
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for number in sorted(set(prune_blocks(len(blocks)))):
            predictor = Predictor(model.embed_dim)
            for layer in predictor.modules():
                if isinstance(layer, nn.Linear):
                    nn.init.trunc_normal_(layer.weight, std=0.02)
                    nn.init.zeros_(layer.bias)
            cast("Any", blocks[number]).predictor = predictor.to(at)
    return model.train(model.training)  # type: ignore[no-any-return]


def blocks_of(model: nn.Module) -> ThinningBlocks:
    """Also of a network that is wrapped for several processes."""
    return next(m for m in model.modules() if isinstance(m, ThinningBlocks))


class Teacher(nn.Module):
    """A network that does not learn: images to logits (B, classes) and features (B, 1 + N, C) after the final norm."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.train(False)

    def train(self, mode: bool = True) -> Teacher:
        """It stays in evaluation mode."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        network = cast("Any", self.network)
        features = network.forward_features(images)
        return network.forward_head(features), features


class Watched:
    """A network that notes the images that it is asked, augmented and mixed, and its answers."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(x)
        self.images, self.logits = x, logits
        return logits


@dataclass(frozen=True)
class Objective:
    """The loss of a training step; it can be pickled."""

    recipe: Recipe
    ratios: Sequence[float]  #: of all patches, what should stay after each stage
    ratio_weight: float = 2.0
    distill_weight: float = 0.5
    teacher: Teacher | None = None

    def __call__(self, model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        watched, blocks = Watched(model), blocks_of(model)
        loss = self.recipe.loss(cast("nn.Module", watched), x, y)
        seen, blocks.seen = blocks.seen, None
        assert seen is not None
        loss = loss + self.ratio_weight / len(self.ratios) * ratio_term(seen.decisions, self.ratios)
        if self.teacher is None:
            return loss
        network = cast("Any", getattr(model, "module", model))  # out of its wrapper for several processes
        logits, features = self.teacher(watched.images)
        tokens = token_term(network.norm(seen.tokens)[:, 1:], features[:, 1:], seen.decisions[-1])
        return loss + self.distill_weight * (logit_term(watched.logits, logits) + tokens)


def ratio_term(decisions: Sequence[torch.Tensor], ratios: Sequence[float]) -> torch.Tensor:
    """Squared distance of the share that stays of an image (decisions (B, N)) from what it should be: images' mean, stages' sum."""
    return torch.stack([((d.mean(1) - ratio) ** 2).mean() for d, ratio in zip(decisions, ratios, strict=True)]).sum()


def logit_term(logits: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """KL(teacher || student) of (B, classes), the images' mean."""
    return F.kl_div(logits.log_softmax(-1), teacher.log_softmax(-1), reduction="batchmean", log_target=True)


def token_term(tokens: torch.Tensor, teacher: torch.Tensor, decision: torch.Tensor) -> torch.Tensor:
    """Mean squared difference of the patches (B, N, C) that stay at the last stage, all images' together; 0 where none does."""
    stays = (decision.detach() > 0.5).to(tokens.dtype)
    return (((tokens - teacher) ** 2).mean(-1) * stays).sum() / stays.sum().clamp_min(1)


@dataclass(frozen=True)
class TwoRates(AdamW):
    """Predictors learn at the schedule's rate, the backbone at a hundredth of it, and not at all at first."""

    held: int = 0  #: epochs in which the backbone does not move

    def optimizer(self, model: nn.Module) -> torch.optim.AdamW:
        predictors = {id(p) for n, p in model.named_parameters() if ".predictor." in n}
        groups = [
            {
                "params": [p for p in group["params"] if (id(p) in predictors) == own],
                "weight_decay": group["weight_decay"],
                "predictors": own,
            }
            for group in super().optimizer(model).param_groups
            for own in (True, False)
        ]
        return torch.optim.AdamW([g for g in groups if g["params"]], self.lr, self.betas, self.eps)

    def set_rate(self, optimizer: torch.optim.Optimizer, epoch: float, epochs: int, unit: float = 1.0) -> None:
        rate = self.rate(epoch, epochs, unit)
        backbone = 0.0 if epoch < self.held else BACKBONE * rate
        for group in optimizer.param_groups:
            group["lr"] = rate if group["predictors"] else backbone
