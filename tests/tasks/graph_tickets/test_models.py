"""Layers against the authors' own (ugs_*.npz) and PyG's, their derivatives, and what deployment does with pruned edges."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from suite.naming import UserError
from tasks.graph_tickets import graph as ops
from tasks.graph_tickets.deploy import compact, deploy
from tasks.graph_tickets.graph import Graph
from tasks.graph_tickets.models import TRAINING, DeeperGcn, Gat, Gcn, Gin, build, gcn_values
from tasks.graph_tickets.sampling import sample
from tests.helpers import golden_tensors, graph_problem


def directed(nodes: int = 9, seed: int = 0) -> Graph:
    """A small directed graph; its last node has no edge."""
    drawn = torch.rand(nodes - 1, nodes - 1, generator=torch.Generator().manual_seed(seed)) < 0.35
    row, col = drawn.fill_diagonal_(False).nonzero().t()
    shuffle = torch.randperm(len(row), generator=torch.Generator().manual_seed(seed))
    return Graph(row[shuffle], col[shuffle], nodes)


def test_gcn_step_of_the_authors() -> None:
    z = golden_tensors("ugs_gcn_step")
    row, col = z["adj"].nonzero().t()
    graph = Graph(row, col, len(z["adj"]))
    model = Gcn(9, 6, 3)
    m_g = z["adj_mask_train"][row, col].clone().requires_grad_()
    entries, loops = gcn_values(graph, m_g * z["adj_mask_fixed"][row, col])
    dense = torch.zeros_like(z["adj"]).index_put((col, row), entries) + torch.diag(loops)
    torch.testing.assert_close(dense, z["adj_norm"], rtol=1e-5, atol=1e-6)
    own = {f"layers.{i}.weight": z[f"w{i + 1}"].clone().requires_grad_() for i in range(2)}
    masks = {f"layers.{i}.weight": z[f"w{i + 1}_mask_train"].clone().requires_grad_() for i in range(2)}
    effective = {n: own[n] * masks[n] * z[f"w{i + 1}_mask_fixed"] for i, n in enumerate(own)}
    values = m_g * z["adj_mask_fixed"][row, col]
    logits = torch.func.functional_call(model.eval(), effective, (z["x"], graph, values))
    torch.testing.assert_close(logits, z["logits"], rtol=1e-5, atol=1e-6)
    loss = F.cross_entropy(logits[z["idx_train"]], z["y"][z["idx_train"]])
    assert float(loss.detach()) == pytest.approx(float(z["loss"]), rel=1e-5)
    loss.backward()
    torch.testing.assert_close(m_g.grad, z["grad_adj"][row, col], rtol=1e-5, atol=1e-6)
    for i, n in enumerate(own):
        torch.testing.assert_close(own[n].grad, z[f"grad_w{i + 1}"], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(masks[n].grad, z[f"grad_w{i + 1}m"], rtol=1e-5, atol=1e-6)


def test_gin_of_the_authors_and_its_pruning_mode() -> None:
    z = golden_tensors("ugs_gin_forward")
    graph = Graph(z["src"], z["dst"], int(z["n"]))
    model = Gin(7, 4, 3).eval()
    weights = {"layers.0.weight": z["w1"], "layers.1.weight": z["w2"], "head.weight": z["w_pred"], "eps": z["eps"]}
    model.load_state_dict(weights)
    values = (z["edge_mask_train"] * z["edge_mask_fixed"]).squeeze(1)
    torch.testing.assert_close(model(z["x"], graph, values), z["logits"], rtol=1e-5, atol=1e-6)
    # removed edges gone, counted or not
    keep = z["edge_mask_fixed"].squeeze(1) > 0
    left = graph.take(keep)
    torch.testing.assert_close(model(z["x"], left, values[keep], graph.in_degree), z["logits"], rtol=1e-5, atol=1e-6)
    by_hand = model(z["x"], left, values[keep])
    mean = torch.zeros(len(z["x"]), 7).index_add(0, left.col, z["x"][left.row] * values[keep, None])
    mean /= left.in_degree.clamp_min(1)[:, None]
    first = F.relu(F.linear((1 + z["eps"][0]) * z["x"] + mean, z["w1"]))
    mean = torch.zeros(len(z["x"]), 4).index_add(0, left.col, first[left.row] * values[keep, None])
    mean /= left.in_degree.clamp_min(1)[:, None]
    second = F.relu(F.linear((1 + z["eps"][1]) * first + mean, z["w2"]))
    torch.testing.assert_close(by_hand, (F.linear(first, z["w_pred"]) + second) / 2, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(by_hand, z["logits"], atol=1e-3)


def test_gat_of_the_authors_and_its_pruning_mode() -> None:
    z = golden_tensors("ugs_gat_forward")
    n = int(z["n"])
    listed = Graph(z["src"], z["dst"], n)  # self-loops included
    model = Gat(7, 4, 3).eval()
    heads, hidden, inputs = z["w1"].shape
    with torch.no_grad():
        model.fc[0].copy_(z["w1"].reshape(heads * hidden, inputs))
        model.fc[1].copy_(z["w2"])
        model.attention[0].copy_(z["a1"])
        model.attention[1].copy_(z["a2"][None])
    values = (z["edge_mask_train"] * z["edge_mask_fixed"]).squeeze(1)
    legacy = model.apply_operator(z["x"], [(listed, values)] * 2, TRAINING)
    torch.testing.assert_close(legacy, z["logits"], rtol=1e-5, atol=1e-6)
    # removed edges leave the softmax: the same as a logit of minus infinity
    keep = (z["edge_mask_fixed"].squeeze(1) > 0) | (listed.row == listed.col)
    left = listed.take(keep)
    gone = model.apply_operator(z["x"], [(left, values[keep])] * 2, TRAINING)
    h = z["x"]
    for w, a in zip(model.fc, model.attention, strict=True):
        t = F.linear(h, w).view(n, len(a), -1)
        source, target = a.view(len(a), 2, -1).unbind(1)
        logit = F.leaky_relu((t[listed.row] * source).sum(2) + (t[listed.col] * target).sum(2), 0.01) * values[:, None]
        table = torch.full((n, n, len(a)), -torch.inf).index_put(
            (listed.col, listed.row), logit.masked_fill(~keep[:, None], -torch.inf)
        )
        h = torch.einsum("ijk,jkd->ikd", table.softmax(1), t).flatten(1)
        h = F.elu(h) if len(a) > 1 else h
    torch.testing.assert_close(gone, h, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(gone, z["logits"], atol=1e-3)


def test_a_node_that_nothing_reaches_gets_zero_attention() -> None:
    graph = Graph(torch.tensor([0]), torch.tensor([1]), 3)
    model = Gat(4, 2, 3).eval()
    out = model.apply_operator(torch.randn(3, 4), [(graph, None)] * 2, TRAINING)
    assert out[[0, 2]].abs().max() == 0


def test_layers_equal_pyg() -> None:
    nn = pytest.importorskip("torch_geometric.nn")
    graph = directed()
    both = Graph(torch.cat([graph.row, graph.col]), torch.cat([graph.col, graph.row]), graph.nodes)
    key = torch.unique(both.row * graph.nodes + both.col)
    both = Graph(key // graph.nodes, key % graph.nodes, graph.nodes)
    index = torch.stack([both.row, both.col])
    x = torch.randn(graph.nodes, 5, generator=torch.Generator().manual_seed(1))
    gcn = Gcn(5, 4, 3).eval()
    first, second = nn.GCNConv(5, 4, bias=False), nn.GCNConv(4, 3, bias=False)
    first.lin.weight, second.lin.weight = gcn.layers[0].weight, gcn.layers[1].weight
    torch.testing.assert_close(gcn(x, both), second(F.relu(first(x, index)), index), rtol=1e-5, atol=1e-6)
    gat = Gat(5, 4, 3).eval()
    h = x
    for i, (w, a) in enumerate(zip(gat.fc, gat.attention, strict=True)):
        conv = nn.GATConv(w.shape[1], w.shape[0] // len(a), len(a), negative_slope=0.01, bias=False)
        conv.lin.weight = w
        source, target = a.view(len(a), 2, -1).unbind(1)
        conv.att_src, conv.att_dst = torch.nn.Parameter(source[None]), torch.nn.Parameter(target[None])
        h = conv(h, index)
        h = F.elu(h) if i == 0 else h
    torch.testing.assert_close(gat(x, both), h, rtol=1e-5, atol=1e-6)
    gin = Gin(5, 4, 3).eval()
    conv = nn.GINConv(gin.layers[0], train_eps=True, aggr="mean")
    one = F.relu(conv(x, index))
    two = F.relu(nn.GINConv(gin.layers[1], train_eps=True, aggr="mean")(one, index))
    torch.testing.assert_close(gin(x, both), (gin.head(one) + two) / 2, rtol=1e-5, atol=1e-6)


def test_products_and_both_derivatives() -> None:
    graph = directed()
    draw = torch.Generator().manual_seed(2)
    values = torch.rand(graph.edges, generator=draw, dtype=torch.float64, requires_grad=True)
    h, g = (torch.randn(graph.nodes, 3, generator=draw, dtype=torch.float64, requires_grad=True) for _ in range(2))
    table = torch.zeros(graph.nodes, graph.nodes, dtype=torch.float64).index_put((graph.col, graph.row), values)
    torch.testing.assert_close(ops.propagate(graph, values, h), table @ h)
    torch.testing.assert_close(ops.dot(graph, h, g), (h[graph.row] * g[graph.col]).sum(1))
    assert torch.autograd.gradcheck(lambda v, x: ops.propagate(graph, v, x), (values, h))
    assert torch.autograd.gradcheck(lambda x, y: ops.dot(graph, x, y), (h, g))
    assert torch.autograd.gradgradcheck(lambda v, x: ops.propagate(graph, v, x), (values, h))
    assert torch.autograd.gradgradcheck(lambda x, y: ops.dot(graph, x, y), (h, g))


def test_sparse_features_equal_a_table() -> None:
    problem = graph_problem(case="cora/gcn")
    weight = torch.randn(5, problem.inputs, requires_grad=True)
    flat = problem.x.forward.to_dense()
    found, expected = ops.linear(problem.x, weight), F.linear(flat, weight)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    upstream = torch.randn_like(found)
    ours, theirs = (torch.autograd.grad(out, weight, upstream)[0] for out in (found, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_softmax_over_arriving_edges() -> None:
    graph = directed()
    logits = torch.randn(graph.edges, 2) * 50
    weight = ops.edge_softmax(graph, logits)
    total = torch.zeros(graph.nodes, 2).index_add(0, graph.col, weight)
    reached = graph.in_degree > 0
    torch.testing.assert_close(total[reached], torch.ones_like(total[reached]))
    assert weight.isfinite().all()


def test_negative_row_sums_stay_numbers() -> None:
    graph = directed()
    values = torch.full((graph.edges,), -3.0, requires_grad=True)
    entries, loops = gcn_values(graph, values)
    assert entries.isfinite().all()
    assert loops.isfinite().all()


def test_a_row_sum_of_zero_has_the_root_zero() -> None:
    graph = Graph(torch.tensor([0, 1, 1, 2]), torch.tensor([1, 0, 2, 1]), 3)
    values = torch.tensor([-1.0, 0.5, 0.5, 0.5], requires_grad=True)
    entries, loops = gcn_values(graph, values)
    root = 0.5**0.5 / 1.5**0.5 * 0.5  # of node 1, sum 2, and node 2, sum 1.5
    torch.testing.assert_close(loops, torch.tensor([0.0, 1 / 2, 1 / 1.5]))
    torch.testing.assert_close(entries, torch.tensor([0.0, 0.0, root, root]))
    (entries.sum() + loops.sum()).backward()
    assert values.grad is not None
    assert values.grad.isfinite().all()


@pytest.mark.parametrize("nodes", [1, 3, 6])
def test_gradients_of_more_entries_than_there_are_pairs(nodes: int) -> None:
    """A complete graph with loops of its own, to which the operator adds the identity."""
    row, col = (x.flatten() for x in torch.meshgrid(torch.arange(nodes), torch.arange(nodes), indexing="ij"))
    model, x, weights = Gcn(4, 3, 2).eval(), torch.randn(nodes, 4), torch.randn(nodes, 2)
    mask = torch.rand(len(row), generator=torch.Generator().manual_seed(0)).requires_grad_()
    (model(x, Graph(row, col, nodes), mask) * weights).sum().backward()

    def dense(a: torch.Tensor) -> torch.Tensor:
        b = a + torch.eye(nodes)
        root = b.sum(1).rsqrt()
        operator = (root[:, None] * b * root).T
        first, second = (layer.weight.detach() for layer in model.layers)
        return ((operator @ (operator @ x @ first.T).relu() @ second.T) * weights).sum()

    expected = torch.func.grad(dense)(mask.detach().view(nodes, nodes))
    assert mask.grad is not None
    torch.testing.assert_close(mask.grad.view(nodes, nodes), expected)


def test_opposite_entries() -> None:
    graph = Graph(torch.tensor([0, 1, 1, 2]), torch.tensor([1, 0, 2, 0]), 3)
    assert graph.reverse.tolist() == [1, 0, 2, 3]  # the last two have none


@pytest.mark.parametrize("architecture", ["gcn", "gin", "gat"])
def test_deployed_equals_the_model_on_what_is_left(architecture: str) -> None:
    problem = graph_problem(case=f"cora/{architecture}")
    draw = torch.Generator().manual_seed(3)
    model = problem.model().eval()
    own = dict(model.named_parameters())
    with torch.no_grad():
        for name in model.prunable():
            own[name].mul_(torch.rand(own[name].shape, generator=draw) < 0.1)
    left = problem.graph.take(torch.rand(problem.graph.edges, generator=draw) < 0.3)
    expected = model(problem.x, left)
    for weights in ("measured", "csr"):
        call, kernels = deploy(model, left, problem.x, weights)  # type: ignore[arg-type]
        torch.testing.assert_close(call(), expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(call(), expected, rtol=1e-4, atol=1e-5)
        assert all(kernels.names)


@pytest.mark.parametrize("architecture", ["gcn", "gin", "gat"])
def test_pruned_edges_carry_nothing(architecture: str) -> None:
    """Without any edge a node's logits depend on its own features alone."""
    problem = graph_problem(case=f"sbm/{architecture}")
    model = problem.model().eval()
    none = problem.graph.take(torch.zeros(problem.graph.edges, dtype=torch.bool))
    call, _ = deploy(model, none, problem.x)
    before = call()
    other = problem.x.clone()
    other[1:] += 1
    after, _ = deploy(model, none, other)
    torch.testing.assert_close(after()[0], before[0])
    assert not torch.allclose(after()[1], before[1])


