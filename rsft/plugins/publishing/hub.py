"""Write a model card, lay a bundle out for the Hugging Face Hub, upload it.

Nothing else contacts the Hub.
"""

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from rsft.data.imagery.bands import POLARIZATIONS
from rsft.errors import RequestError, RsftError
from rsft.inference.engines.base import first_line
from rsft.models.bundle.bundle import (
    INDEX_FILE,
    SIGNATURE_FILES,
    read_index,
    spdx_license,
)
from rsft.plugins.publishing.source import (
    BundleSource,
    fill_bundle_template,
    read_source,
)
from rsft.plugins.publishing.stac_item import ITEM_FILE, render_item
from rsft.types import JsonObject
from rsft.utils.atomic_files import atomic_folder, check_is_free, write_text
from rsft.utils.dependencies import require
from rsft.utils.licenses import UNKNOWN

BUNDLE_DIR = "bundle"
"""Folder of the bundle in the repository, as in a run folder: a bundle contains no
foreign files."""

CARD_FILE = "README.md"
MAX_CLASSES = 200
"""Largest number of classes that the card lists one by one."""

_REPOSITORY = re.compile(r"[a-zA-Z0-9][\w.-]{0,95}/[a-zA-Z0-9][\w.-]{0,95}", re.ASCII)


def write_model_card(
    bundle: Path,
    output: Path | None = None,
    *,
    repository: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Write the model card of a bundle for the Hugging Face Hub.

    It is Markdown with YAML front matter.

    Args:
        bundle: a bundle, a run folder, or runs/<recipe> for its newest run.
        output: file to write (default: README.md beside the folder of the bundle).
        repository: OWNER/NAME of the repository on the Hub, for the commands in the
            card.
        overwrite: replace an existing file.

    Returns:
        The path of the card.

    Raises:
        RequestError: the path holds no bundle, the file exists, or `repository` is no
            name.
        WeightsError: the bundle is damaged or changed.
        DataError: the evaluation beside the bundle is damaged.

    Example:
        >>> path = write_model_card(Path("runs/ships"))
        >>> path.read_text().splitlines()[:3]
        ['---', 'license: unknown', 'library_name: rsft']
    """
    check_repository(repository)
    source = read_source(bundle)
    path = output or source.folder.parent / CARD_FILE
    check_is_free(path, overwrite)
    write_text(path, render_card(source, repository))
    return path


def check_repository(repository: str | None) -> None:
    """Raise a RequestError unless the repository's name is OWNER/NAME."""
    if repository is not None and not _REPOSITORY.fullmatch(repository):
        raise RequestError(
            f"{repository!r} is not the name of a repository",
            repository,
            "give OWNER/NAME",
        )


def render_card(source: BundleSource, repository: str | None = None) -> str:
    """Fill the template of the model card, card.md.jinja."""
    weights = source.bundle.recipe.backbone.weights
    return fill_bundle_template(
        "card.md.jinja",
        source,
        front=yaml.safe_dump(
            front_matter(source), sort_keys=False, allow_unicode=True, width=10_000
        ),
        weights_file=Path(weights).name if weights else None,
        max_classes=MAX_CLASSES,
        repository=repository,
        folder=repository.rpartition("/")[2] if repository else "MODEL",
    )


def front_matter(source: BundleSource) -> JsonObject:
    """Return the metadata of a model card: keys of the Hugging Face Hub.

    A base model is named if the encoder has a repository there.
    """
    bundle = source.bundle
    repository = source.encoder.repository
    tags = ["rsft", "remote-sensing", bundle.recipe.peft.method]
    if set(bundle.contract.used_bands) & set(POLARIZATIONS):
        tags.append("sar")
    front: JsonObject = {
        "license": (spdx_license(bundle.licenses) or UNKNOWN).lower(),
        "library_name": "rsft",
        "pipeline_tag": "image-classification",
        "tags": tags,
    }
    if repository:
        front |= {"base_model": repository, "base_model_relation": "adapter"}
    return front


def write_hub_folder(
    bundle: Path,
    output: Path,
    repository: str | None = None,
    *,
    overwrite: bool = False,
) -> Path:
    """Write a repository: README.md, bundle/ and item.json, a STAC item.

    `rsft.load_bundle` and `rsft predict` read this folder, and a download of the
    repository.

    Args:
        bundle: a bundle, a run folder, or runs/<recipe> for its newest run.
        output: folder to write.
        repository: OWNER/NAME of the repository, for the commands in the card.
        overwrite: replace an existing folder.

    Returns:
        The folder.

    Raises:
        RequestError: the path holds no bundle, the folder exists, or `repository` is no
            name.
        WeightsError: the bundle is damaged or changed.
        DataError: the evaluation beside the bundle is damaged.

    Example:
        >>> run = Path("runs/ships")
        >>> folder = write_hub_folder(run, Path("ships"), "analyst/ships")
        >>> list(list_hub_files(folder))[:2]
        ['README.md', 'bundle/bundle.json']
    """
    check_repository(repository)
    check_is_free(output, overwrite)
    source = read_source(bundle)
    index = read_index(source.folder)
    with atomic_folder(output) as temporary:
        (temporary / BUNDLE_DIR).mkdir()
        for name in (INDEX_FILE, *index.files, *SIGNATURE_FILES):
            if (source.folder / name).is_file():  # a bundle need not be signed
                shutil.copyfile(source.folder / name, temporary / BUNDLE_DIR / name)
        write_text(temporary / CARD_FILE, render_card(source, repository))
        published = replace(source, folder=temporary / BUNDLE_DIR)
        write_text(temporary / ITEM_FILE, render_item(published, temporary))
    return output


def list_hub_files(folder: Path) -> dict[str, int]:
    """Return the size in bytes of each file that an upload would send."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths}


def upload_hub_folder(folder: Path, repository: str, *, public: bool = False) -> str:
    """Upload a folder as one commit to a repository of the Hugging Face Hub.

    The account that is logged in there is used.

    A repository that does not exist is made, private unless `public`. Files of an
    earlier bundle are removed.

    Args:
        folder: a folder of `write_hub_folder`.
        repository: OWNER/NAME.
        public: whether everybody may see the repository. False refuses one that is
            public.

    Returns:
        The address of the commit.

    Raises:
        RequestError: the name is no OWNER/NAME, the repository is public,
            huggingface_hub is not installed, or the upload failed.

    Example:
        >>> upload_hub_folder(Path("ships"), "ships")
        Traceback (most recent call last):
        ...
        rsft.errors.RequestError: 'ships' is not the name of a repository | ships | ...
    """
    check_repository(repository)
    api: Any = require("huggingface_hub", "hub").HfApi()
    try:
        if not api.repo_exists(repository):
            api.create_repo(repository, private=not public)
        elif not public and not api.repo_info(repository).private:
            raise RequestError(
                "everybody can see this repository",
                repository,
                "give --public, or another name",
            )
        commit = api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            commit_message="Upload a bundle of rsft",
            delete_patterns=[f"{BUNDLE_DIR}/*"],
        )
    except RsftError:
        raise
    # the library raises errors of its own and of its HTTP client
    except Exception as error:
        raise RequestError(
            f"the upload failed: {first_line(error)}",
            repository,
            "log in with `hf auth login`, and check the name of the repository and the"
            " network",
        ) from error
    return str(getattr(commit, "commit_url", commit))
