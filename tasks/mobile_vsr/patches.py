"""Cutting frames into patches and pasting them back, by views (STDO's released `VSD4K.py`)."""

from __future__ import annotations

import torch

from suite.naming import UserError


def cut(frames: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """(T, C, H, W) to (T rows columns, C, H // rows, W // columns): frame by frame, row by row; remainders are dropped."""
    t, c, height, width = frames.shape
    h, w = height // rows, width // columns
    if not h or not w:
        raise UserError(f"a grid of {rows} rows x {columns} columns does not fit a frame of {width}x{height}; use a coarser one")
    grid = frames[:, :, : h * rows, : w * columns].reshape(t, c, rows, h, columns, w)
    return grid.permute(0, 2, 4, 1, 3, 5).reshape(t * rows * columns, c, h, w)


def paste(patches: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """(T rows columns, C, h, w) to (T, C, rows h, columns w): what `cut` undoes where nothing was dropped."""
    n, c, h, w = patches.shape
    t = n // (rows * columns)
    return patches.view(t, rows, columns, c, h, w).permute(0, 3, 1, 4, 2, 5).reshape(t, c, rows * h, columns * w)


def cells(frame: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """A view (rows, columns, C, h, w) into a frame (C, H, W) that the grid divides; writing to it writes the frame."""
    c, height, width = frame.shape
    return frame.view(c, rows, height // rows, columns, width // columns).permute(1, 3, 0, 2, 4)


def paired(low: torch.Tensor, high: torch.Tensor, rows: int, columns: int, scale: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Patches of low- and high-resolution frames, cut by the same grid.

    Raises UserError where a high-resolution patch is not exactly `scale` times its low-resolution one: the two would show
    different parts of the frame.
    """
    x, y = cut(low, rows, columns), cut(high, rows, columns)
    wanted = (x.shape[2] * scale, x.shape[3] * scale)
    if len(x) != len(y) or tuple(y.shape[2:]) != wanted:
        raise UserError(
            f"a grid of {rows} rows x {columns} columns does not divide the frame: high-resolution patches are"
            f" {y.shape[3]}x{y.shape[2]} and {scale} times the low-resolution ones {wanted[1]}x{wanted[0]};"
            f" crop the frame to multiples of {scale * rows} lines and {scale * columns} columns"
        )
    return x, y


def divides(height: int, width: int, rows: int, columns: int, scale: int) -> None:
    """Raise UserError unless the grid divides a high-resolution frame and its low-resolution one without remainder."""
    if height < scale * rows or width < scale * columns or height % (scale * rows) or width % (scale * columns):
        raise UserError(
            f"a grid of {rows} rows x {columns} columns at x{scale} does not divide a frame of {width}x{height}:"
            f" its height must be a multiple of {scale * rows}, its width of {scale * columns}"
        )
