"""`rsft audit`: output, JSON file and exit code."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from rsft.cli.data import show_audit
from rsft.data.audit import AuditFinding, AuditResult

Rsft = Callable[..., tuple[int, str]]


def test_findings_are_written_and_strict_exits_with_1(rsft, class_folders, tmp_path):
    shutil.copytree(class_folders, tmp_path / "copy")
    first, other = (
        tmp_path / f"copy/{name}/0.png" for name in ("train/flat", "train/steep")
    )
    shutil.copyfile(first, other)
    code, printed = rsft("audit", tmp_path / "copy", "-o", "findings.json", "--strict")
    assert code == 1 and "flat" in printed
    [audit] = json.loads(Path("findings.json").read_text("utf-8"))
    assert audit["clean"] is False


def test_audit_of_a_chip_store_is_written_into_it(rsft, root, tmp_path):
    shutil.copytree(root, tmp_path / "copy")
    code, printed = rsft("audit", tmp_path / "copy")
    assert code == 0 and "names in two splits" in printed
    assert (tmp_path / "copy/audit.json").is_file()


def test_audit_of_class_folders_writes_nothing(rsft, class_folders):
    before = sorted(class_folders.rglob("*"))
    code, printed = rsft("audit", class_folders)
    assert (
        code == 0
        and "train rows" in printed
        and sorted(class_folders.rglob("*")) == before
    )


def test_an_audit_of_a_thousand_classes_takes_forty_lines(capsys):
    classes = {f"class {number}": {"images": {"train": 2}} for number in range(1_000)}
    findings = [AuditFinding(f"fault {number}", 0) for number in range(13)]
    totals = dict.fromkeys(["train rows", "val rows", "test rows", "contents"], 3)
    show_audit(AuditResult("store", totals, findings, classes), "store/audit.json")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 40 and lines[-1] == "… 993 more in store/audit.json"
    few = dict(list(classes.items())[:20])
    show_audit(AuditResult("store", totals, findings, few), "store/audit.json")
    assert "class 19 " in capsys.readouterr().out


def test_missing_folder_is_refused(rsft, tmp_path):
    code, printed = rsft("audit", tmp_path / "nowhere")
    assert code == 2 and "the folder does not exist" in printed
