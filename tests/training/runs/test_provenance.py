import subprocess

from rsft.recipe.load import load_recipe
from rsft.training.runs.writer import collect_provenance, git_state
from rsft.utils.atomic_files import sha256


def git(folder, *arguments):
    identity = ["-c", "user.name=x", "-c", "user.email=x@x", "-c", "commit.gpgsign=false"]
    process = subprocess.run(
        ["git", *identity, "-C", str(folder), *arguments], check=True, capture_output=True, text=True
    )
    return process.stdout.strip()


def test_git_state(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("seed: 0")
    assert git_state(file) is None
    git(tmp_path, "init")
    assert git_state(file) is None  # no commit yet
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "x")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert git_state(file) == {"commit": commit, "dirty": False}
    file.write_text("seed: 1")
    assert git_state(file) == {"commit": commit, "dirty": True}


def test_the_origin_of_a_run(recipe_file, root, monkeypatch):
    monkeypatch.setenv("PATH", "")  # no git
    entries = collect_provenance(load_recipe(recipe_file), recipe_file)
    assert entries["data"] == {"root": str(root.resolve()), "manifest_sha256": sha256(root / "manifest.parquet")}
    assert entries["git"] is None and entries["recipe_file"] == str(recipe_file.resolve())
    assert entries["recipe"]["meta"]["lr"] == 0.05 and entries["recipe"]["peft"]["rank"] == 4
    assert {"rsft", "python", "torch", "numpy"} <= set(entries["versions"])
    assert entries["hardware"]["cores"] >= 1 and entries["hardware"]["memory_gb"] > 0.5
