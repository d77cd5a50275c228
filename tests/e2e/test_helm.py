"""The Helm chart. Its manifests in tests/helm/rendered fit together, and a node accepts the settings in
them. tools/package helm builds helm; with it, they are rendered again and validated as by an API server."""

import json
import os
import re
import subprocess

import pytest

from fleet.certificates import Authority
from fleet.node import BINARY, ROOT

yaml = pytest.importorskip("yaml", reason="needs python3-yaml")

CHART, HELM, RENDER = ROOT / "conf/helm/mqfleet", ROOT / "build/helm", ROOT / "tests/helm/render"
NAMES = sorted(path.stem for path in (ROOT / "tests/helm/values").glob("*.yaml"))
needs_helm = pytest.mark.skipif(not (HELM / "validate").exists(),
                                reason="no build/helm: tools/package helm builds it from Go's module proxy")


def rendered(name):
    return (ROOT / f"tests/helm/rendered/{name}.yaml").read_text()


def run(*words, **options):
    return subprocess.run(words, capture_output=True, text=True, timeout=120, **options)


class Manifests:
    def __init__(self, text):
        self.all = [document for document in yaml.safe_load_all(text) if document]
        self.set = self.of("StatefulSet")[0]
        self.template = self.set["spec"]["template"]
        self.pod = self.template["spec"]
        self.container = self.pod["containers"][0]

    def of(self, kind):
        return [document for document in self.all if document["kind"] == kind]

    def selects_nodes(self, labels):
        return labels.items() <= self.template["metadata"]["labels"].items()

    @property
    def settings(self):
        return yaml.safe_load(self.of("ConfigMap")[0]["data"]["mqfleet.yml"])


@pytest.fixture(params=NAMES)
def manifests(request):
    return Manifests(rendered(request.param))


def test_the_manifests_in_the_tree_are_those_of_the_chart():
    stamp = run(RENDER, "--stamp").stdout.strip()
    old = [name for name in NAMES if not rendered(name).splitlines()[0].endswith(f"; chart {stamp}")]
    assert len(stamp) == 16 and len(NAMES) >= 3
    assert not old, f"the chart has changed: tools/package helm --render ({old})"


def test_names_in_the_manifests_fit_together(manifests):
    ports = {port["name"]: port["containerPort"] for port in manifests.container["ports"]}
    assert ports == {"api": manifests.settings["node_info"]["port"],
                     "ops": manifests.settings["ops"]["port"]}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert manifests.container[probe]["httpGet"]["port"] in ports
    mounts = [mount["name"] for mount in manifests.container["volumeMounts"]]
    assert sorted(mounts) == sorted(volume["name"] for volume in manifests.pod["volumes"])

    services = {service["metadata"]["name"]: service for service in manifests.of("Service")}
    assert manifests.set["spec"]["serviceName"] in services and len(services) == 2
    for service in services.values():
        assert manifests.selects_nodes(service["spec"]["selector"])
        assert all(port["targetPort"] in ports for port in service["spec"]["ports"])
    for kind, key in (("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")):
        for document in manifests.of(kind):
            assert manifests.selects_nodes(document["spec"][key]["matchLabels"]), kind
    for monitor in manifests.of("ServiceMonitor"):
        labels = monitor["spec"]["selector"]["matchLabels"].items()
        scraped = [service for service in services.values() if labels <= service["metadata"]["labels"].items()]
        assert len(scraped) == 1, "each node is scraped once"
        assert monitor["spec"]["endpoints"][0]["port"] in [port["name"] for port in scraped[0]["spec"]["ports"]]


def test_the_image_has_the_programs_that_containers_run(manifests):
    packages = re.search(r'^run="([^"]*)"', (ROOT / "tools/install-deps").read_text(), re.M).group(1)
    pods = [manifests.pod, *(pod["spec"] for pod in manifests.of("Pod"))]
    programs = {container["command"][0] for pod in pods for container in pod["containers"]}
    assert programs > {"mqfleetd"} and programs <= {"mqfleetd", "mqfleet", *packages.split()}


def test_a_pod_has_the_time_that_a_graceful_stop_takes(manifests):
    sleep = manifests.container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    stop_s = manifests.settings["stop_timeout_ms"] / 1000
    assert manifests.pod["terminationGracePeriodSeconds"] >= sleep + stop_s + 15


def mounted(folder, files):
    """A volume as the kubelet makes it: files behind symbolic links, readable by the pod's group."""
    (folder / "..data_1").mkdir(parents=True)
    (folder / "..data").symlink_to("..data_1")
    for name, text in files.items():
        (folder / "..data_1" / name).write_text(text)
        (folder / "..data_1" / name).chmod(0o440)
        (folder / name).symlink_to(f"..data/{name}")


def environment_of(manifests, secret_values):
    """What the kubelet sets for the first pod."""
    fields = {"metadata.name": manifests.set["metadata"]["name"] + "-0", "status.podIP": "10.1.2.3"}
    variables = {}
    for entry in manifests.container["env"]:
        source = entry.get("valueFrom", {})
        value = entry.get("value") or fields.get(source.get("fieldRef", {}).get("fieldPath")) or \
            secret_values[entry["name"]]
        variables[entry["name"]] = re.sub(r"\$\((\w+)\)", lambda match: variables[match[1]], value)
    return variables


