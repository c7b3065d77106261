import subprocess

from rsft.recipe.load import load_recipe
from rsft.training.runs.provenance import collect_provenance, git_state
from rsft.utils.atomic_files import sha256


def git(folder, *arguments):
    who = ["-c", "user.name=x", "-c", "user.email=x@x", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *who, "-C", str(folder), *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


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


def test_what_a_run_came_from(recipe_file, root, monkeypatch):
    monkeypatch.setenv("PATH", "")  # no git
    found = collect_provenance(load_recipe(recipe_file), recipe_file)
    assert found["data"] == {"root": str(root.resolve()), "manifest_sha256": sha256(root / "manifest.parquet")}
    assert found["git"] is None and found["recipe_file"] == str(recipe_file.resolve())
    assert found["recipe"]["meta"]["lr"] == 0.05 and found["recipe"]["peft"]["rank"] == 4
    assert {"rsft", "python", "torch", "numpy"} <= set(found["versions"])
    assert found["hardware"]["cores"] >= 1 and found["hardware"]["memory_gb"] > 0.5
