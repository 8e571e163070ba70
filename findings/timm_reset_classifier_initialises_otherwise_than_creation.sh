#!/usr/bin/env bash
# timm 1.0.31 (torch 2.13.0, torchvision 0.28.0, CPython 3.11): a network created for 10 classes and one that was created for
# 1,000 and then had reset_classifier(10) begin from different heads.  Creation draws the weights from a truncated normal of 0.02
# (0 under weight_init="jax") and the biases 0; reset_classifier leaves torch's own initialisation of a Linear, uniform weights of
# twice that spread at width 192 and four times at width 48, and biases that are not 0, whatever weight_init the network was
# created with.  Seeds and all other weights can be the same, and two arms of a comparison still start apart.
# Exits 0 while that is so, 1 when it changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip --disable-pip-version-check --quiet install \
  torch==2.13.0 torchvision==0.28.0 timm==1.0.31 >/dev/null 2>&1
cat >"$work/ask.py" <<'PY'
import torch

try:
    import torchvision
except RuntimeError:  # beside a CPU build of torch its operators do not load; timm needs their names alone
    names = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        names.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
import timm

torch.manual_seed(0)
for name, options in (
    ("deit_tiny_patch16_224", {}),
    ("deit_tiny_patch16_224", {"embed_dim": 48}),
    ("deit_tiny_patch16_224", {"weight_init": "jax"}),
    ("swin_tiny_patch4_window7_224", {}),
):
    model = timm.create_model(name, num_classes=1000, **options)
    told = []
    for _ in range(2):
        head = model.get_classifier()
        told.append(f"{head.weight.std():.2f} {bool(head.bias.any())}")
        model.reset_classifier(1000)
    print(name.split("_")[0], *options.values(), *told)
PY
saw=$("$work/venv/bin/python" -W ignore "$work/ask.py" 2>/dev/null)
printf 'standard deviation of the head, whether it has a bias: as created, as reset\n%s\n' "$saw"
[ "$saw" = "deit 0.02 False 0.04 True
deit 48 0.02 False 0.08 True
deit jax 0.00 False 0.04 True
swin 0.02 False 0.02 True" ]
