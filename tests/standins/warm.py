"""Imported by the process that stages are forked from: what they would import, nothing computed."""

import gc

import pandas
import pyarrow.parquet
import scipy.stats
import torch
import torch._dynamo  # the first optimizer of a process imports it, for longer than a stand-in trains

import suite.child
import suite.compat
import suite.meters.energy
import suite.meters.memory
import suite.meters.size
import suite.meters.timing

suite.compat.declare_operators()

gc.freeze()  # so that what a stage collects before it measures is its own

__all__ = ["pandas", "pyarrow", "scipy", "suite", "torch"]
