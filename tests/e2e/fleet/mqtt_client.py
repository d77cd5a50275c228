"""MQTT clients of another implementation, paho.mqtt.python 1.6 (Debian 12) or 2.1 (Debian 13): callbacks have
the signatures of version 2 with both."""

import paho.mqtt.client as paho

MQTTv311, MQTTv5 = paho.MQTTv311, paho.MQTTv5
_HAS_VERSION_2 = hasattr(paho, "CallbackAPIVersion")


def new_client(client_id="", protocol=MQTTv311, **options):
    """Not connected yet."""
    if _HAS_VERSION_2:
        return paho.Client(paho.CallbackAPIVersion.VERSION2, client_id, protocol=protocol,
                           **options)
    return paho.Client(client_id, protocol=protocol, **options)


def on_publish(client, callback):
    """callback(mid) for each publication that the broker acknowledged."""
    client.on_publish = lambda _client, _userdata, mid, *_: callback(mid)
