#!/usr/bin/env bash
# timm 1.0.31 (torch 2.13.0, torchvision 0.28.0, CPython 3.11): the class token of deit_tiny_patch16_224 starts with a standard
# deviation of 1e-6, not the 0.02 of DeiT's recipe that positions and matrices have, whatever weight_init.  In the distilled DeiT
# of the same library the distillation token, which does the same work beside it, starts at 0.02, and so do the class tokens of
# CaiT and VOLO. Whoever trains "DeiT from scratch" by timm starts elsewhere than DeiT's code.
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
    ("deit_tiny_patch16_224", {"weight_init": "jax"}),
    ("deit_tiny_distilled_patch16_224", {}),
    ("cait_xxs24_224", {}),
    ("volo_d1_224", {}),
):
    model = timm.create_model(name, **options)
    found = {key: getattr(model, key, None) for key in ("cls_token", "dist_token", "pos_embed")}
    print(name, *options.values(), {key: f"{value.std():.0e}" for key, value in found.items() if value is not None})
PY
saw=$("$work/venv/bin/python" -W ignore "$work/ask.py" 2>/dev/null)
printf 'standard deviations at the start\n%s\n' "$saw"
[ "$saw" = "deit_tiny_patch16_224 {'cls_token': '1e-06', 'pos_embed': '2e-02'}
deit_tiny_patch16_224 jax {'cls_token': '1e-06', 'pos_embed': '2e-02'}
deit_tiny_distilled_patch16_224 {'cls_token': '1e-06', 'dist_token': '2e-02', 'pos_embed': '2e-02'}
cait_xxs24_224 {'cls_token': '2e-02', 'pos_embed': '2e-02'}
volo_d1_224 {'cls_token': '2e-02', 'pos_embed': '2e-02'}" ]
