"""CITATION.cff, the workflows and the hooks have the form that their readers expect,
and name what exists."""

import importlib.resources
import json
import re

import jsonschema
import pytest
import yaml

from tests.helpers.style import ROOT

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
PINNED = re.compile(r"actions/[\w-]+@v\d+|[\w-]+/[\w.-]+@[0-9a-f]{40}")
"""GitHub's own actions by major version, others by commit."""


def read_yaml(path):
    """Read a YAML file; dates and the key `on` stay texts, as JSON has no others."""
    return yaml.load(path.read_text("utf-8"), Loader=yaml.BaseLoader)


def validate(value, name):
    """Check a document against a schema that check-jsonschema contains."""
    file = (
        importlib.resources.files("check_jsonschema")
        / f"builtin_schemas/vendor/{name}.json"
    )
    jsonschema.validate(value, json.loads(file.read_text("utf-8")))


def jobs_of(path):
    """Return the jobs of a workflow by name."""
    return read_yaml(path)["jobs"]


@pytest.mark.slow
def test_the_citation_is_valid_and_names_software_and_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    validate(citation, "citation-file-format")
    assert citation["type"] == "software" and citation["license"] == "Apache-2.0"
    (paper,) = citation["references"]
    assert [author["family-names"] for author in paper["authors"]] == [
        "Tian",
        "Liu",
        "Sun",
    ] and paper["year"] == 2025


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_is_valid_and_has_few_rights_pinned_actions_and_known_targets(path):
    workflow = yaml.safe_load(path.read_text("utf-8"))
    workflow["on"] = workflow.pop(True)  # YAML 1.1 reads `on` as a boolean
    validate(workflow, "github-workflows")
    rights = read_yaml(path)["permissions"]
    assert rights in ({}, {"contents": "read"})
    targets = set(
        re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    )
    for name, job in jobs_of(path).items():
        commands = " ".join(step.get("run", "") for step in job["steps"])
        assert set(re.findall(r"make ([\w-]+)", commands)) <= targets
        writes = {
            right
            for right, level in job.get("permissions", {}).items()
            if level == "write"
        }
        assert writes <= ({"id-token"} if name == "publish" else set())
        assert "timeout-minutes" in job
        for step in job["steps"]:
            assert "uses" not in step or PINNED.fullmatch(step["uses"]), step
            if step.get("uses", "").startswith("actions/checkout"):
                assert step["with"]["persist-credentials"] == "false"


def test_what_the_release_publishes_was_tested_and_can_only_be_published():
    jobs = jobs_of(ROOT / ".github/workflows/release.yml")
    assert (
        "make test-wheel" in str(jobs["build"]["steps"])
        and jobs["publish"]["needs"] == "build"
    )
    assert not any("run" in step for step in jobs["publish"]["steps"])


def test_the_release_compares_the_tag_with_the_line_of_the_version():
    steps = jobs_of(ROOT / ".github/workflows/release.yml")["build"]["steps"]
    (check,) = [
        step["run"] for step in steps if "GITHUB_REF_NAME" in step.get("run", "")
    ]
    assert check.startswith('grep -qxF "__version__ = ') and check.endswith(
        "rsft/version.py"
    )
    assert re.search(
        r'^__version__ = "[\d.]+"$',
        (ROOT / "rsft/version.py").read_text("utf-8"),
        re.MULTILINE,
    )


def test_the_hooks_run_the_tools_of_make_lint():
    (local,) = read_yaml(ROOT / ".pre-commit-config.yaml")["repos"]
    programs = [hook["entry"].split()[0] for hook in local["hooks"]]
    assert local["repo"] == "local" and programs == [
        ".venv/bin/ruff",
        ".venv/bin/ruff",
        ".venv/bin/mypy",
    ]
