"""The sink type rabbitmq with a real RabbitMQ: what is published, what is refused, and what waits."""

import pika
import pytest

from fleet.wait import holds_for, wait_until

COUNT = 300


class Amqp:
    """A consumer of one virtual host."""

    def __init__(self, rabbit):
        self.connection = pika.BlockingConnection(pika.ConnectionParameters(
            "127.0.0.1", rabbit.server.amqp_port, rabbit.host,
            pika.PlainCredentials("plant", "word"), heartbeat=0))
        self.channel = self.connection.channel()
        self.taken = []

    def queue(self, name="messages", binding="#", **arguments):
        self.channel.queue_declare(name, durable=True, arguments=arguments)
        if binding:
            self.channel.queue_bind(name, "amq.topic", binding)

    def take(self, name="messages"):
        """All so far, each as (method, properties, body)."""
        while True:
            method, properties, body = self.channel.basic_get(name, auto_ack=True)
            if method is None:
                return self.taken
            self.taken.append((method, properties, body))

    def bodies(self):
        return [body for _, _, body in self.take()]

    def close(self):
        if self.connection.is_open:
            self.connection.close()


@pytest.fixture
def amqp(rabbitmq):
    consumer = Amqp(rabbitmq)
    yield consumer
    consumer.close()


def settings(rabbit, **more):
    fields = {"type": "rabbitmq", "url": f"amqp://127.0.0.1:{rabbit.server.amqp_port}/{rabbit.host}",
              "username": "plant", "password": "word", "timeout_ms": 2000, **more}
    return {f"sinks__rabbit__{name}": value for name, value in fields.items()}


def sink_error(node):
    """What /readyz says of the sink."""
    return node.api.get("/readyz").text


def start(fleet, rabbit, **more):
    node = fleet.start_node(**settings(rabbit, **more))
    fleet.online(1, sink="rabbit")
    return node


def test_a_message_has_its_key_headers_and_body(fleet, rabbitmq, amqp):
    amqp.queue(binding="t.c00000.plant.*")
    node = start(fleet, rabbitmq)
    fleet.broker.publish("t/c00000/plant/1", b"\x00\xff\r\n")
    wait_until(lambda: len(amqp.take()) == 1, 20, "the message in the queue")
    method, properties, body = amqp.taken[0]
    assert (method.routing_key, body) == ("t.c00000.plant.1", b"\x00\xff\r\n")
    assert properties.delivery_mode == 2 and properties.message_id
    headers = properties.headers
    assert (headers["mqtt_id"], headers["mqtt_topic"], headers["mqtt_qos"], headers["mqtt_node"]) == (
        "c00000", "t/c00000/plant/1", "1", node.name)


def test_numbered_messages_come_once_and_in_order(fleet, rabbitmq, amqp):
    amqp.queue()
    start(fleet, rabbitmq)
    numbers = [str(number).encode() for number in range(COUNT)]
    fleet.broker.publish_all([("t/c00000/n", number) for number in numbers])
    wait_until(lambda: len(amqp.take()) >= COUNT, 30, "all in the queue")
    assert amqp.bodies() == numbers


def test_without_a_queue_messages_wait_and_nothing_is_lost(fleet, rabbitmq, amqp):
    node = start(fleet, rabbitmq)
    numbers = [str(number).encode() for number in range(20)]
    fleet.broker.publish_all([("t/c00000/n", number) for number in numbers])
    wait_until(lambda: "no queue takes the routing key" in sink_error(node), 20, "the cause is told")
    amqp.queue()
    wait_until(lambda: set(amqp.bodies()) == set(numbers), 30, "all in the queue")


def test_unroutable_messages_can_be_dropped(fleet, rabbitmq, amqp):
    start(fleet, rabbitmq, unroutable="drop")
    fleet.broker.publish("t/c00000/n", b"dropped")
    holds_for(lambda: True, 1)
    amqp.queue()
    fleet.broker.publish("t/c00000/n", b"kept")
    wait_until(lambda: amqp.bodies() == [b"kept"], 20, "the one after")


def test_an_exchange_that_is_missing_is_waited_for(fleet, rabbitmq, amqp):
    node = start(fleet, rabbitmq, exchange="later")
    fleet.broker.publish("t/c00000/n", b"1")
    wait_until(lambda: "no exchange 'later'" in sink_error(node), 20, "the cause is told")
    amqp.channel.exchange_declare("later", "topic")
    amqp.channel.queue_declare("messages")
    amqp.channel.queue_bind("messages", "later", "#")
    wait_until(lambda: amqp.bodies() == [b"1"], 30, "the message, once there is an exchange")


def test_a_full_queue_that_rejects_is_waited_for(fleet, rabbitmq, amqp):
    amqp.queue(**{"x-max-length": 1, "x-overflow": "reject-publish"})
    node = start(fleet, rabbitmq)
    numbers = [str(number).encode() for number in range(5)]
    fleet.broker.publish_all([("t/c00000/n", number) for number in numbers])
    wait_until(lambda: "basic.nack" in sink_error(node), 20, "the cause is told")
    wait_until(lambda: set(amqp.bodies()) == set(numbers), 30, "all, one after the other")


def test_a_wrong_password_is_told_and_not_logged(fleet, rabbitmq, amqp):
    amqp.queue()
    node = start(fleet, rabbitmq, password="hunter2")
    fleet.broker.publish("t/c00000/n", b"1")
    wait_until(lambda: "ACCESS_REFUSED" in sink_error(node), 20, "the cause is told")
    assert "hunter2" not in node.log()


def test_a_broker_that_is_killed_and_back_gets_everything(fleet, rabbitmq, amqp):
    amqp.queue()
    node = start(fleet, rabbitmq)
    first = [f"a{number}".encode() for number in range(50)]
    fleet.broker.publish_all([("t/c00000/n", number) for number in first])
    wait_until(lambda: len(amqp.take()) == 50, 20, "the first ones")
    amqp.connection.close()
    rabbitmq.kill()
    second = [f"b{number}".encode() for number in range(50)]
    fleet.broker.publish_all([("t/c00000/n", number) for number in second])
    wait_until(lambda: "rabbit" in sink_error(node), 20, "the sink fails")
    rabbitmq.start()
    again = Amqp(rabbitmq)
    try:
        wait_until(lambda: set(again.bodies()) >= set(second), 60, "the second ones")
        # What pika had acknowledged just before may come again.
        assert [body for body in dict.fromkeys(again.bodies()) if body in second] == second
    finally:
        again.close()


def test_a_broker_that_stalls_holds_only_its_own_messages(fleet, rabbitmq, amqp):
    amqp.queue()
    start(fleet, rabbitmq)
    fleet.create(1, prefix="other")
    fleet.wait_online(["other00000"])
    fleet.broker.publish("t/c00000/n", b"before")
    wait_until(lambda: amqp.bodies() == [b"before"], 20, "the first one")
    rabbitmq.server.pause()
    try:
        fleet.broker.publish_all([("t/c00000/n", bytes(20000)) for _ in range(200)])
        fleet.broker.publish("t/other00000/n", b"free")
        fleet.stream.wait_payloads([b"free"])
    finally:
        rabbitmq.server.resume()
    wait_until(lambda: len(amqp.take()) >= 201, 60, "the others, once it goes on")