def test_dead_units_are_cut_off() -> None:
    model = Gcn(6, 8, 3)
    with torch.no_grad():
        model.layers[0].weight[2] = 0  # nothing enters unit 2
        model.layers[1].weight[:, 5] = 0  # nothing leaves unit 5
    small = compact(model)
    assert small.layers[0].weight.shape == (6, 6)  # type: ignore[index,union-attr]
    graph, x = directed(), torch.randn(9, 6)
    torch.testing.assert_close(small.eval()(x, graph), model.eval()(x, graph))


def test_unknown_networks_are_told() -> None:
    with pytest.raises(UserError, match="no architecture"):
        build("mlp", 3, 2, 4)
    assert build("gcn512", 3, 2, 4).layers[0].weight.shape == (512, 3)  # type: ignore[index,union-attr]


def test_a_sample_of_everything_is_the_graph() -> None:
    for case in ("cora/gcn", "cora/gin", "cora/gat"):
        problem = graph_problem(case=case)
        model = problem.model().eval()
        seeds = torch.arange(0, 2708, 97)
        drawn = sample(problem.graph, seeds, torch.Generator().manual_seed(0), fanout=(10_000, 10_000))
        assert torch.equal(drawn.nodes[: len(seeds)], seeds)
        expected = model(problem.x, problem.graph)[seeds]
        found = model(problem.x, problem.graph, sample=drawn)[: len(seeds)]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_sample_takes_so_many_of_each_node() -> None:
    problem = graph_problem(case="cora/gcn")
    graph, seeds = problem.graph, torch.arange(100)
    drawn = sample(graph, seeds, torch.Generator().manual_seed(0), fanout=(3,))
    arriving = torch.bincount(graph.col[drawn.entries], minlength=graph.nodes)
    assert torch.equal(arriving[seeds], graph.in_degree[seeds].clamp_max(3))
    assert arriving[100:].sum() == 0
    assert len(drawn.entries.unique()) == len(drawn.entries)
    ends = torch.stack([drawn.nodes[drawn.graph.row], drawn.nodes[drawn.graph.col]])[:, : len(drawn.entries)]
    assert torch.equal(ends, torch.stack([graph.row, graph.col])[:, drawn.entries])


