"""OGB's evaluators (graph_baselines_ogb_eval.npz)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tasks.graph_tickets.metrics import accuracy, hits_at, roc_auc

GOLDEN = Path(__file__).parents[2] / "golden" / "graph_baselines_ogb_eval.npz"


def test_evaluators_of_ogb() -> None:
    with np.load(GOLDEN) as z:
        assert [hits_at(k, z["pos"], z["neg"]) for k in (10, 50, 100)] == z["hits_10_50_100"].tolist()
        assert roc_auc(z["roc_true"], z["roc_pred"]) == pytest.approx(float(z["rocauc"]), rel=1e-12)
        assert accuracy(z["acc_true"], z["acc_pred"]) == float(z["acc"])


def test_edges_of_the_definitions() -> None:
    assert hits_at(3, np.array([0.1]), np.array([0.5, 0.6])) == 1.0  # fewer than k negatives
    assert hits_at(1, np.array([0.6, 0.7]), np.array([0.6])) == 0.5  # a tie is a miss
    tied = roc_auc(np.array([[0.0], [1.0], [np.nan]]), np.array([[0.5], [0.5], [0.9]]))
    assert tied == 0.5
    with pytest.raises(ValueError, match="no task"):
        roc_auc(np.ones((3, 1)), np.ones((3, 1)))
    assert accuracy(np.array([[1.0, np.nan], [0.0, 1.0]]), np.array([[1, 1], [1, 1]])) == 0.75
