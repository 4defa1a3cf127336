"""The manifests of Kubernetes: as its API wants them, with routes, settings and metrics that there are."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployed import DEPLOY, ROOT, errors_of, schema, seconds_to_end
from pixrt.serve import health
from pixrt.serve.guard.keys import Keys, new_key
from pixrt.serve.metrics import Load, Metrics
from pixrt.serve.settings import Settings, read_settings
from serving import FakeService

BASE, CUDA = DEPLOY / "kubernetes" / "base", DEPLOY / "kubernetes" / "cuda"
SCHEMA = schema("kubernetes-1.37.json")
MANIFESTS = {
    path.stem: yaml.safe_load(path.read_text()) for path in BASE.glob("*.yaml") if path.stem != "kustomization"
}
POD: dict[str, Any] = MANIFESTS["deployment"]["spec"]["template"]["spec"]
CONTAINER: dict[str, Any] = POD["containers"][0]
LABELS = {"app.kubernetes.io/name": "pixrt"}


def errors_in(manifest: dict[str, Any]) -> list[str]:
    return errors_of(manifest, {"$defs": SCHEMA["$defs"], **SCHEMA["kinds"][manifest["kind"]]})


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "serve.toml").write_text(MANIFESTS["configmap"]["data"]["serve.toml"])
    return read_settings({}, tmp_path / "serve.toml")


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_is_of_the_api(name: str) -> None:
    assert errors_in(MANIFESTS[name]) == []
    assert errors_in({**MANIFESTS[name], "specs": {}}) != [], "a field that there is not"


def test_every_manifest_is_applied() -> None:
    listed = yaml.safe_load((BASE / "kustomization.yaml").read_text())["resources"]
    assert sorted(listed) == sorted(f"{name}.yaml" for name in MANIFESTS)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="there is no kubectl")
@pytest.mark.parametrize("folder", [BASE, CUDA], ids=["base", "cuda"])
def test_what_kustomize_makes_of_them_is_of_the_api(folder: Path) -> None:
    said = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    made = {each["kind"]: each for each in yaml.safe_load_all(said.stdout)}
    assert {kind: errors_in(manifest) for kind, manifest in made.items()} == {
        manifest["kind"]: [] for manifest in MANIFESTS.values()
    }
    container = made["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    is_cuda = folder == CUDA
    assert container["image"] == ("pixrt:cuda" if is_cuda else "pixrt:cpu")
    assert ("nvidia.com/gpu" in container["resources"]["limits"]) == is_cuda
    assert container["args"] == CONTAINER["args"], "a patch changes what it names only"


def test_its_settings_are_known_and_let_it_finish(settings: Settings) -> None:
    (stop,) = (int(each) for each in CONTAINER["lifecycle"]["preStop"]["exec"]["command"] if each.isdigit())
    assert POD["terminationGracePeriodSeconds"] > stop + seconds_to_end(settings.options)
    mounts = {mount["mountPath"]: mount["name"] for mount in CONTAINER["volumeMounts"]}
    assert settings.options.keys_file is not None
    assert mounts[str(settings.options.keys_file.parent)] == "keys"
    assert CONTAINER["args"] == ["serve", "--config", "/etc/pixrt/serve.toml"]
    assert mounts["/etc/pixrt"] == "settings"
    assert [port["containerPort"] for port in CONTAINER["ports"]] == [settings.options.port]
    assert POD["enableServiceLinks"] is False


def test_probes_ask_routes_that_there_are() -> None:
    routes = {route.path for route in health.router(FakeService()).routes}  # type: ignore[arg-type, attr-defined]
    asked = {name: CONTAINER[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "readiness", "liveness")}
    assert asked == {"startup": "/health/ready", "readiness": "/health/ready", "liveness": "/health/live"}
    assert set(asked.values()) <= routes
    startup = CONTAINER["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 900, "as long as a worker may load"


def test_it_may_little_and_writes_where_it_may() -> None:
    assert POD["securityContext"]["runAsNonRoot"] is True
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(POD)
    assert not POD["automountServiceAccountToken"]
    written = tuple(mount["mountPath"] for mount in CONTAINER["volumeMounts"] if not mount.get("readOnly"))
    variables = {each["name"]: each["value"] for each in CONTAINER["env"]}
    for name in ("XDG_CACHE_HOME", "XDG_DATA_HOME", "PYTHONPYCACHEPREFIX"):
        assert variables[name].startswith(written), name
    user = POD["securityContext"]
    assert f"USER {user['runAsUser']}:{user['runAsGroup']}" in (ROOT / "Dockerfile.cpu").read_text()


def test_keys_as_a_secret_are_taken(tmp_path: Path) -> None:
    """Kubernetes lays a Secret's files through two links, and its group may read them."""
    (tmp_path / "..2026").mkdir()
    file = tmp_path / "..2026" / "keys"
    file.write_text(new_key("anna")[1])
    (secret,) = (volume["secret"] for volume in POD["volumes"] if volume["name"] == "keys")
    file.chmod(secret["defaultMode"])
    (tmp_path / "..data").symlink_to("..2026")
    (tmp_path / "keys").symlink_to("..data/keys")
    keys = Keys(tmp_path / "keys")
    assert (keys.names, keys.notes) == (("anna",), ())


def test_everything_selects_the_same_pods() -> None:
    assert MANIFESTS["deployment"]["spec"]["template"]["metadata"]["labels"] == LABELS
    selectors = (
        MANIFESTS["deployment"]["spec"]["selector"]["matchLabels"],
        MANIFESTS["service"]["spec"]["selector"],
        MANIFESTS["poddisruptionbudget"]["spec"]["selector"]["matchLabels"],
        MANIFESTS["networkpolicy"]["spec"]["podSelector"]["matchLabels"],
        POD["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"],
    )
    assert all(selector == LABELS for selector in selectors)
    ports = {port["name"] for port in CONTAINER["ports"]}
    assert MANIFESTS["service"]["spec"]["ports"][0]["targetPort"] in ports
    assert {port["port"] for rule in MANIFESTS["networkpolicy"]["spec"]["ingress"] for port in rule["ports"]} <= ports
    assert {volume["name"] for volume in POD["volumes"]} == {mount["name"] for mount in CONTAINER["volumeMounts"]}
    assert POD["serviceAccountName"] == MANIFESTS["serviceaccount"]["metadata"]["name"]


def test_it_scales_by_a_metric_that_there_is() -> None:
    scaler = MANIFESTS["horizontalpodautoscaler"]["spec"]
    (metric,) = (each["pods"]["metric"]["name"] for each in scaler["metrics"])
    metrics = Metrics()
    metrics.watch(lambda: Load(queued=1, running=1, slots=1, seats=9, backlog_seconds=2.5))
    assert metrics.registry.get_sample_value(metric) == 2.5
    (rule,) = yaml.safe_load((DEPLOY / "prometheus" / "adapter.yaml").read_text())["rules"]["custom"]
    assert rule["name"]["as"] == metric
    assert rule["seriesQuery"].partition("{")[0] == metric
