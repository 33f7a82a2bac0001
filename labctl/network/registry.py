"""Which CNI plugins and load balancers there are. A new one is a module and a line here."""

from __future__ import annotations

from labctl.network.base import LoadBalancer, NetworkPlugin
from labctl.network.flannel import Flannel
from labctl.network.metallb import MetalLB
from labctl.network.none import NoLoadBalancer, NoPlugin

PLUGINS: dict[str, NetworkPlugin] = {one.name: one for one in (Flannel(), NoPlugin())}
LOAD_BALANCERS: dict[str, LoadBalancer] = {one.name: one for one in (MetalLB(), NoLoadBalancer())}
