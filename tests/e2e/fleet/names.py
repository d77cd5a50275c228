"""Nodes for which names resolve to addresses chosen by a test."""

from .node import Node
from .preload import preloaded


class NamingNode(Node):
    """names: {name: [address, ...]}, in the order in which the resolver returns them."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self._path = self.folder / f"{self.name}.names"
        self.give({})

    def give(self, names):
        self._path.write_text("".join(f"{name} {' '.join(addresses)}\n"
                                      for name, addresses in names.items()))

    def spawn(self, argv, env=None):
        super().spawn(argv, preloaded(env, "names", E2E_NAMES=str(self._path)))


def start_naming_node(fleet, names, **settings):
    dotted = {key.replace("__", "."): value for key, value in settings.items()}
    dotted.setdefault("redis_config.url", fleet.redis.url)
    if fleet.engine:
        dotted.setdefault("engine", fleet.engine)
    node = NamingNode(f"n{len(fleet.nodes) + 1}", fleet.folder, dotted)
    node.give(names)
    fleet.nodes.append(node)
    return node.start()
