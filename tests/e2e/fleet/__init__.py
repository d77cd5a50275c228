"""Real processes for the end-to-end tests: Redis, MQTT brokers, nodes, and their observers.

Read in this order: process, redis_server, broker, node, api, fleet; then the observers stream,
publisher and invariants, and the helpers wait, ports, proxy and certificates.
"""
