"""``configs/kubernetes`` is valid and safe, and its containers work: as processes, for want of a cluster."""

import importlib
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import asyncpg  # type: ignore[import-untyped]
import pytest
import yaml

import cheap_hashes
from own_processes import environment
from purveyor.host import known_settings
from purveyor.registry import ROLES
from purveyor_drill.servers.newer import find_program
from purveyor_drill.servers.process import Child, free_port, talk
from real_servers import require_servers
from running import Running, public_client
from shop import Shop
from waiting import PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs/kubernetes"
OVERLAYS = ["overlays/monolith", "overlays/split", "overlays/keda", "migrate/monolith", "migrate/split"]
KUBERNETES = "1.34"
Object = dict[str, Any]
KUBECTL = find_program("kubectl")
RENDER = [KUBECTL, "kustomize"] if KUBECTL else ["kustomize", "build"]
PAGE = (ROOT / "docs/kubernetes.md").read_text(encoding="utf-8")
_SECRET = r"^   \| `([\w-]+)` \|[^|]*\|([^|]*)\|$"
SECRETS = {name: re.findall(r"`(\w+)`", keys) for name, keys in re.findall(_SECRET, PAGE, re.MULTILINE)}
"""The Secrets that the page names, with their keys."""

pytestmark = pytest.mark.skipif(
    shutil.which(RENDER[0]) is None, reason="no kubectl (scripts/newer-programs gets one) and no kustomize"
)


@cache
def rendered(overlay: str) -> list[Object]:
    done = subprocess.run([*RENDER, CONFIGS / overlay], capture_output=True, text=True, check=True)
    return list(yaml.safe_load_all(done.stdout))


def of_kind(overlay: str, *kinds: str) -> list[Object]:
    return [each for each in rendered(overlay) if each["kind"] in kinds]


def named(overlay: str, kind: str, name: str) -> Object:
    (found,) = [each for each in of_kind(overlay, kind) if each["metadata"]["name"] == name]
    return found


def pods(overlay: str) -> Iterator[tuple[str, Object]]:
    """The pod templates, by the name of what makes them."""
    for each in of_kind(overlay, "Deployment", "StatefulSet", "Job"):
        yield each["metadata"]["name"], each["spec"]["template"]


def containers(overlay: str) -> dict[str, Object]:
    """The only container of each pod."""
    found = {}
    for name, template in pods(overlay):
        (found[name],) = template["spec"]["containers"]
    return found


def selected(overlay: str, selector: Mapping[str, str]) -> list[str]:
    """The pods with these labels."""
    return [name for name, template in pods(overlay) if selector.items() <= template["metadata"]["labels"].items()]


def is_keda(each: Object) -> bool:
    return str(each["apiVersion"]).startswith("keda.sh/")


@pytest.fixture(scope="module")
def schemas() -> Any:
    """Imported where it is used: that takes seconds, which every process of the run would spend."""
    return importlib.import_module("kubernetes_validate")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_objects_satisfy_the_strict_schemas(schemas: Any, overlay: str) -> None:
    for each in rendered(overlay):
        if not is_keda(each):  # its definitions come with KEDA
            schemas.validate(each, KUBERNETES, strict=True)