def test_a_node_accepts_the_settings_of_the_manifests(manifests, tmp_path):
    authority = Authority(tmp_path / "authority")
    pair = {"ca.crt": authority.ca.read_text(), "tls.crt": authority.server_certificate.read_text(),
            "tls.key": authority.server_key.read_text()}
    files = {"access": {"tokens": f"deploy operator sha256:{'0' * 64}\n", "fleet-secret": "s" * 20},
             "keys": {"keys": run(BINARY, "--new-key").stdout}, "tls": pair, "redis-tls": pair}
    for name, content in files.items():
        mounted(tmp_path / name, content)
    settings = tmp_path / "mqfleet.yml"
    settings.write_text(manifests.of("ConfigMap")[0]["data"]["mqfleet.yml"]
                        .replace("/run/mqfleet/", f"{tmp_path}/"))
    variables = environment_of(manifests, {"MQFLEET_REDIS_CONFIG_URL": "redis://redis:6379/0",
                                           "MQFLEET_SINK_URL": "redis://redis:6379/1"})
    done = run(BINARY, "--print-config", "--config", settings, env={"PATH": os.environ["PATH"], **variables})
    assert done.returncode == 0 and "warn" not in done.stderr, done.stderr
    name = manifests.set["metadata"]["name"]
    effective = yaml.safe_load(done.stdout)
    node = effective["node_info"]
    assert node["name"] == f"{name}-0"
    https = "tls_cert_file" in manifests.settings["http"]
    assert node["host"] == (f"{name}-0.{name}-nodes.iot.svc.cluster.local" if https else "10.1.2.3")
    assert node["size"] == manifests.settings["node_info"]["size"]


# ---- with helm ----


@needs_helm
@pytest.mark.parametrize("name", NAMES)
def test_helm_renders_these_manifests_and_an_api_server_would_take_them(name):
    made = run(RENDER, name)
    assert made.returncode == 0, made.stderr
    assert made.stdout == rendered(name)
    checked = run(HELM / "validate", input=made.stdout)
    assert checked.returncode == 0, checked.stdout


@needs_helm
def test_the_rules_of_the_prometheus_operator_are_the_alerts_of_the_tree():
    made = run(RENDER, "everything", "--set", "metrics.prometheusRule.enabled=true")
    rule, = Manifests(made.stdout).of("PrometheusRule")
    assert rule["spec"] == yaml.safe_load((ROOT / "conf/prometheus-alerts.yml").read_text())
    assert run(HELM / "validate", input=made.stdout).returncode == 0


@needs_helm
def test_the_dashboard_in_a_config_map_is_that_of_the_tree():
    made = run(RENDER, "defaults", "--set", "metrics.dashboard.enabled=true")
    board, = [document for document in Manifests(made.stdout).of("ConfigMap")
              if document["metadata"]["name"].endswith("-dashboard")]
    assert json.loads(board["data"]["mqfleet.json"]) == json.loads((ROOT / "conf/grafana-dashboard.json").read_text())


MISTAKES = [  # what a careless edit of a template makes, and what the API server answers
    ("allowPrivilegeEscalation:", "allowPriviledgeEscalation:", "unknown field"),
    ("maxUnavailable:", "maxUnavailble:", "unknown field"),
    ("targetLabel: job", "targetLable: job", "unknown field"),
    ("port: ops, scheme", "port: a-name-that-is-too-long, scheme", "no more than 15 characters"),
    ("seconds: 5", "seconds: 500", "less than terminationGracePeriodSeconds"),
    ("runAsNonRoot: true", "runAsNonRoot: false", "restricted"),
    ("name: access, mountPath", "name: acess, mountPath", "Not found"),
    ("cidr: 0.0.0.0/0", "cidr: 0.0.0.0", "Invalid value"),
]


@needs_helm
@pytest.mark.parametrize("right,wrong,fault", MISTAKES, ids=[row[1].split()[0] for row in MISTAKES])
def test_a_mistake_in_a_manifest_is_found(right, wrong, fault):
    text = rendered("everything")
    assert right in text
    checked = run(HELM / "validate", input=text.replace(right, wrong))
    assert checked.returncode == 1 and fault in checked.stdout, checked.stdout


FAULTS = [  # values, and what the fault says
    ("redis.existingSecret=", "redis.url or redis.existingSecret must be set"),
    ("redis.url=redis://:hunter2@r:6379", "only one of them"),
    ("redis.existingSecret=,redis.url=http://:hunter2@r", "redis.url: must be redis://"),
    ("access.existingSecret=", "access.existingSecret must be set"),
    ("access.existingSecret=,access.tokens=a viewer", "access.fleetSecret must be set"),
    ("access.fleetSecret=short", "16 to 256 characters"),
    ("access.insecure=true", "access.insecure: must be false"),
    ("encryption.keys=hunter2", "encryption.keys: must be lines"),
    ("redis.tls.clientCertificate=true", "needs redis.tls.existingSecret"),
    ("config.node_info.name=a", "differs between pods"),
    ("config.redis_config.password=hunter2", "set redis.url"),
    ("config.sink.url=redis://:hunter2@r", "MQFLEET_SINK_URL in extraEnv"),
    ("config.http.tls_cert_file=/a", "set tls.existingSecret"),
    ("config.key_prefix=a", "set fleet.keyPrefix"),
    ("config.ops.port=0", "the probes use this port"),
    ("metrics.serviceMonitor.enabled=true", "tokenSecret.name must be set"),
    ("redis.ulr=redis://r", "'ulr' not allowed"),
    ("replicaCount=three", "want integer"),
    ("service.type=Loadbalancer", "value must be one of"),
    ("networkPolicy.brokers.ports={mqtt}", "want integer"),
]


@needs_helm
@pytest.mark.parametrize("values,fault", FAULTS, ids=[row[0].split("=")[0] + str(i) for i, row in enumerate(FAULTS)])
def test_faulty_values_are_told_without_secrets(values, fault):
    made = run(RENDER, "defaults", "--set", values)
    assert made.returncode != 0 and fault in made.stderr, made.stderr
    assert "hunter2" not in made.stderr