def test_features_of_a_sample() -> None:
    problem = graph_problem(case="cora/gcn")
    drawn = sample(problem.graph, torch.tensor([5, 900, 17]), torch.Generator().manual_seed(0))
    rows = drawn.rows(problem.x)
    flat = problem.x.forward.to_dense()[drawn.nodes]
    torch.testing.assert_close(rows.forward.to_dense(), flat)
    torch.testing.assert_close(rows.backward.to_dense(), flat.t())


def test_deeper_gcn_equals_pyg_and_its_masked_form() -> None:
    nn = pytest.importorskip("torch_geometric.nn")
    graph = directed()
    with torch.random.fork_rng():
        torch.manual_seed(1)  # of some weights all units are dead, and no gradient passes
        model = DeeperGcn(5, 4, 3)
    draw = torch.Generator().manual_seed(4)
    for norm in model.norms:
        norm.running_mean.normal_(generator=draw)
        norm.running_var.uniform_(0.5, 2, generator=draw)
    model.eval()
    x = torch.randn(graph.nodes, 5, generator=draw)
    index = torch.stack([graph.looped.row, graph.looped.col])
    h = model.encoder(x)
    for i, linear in enumerate(model.convs):
        conv = nn.GENConv(4, 4, aggr="softmax", t=0.1, num_layers=1, bias=True)
        conv.mlp[0] = linear
        layer = nn.DeepGCNLayer(conv, model.norms[i - 1] if i else None, torch.nn.ReLU(), "res+", 0.5).eval()
        h = conv(h, index) if i == 0 else layer(h, index)
    expected = model.head(F.relu(model.norms[-1](h)))
    torch.testing.assert_close(model(x, graph), expected, rtol=1e-4, atol=1e-5)
    ones = torch.ones(graph.edges)
    torch.testing.assert_close(model(x, graph, ones), expected, rtol=1e-4, atol=1e-5)
    # a gradient reaches the mask, and not through the softmax's weights
    mask = torch.full((graph.edges,), 0.7, requires_grad=True)
    model(x, graph, mask).sum().backward()
    assert mask.grad is not None
    assert mask.grad.isfinite().all()
    assert (mask.grad != 0).any()
    message = torch.rand(graph.nodes, 4, generator=draw)
    own = torch.full((graph.looped.edges,), 0.7, requires_grad=True)
    sent = message[graph.looped.row] * own[:, None]
    weight = ops.edge_softmax(graph.looped, 0.1 * sent.detach())
    by_hand = torch.zeros(graph.nodes, 4).index_add(0, graph.looped.col, weight * sent)
    found = model.aggregate(message - 1e-7, graph.looped, own, TRAINING)
    torch.testing.assert_close(found, by_hand, rtol=1e-5, atol=1e-6)
    gradients = [torch.autograd.grad((out**2).sum(), own, retain_graph=True)[0] for out in (found, by_hand)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)
    call, _ = deploy(model, graph, x)
    torch.testing.assert_close(call(), expected, rtol=1e-4, atol=1e-5)
