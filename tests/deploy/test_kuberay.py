"""The manifest of KubeRay: pods as Kubernetes wants them, an application and settings that there are."""

import importlib
from typing import Any

import pytest
import yaml

from deployed import DEPLOY, errors_of, schema, seconds_to_end
from pixrt.serve.settings import read_settings

FOLDER = DEPLOY / "kuberay"
MANIFEST: dict[str, Any] = yaml.safe_load((FOLDER / "rayservice.yaml").read_text())
CLUSTER = MANIFEST["spec"]["rayClusterConfig"]
GROUPS = [CLUSTER["headGroupSpec"], *CLUSTER["workerGroupSpecs"]]
CONFIG = yaml.safe_load(MANIFEST["spec"]["serveConfigV2"])


def test_its_pods_are_of_the_api() -> None:
    definitions = schema("kubernetes-1.37.json")["$defs"]
    (name,) = (each for each in definitions if each.endswith("PodTemplateSpec"))
    for group in GROUPS:
        assert errors_of(group["template"], {"$defs": definitions, **definitions[name]}) == []
    assert errors_of({**GROUPS[0]["template"], "specs": {}}, {"$defs": definitions, **definitions[name]}) != []


def test_its_settings_are_known_and_let_it_finish() -> None:
    settings = read_settings({}, FOLDER / "serve.toml")
    for group in GROUPS:
        pod = group["template"]["spec"]
        assert pod["terminationGracePeriodSeconds"] > seconds_to_end(settings.options)
        mounts = {mount["mountPath"]: mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
        assert settings.options.keys_file is not None
        assert mounts[str(settings.options.keys_file.parent)] == "keys"
        assert {port["containerPort"] for port in pod["containers"][0]["ports"]} == {settings.options.port}
    assert CONFIG["http_options"] == {"host": settings.options.host, "port": settings.options.port}
    (workers,) = CLUSTER["workerGroupSpecs"]
    assert workers["maxReplicas"] >= (settings.ray.max_replicas or 0)
    assert (
        int(workers["template"]["spec"]["containers"][0]["resources"]["requests"]["cpu"]) >= settings.ray.replica_cpus
    )


def test_its_application_is_there() -> None:
    (app,) = CONFIG["applications"]
    module, _, name = app["import_path"].partition(":")
    assert callable(getattr(importlib.import_module(module), name))
    assert app["args"] == {"config": "/etc/pixrt/serve.toml"}


def test_ray_takes_its_config() -> None:
    ray_schema = pytest.importorskip("ray.serve.schema")
    ray = importlib.import_module("ray")
    ray_schema.ServeDeploySchema.model_validate(CONFIG)
    assert CLUSTER["rayVersion"] == ray.__version__
