"""Make a graph and its network sparse: who keeps accuracy, also for the poorly connected, and is it faster in fact?"""

from __future__ import annotations

from tasks.graph_tickets.counting import kept_weights
from tasks.graph_tickets.label_task import Proteins
from tasks.graph_tickets.link_task import Collaborations, Links
from tasks.graph_tickets.node_task import Nodes
from tasks.graph_tickets.problem import GraphProblem, Ticket, View

__all__ = ["GraphProblem", "GraphTickets", "Ticket", "View", "kept_weights"]  # what methods import


class GraphTickets(Nodes):
    """Sparser graphs and graph networks: accuracy by class and by degree, saving on paper and in fact."""

    def of(self, case: str) -> Nodes:
        """Nodes of one class each, unless the name of the set says that edges are asked for, or several labels a node."""
        name = case.partition("/")[0]
        if name.endswith("-links") or name == "ogbl-collab":
            return Links() if name.endswith("-links") else Collaborations()
        if name.startswith("ogbn-proteins"):
            return Proteins()
        return self