def test_schemas_refuse_a_misspelled_field(schemas: Any) -> None:
    deployment = named("overlays/split", "Deployment", "auth")
    wrong = {**deployment, "spec": {**deployment["spec"], "replica": 2}}
    with pytest.raises(schemas.ValidationError):
        schemas.validate(wrong, KUBERNETES, strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_meet_the_restricted_standard_and_write_only_to_volumes(overlay: str) -> None:
    assert list(pods(overlay))
    for name, template in pods(overlay):
        spec, container = template["spec"], containers(overlay)[name]
        security = spec["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["runAsUser"] > 0
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        assert all(set(volume) <= {"name", "emptyDir", "configMap"} for volume in spec["volumes"])
        assert container["resources"]["requests"]["cpu"]
        assert container["resources"]["limits"]["memory"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_everything_is_in_the_namespace_and_reads_settings_that_are_there(overlay: str) -> None:
    for each in rendered(overlay):
        assert each["kind"] == "Namespace" or each["metadata"]["namespace"] == "purveyor"
    configmaps = {each["metadata"]["name"] for each in of_kind(overlay, "ConfigMap")}
    for name, template in pods(overlay):
        sources = containers(overlay)[name].get("envFrom", ())
        read = {each["configMapRef"]["name"] for each in sources if "configMapRef" in each}
        read |= {each["configMap"]["name"] for each in template["spec"]["volumes"] if "configMap" in each}
        assert read <= configmaps
        own = {"migrate": "monolith"}.get(name, name.removeprefix("migrate-"))
        needed = {each["secretRef"]["name"] for each in sources if "secretRef" in each}
        assert needed == ({own} if own in SECRETS else set())


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_services_and_budgets_each_select_one_kind_of_pod(overlay: str) -> None:
    for service in of_kind(overlay, "Service"):
        (target,) = selected(overlay, service["spec"]["selector"])
        (port,) = containers(overlay)[target]["ports"]
        assert {each["targetPort"] for each in service["spec"]["ports"]} == {port["name"]}
    for budget in of_kind(overlay, "PodDisruptionBudget"):
        assert len(selected(overlay, budget["spec"]["selector"]["matchLabels"])) == 1
        assert ("minAvailable" in budget["spec"]) + ("maxUnavailable" in budget["spec"]) == 1


def test_a_role_is_reached_by_those_that_ask_it_and_nobody_else() -> None:
    reached: dict[str, set[str]] = {}
    for policy in of_kind("overlays/split", "NetworkPolicy"):
        (*targets,) = selected("overlays/split", policy["spec"]["podSelector"].get("matchLabels", {}))
        assert targets
        peers = [peer for rule in policy["spec"].get("ingress", ()) for peer in rule.get("from", ())]
        for labels in [peer["podSelector"]["matchLabels"] for peer in peers if "podSelector" in peer]:
            for asking in selected("overlays/split", labels):
                reached.setdefault(asking, set()).update(targets)
    asked = {
        name: set(re.findall(r"http://(\w+):8000", str(container.get("env", ""))))
        for name, container in containers("overlays/split").items()
    }
    asked["gateway"] = set(re.findall(r"server (\w+):8000;", (CONFIGS / "overlays/split/nginx.conf").read_text()))
    assert reached == {name: names for name, names in asked.items() if names}


def test_scalers_have_a_target_whose_number_nothing_else_sets() -> None:
    scalers = of_kind("overlays/keda", "HorizontalPodAutoscaler", "ScaledObject")
    assert {scaler["metadata"]["name"] for scaler in scalers} == {"auth", "orders", "email"}
    for scaler in scalers:
        target = scaler["spec"]["scaleTargetRef"]
        assert "replicas" not in named("overlays/keda", target["kind"], target["name"])["spec"]
        for trigger in scaler["spec"].get("triggers", ()):
            found = named("overlays/keda", "TriggerAuthentication", trigger["authenticationRef"]["name"])
            for secret in found["spec"]["secretTargetRef"]:
                assert secret["key"] in SECRETS[secret["name"]]


@pytest.mark.parametrize("overlay", ["overlays/monolith", "overlays/split", "overlays/keda"])
def test_each_server_has_probes_a_budget_and_time_to_stop(overlay: str) -> None:
    budgets = [each["spec"]["selector"]["matchLabels"] for each in of_kind(overlay, "PodDisruptionBudget")]
    for name, template in pods(overlay):
        container = containers(overlay)[name]
        assert container["livenessProbe"]["httpGet"]["path"] == "/health/live"
        ready = "/health/live" if name == "gateway" else "/health/ready"
        assert container["readinessProbe"]["httpGet"]["path"] == ready
        assert template["spec"]["terminationGracePeriodSeconds"] >= 5 + 25
        assert sum(name in selected(overlay, labels) for labels in budgets) == 1


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_environment_names_only_settings(overlay: str) -> None:
    literals = {name for each in of_kind(overlay, "ConfigMap") for name in each["data"] if name != "nginx.conf"}
    variables = {each["name"] for one in containers(overlay).values() for each in one.get("env", ())}
    assert literals | variables
    assert literals | variables <= known_settings()
    secrets = {name for secret, keys in SECRETS.items() if secret != "email-scaler" for name in keys}
    assert len(SECRETS) == 6
    assert secrets <= known_settings()


def test_every_role_is_deployed_and_migrated() -> None:
    run = [container["args"] for name, container in containers("overlays/split").items() if name != "gateway"]
    assert {arguments[-1] for arguments in run} == set(ROLES)
    for shape in ("monolith", "split"):
        jobs = [container["args"][-1] for container in containers(f"migrate/{shape}").values()]
        assert set(",".join(jobs).split(",")) == {name for name, role in ROLES.items() if role.migrations}


def test_gateway_of_the_cluster_is_that_of_compose() -> None:
    """Services keep their addresses, so nothing has to be resolved again."""
    text = (ROOT / "configs/nginx.conf").read_text()
    text, count = re.subn(r"    # The name server of Docker.*?;\n\n", "", text, flags=re.DOTALL)
    upstream = r"        zone \w+ 64k;\n        server (\w+:8000) resolve;"
    text, upstreams = re.subn(upstream, r"        server \1;", text)
    assert (count, upstreams) == (1, 4)
    text = text.replace("worker_processes auto;", "worker_processes 2;")
    body = text.partition("\nworker_processes")[2]
    assert (CONFIGS / "overlays/split/nginx.conf").read_text().partition("\nworker_processes")[2] == body


class Cluster:
    """The containers of an overlay as processes on loopback, each with its own settings."""

    def __init__(self, overlay: str, folder: Path, servers: Mapping[str, str]) -> None:
        self.folder = folder
        self._overlay, self._servers = overlay, servers
        self._configs = {each["metadata"]["name"]: each["data"] for each in of_kind(overlay, "ConfigMap")}
        self.ports = {each["metadata"]["name"]: free_port() for each in of_kind(overlay, "Service")}

    def settings(self, container: Object) -> dict[str, str]:
        found = {"DATA_DIR": str(self.folder / "data"), "TEST_PATIENCE_S": "60"}
        for source in container.get("envFrom", ()):
            ((kind, named),) = source.items()
            if kind == "configMapRef":
                found |= self._configs[named["name"]]
            else:
                found |= {name: self._servers[name] for name in SECRETS[named["name"]]}
        return found | {each["name"]: self._here(each["value"]) for each in container.get("env", ())}

    def _here(self, text: str) -> str:
        """A text with the addresses of Services as they are here."""
        return re.sub(r"\b([a-z]+):8000\b", lambda found: f"127.0.0.1:{self.ports[found[1]]}", text)

    def run(self, name: str, container: Object) -> Child:
        folder = self.folder / name
        folder.mkdir()
        if name == "gateway":
            (configuration,) = [data["nginx.conf"] for data in self._configs.values() if "nginx.conf" in data]
            text = self._here(configuration.replace("listen 8080", f"listen 127.0.0.1:{self.ports[name]}"))
            (folder / "nginx.conf").write_text(text.replace(" /tmp/", f" {folder}/"))
            command, *arguments = container["command"]
            argv = [shutil.which(command) or command, "-c", str(folder / "nginx.conf"), *arguments]
            return Child(argv, env=environment({}), folder=folder)
        arguments = ["127.0.0.1" if each == "0.0.0.0" else each for each in container["args"]]
        argv = [sys.executable, cheap_hashes.__file__, *arguments, "--port", str(self.ports[name])]
        return Child(argv, env=environment(self.settings(container)), folder=folder)

    def answers(self, name: str, probe: str) -> bool:
        path = containers(self._overlay)[name][probe]["httpGet"]["path"]
        request = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
        return talk(self.ports[name], request).startswith(b"HTTP/1.1 200")

    def migrate(self, jobs: str) -> None:
        for container in containers(jobs).values():
            argv = [sys.executable, "-m", "purveyor", *container["args"]]
            settings = environment(self.settings(container))
            done = subprocess.run(argv, env=settings, cwd=self.folder, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("shape", ["monolith", "keda"])
async def test_an_order_at_the_containers_of_an_overlay_ends_in_an_email(tmp_path: Path, shape: str) -> None:
    if shape != "monolith" and shutil.which("nginx") is None:
        pytest.skip("no nginx")
    shared = require_servers()
    made = {name: secrets.token_hex(32) for name in ("JWT_SECRET", "SERVICE_SECRET")}
    servers = {name: value for name, value in shared.place().items() if name != "MONGODB_URI"} | made
    cluster = Cluster(f"overlays/{shape}", tmp_path, servers)
    cluster.migrate("migrate/monolith" if shape == "monolith" else "migrate/split")
    entrance = "monolith" if shape == "monolith" else "gateway"
    with ExitStack() as processes:
        started = {name: cluster.run(name, one) for name, one in containers(f"overlays/{shape}").items()}
        for child in started.values():
            processes.callback(child.end, 15, 25.0)
        for name, child in started.items():
            for probe in ("readinessProbe", "livenessProbe"):
                child.wait_ready(lambda name=name, probe=probe: cluster.answers(name, probe), PATIENCE_S)
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(public_client(cluster.ports[entrance]))
            shop = Shop(Running({"/": client}, {}, tmp_path, shared.mails.read, shows_mailbox=False))
            customer = await shop.customer()
            assert (await shop.place(customer)).status_code == 201
            assert len(await shop.mails(customer.email)) == 1
            if shape != "monolith":
                assert [(await client.get(path)).status_code for path in ("/metrics", "/internal/x")] == [404, 404]
                await counted(servers["DATABASE_URL"])


async def counted(url: str) -> None:
    """The autoscaler's user can run its query, with the rights that the page grants."""
    (scaled,) = of_kind("overlays/keda", "ScaledObject")
    (trigger,) = scaled["spec"]["triggers"]
    (grants,) = re.findall(r"```sql\ncreate role[^\n]*\n(.*?)```", PAGE, re.DOTALL)
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("drop role if exists email_scaler; create role email_scaler")
        await connection.execute(grants)
        await connection.execute("set role email_scaler")
        assert await connection.fetchval(trigger["metadata"]["query"]) == 0
        await connection.execute("reset role; drop owned by email_scaler; drop role email_scaler")
    finally:
        await connection.close()
