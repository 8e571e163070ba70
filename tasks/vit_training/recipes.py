"""How the networks of this task are trained: one recipe a tier and family of networks, for any number of epochs."""

from __future__ import annotations

from tasks.images.recipes import AdamW

SWIN_CLIP = 5.0  #: largest norm of a step's gradient where Swin is trained as its authors do


def recipe(tier: str, architecture: str, batch: int, epochs: int) -> AdamW:
    """The recipe of a training of so many epochs: its warm-up is a share of them, and it falls to its end within them."""
    if tier != "paper":
        return _small(epochs)
    if architecture.startswith("swin"):
        scale = batch / 512
        return AdamW(5e-4 * scale, warmup=_of(20, epochs), warmup_from=5e-7 * scale, least=5e-6 * scale)
    return AdamW(5e-4 * batch / 512, warmup=_of(5, epochs))


def clip(tier: str, architecture: str) -> float | None:
    """The largest norm that a step's gradient is cut to; None: it is not cut."""
    return SWIN_CLIP if tier == "paper" and architecture.startswith("swin") else None


def _small(epochs: int) -> AdamW:
    """AdamW for small sets: the rate of epoch e of the warm-up's W is lr (e + 1) / (W + 1)."""
    rate, warmup = 1e-3, max(1, round(epochs / 60))
    return AdamW(rate, warmup=warmup, warmup_from=rate / (warmup + 1), least=rate / 100)


def _of(warmup: int, epochs: int) -> int:
    """Of a warm-up in 300 epochs, the part that belongs to so many; at least one."""
    return max(1, round(warmup * epochs / 300))
