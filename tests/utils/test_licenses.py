"""Restrictions of licenses."""

import pytest
from timm import list_models
from timm.models import get_pretrained_cfg

from rsft.utils.licenses import describe_license, license_restrictions


@pytest.mark.parametrize(
    ("text", "restrictions"),
    [
        ("MIT", ()),
        ("apache-2.0", ()),
        ("BSD-3-Clause", ()),
        ("CC-BY-4.0", ()),
        ("CC0-1.0", ()),
        ("ODC-BY", ()),
        ("CC-BY-NC-4.0", ("non-commercial",)),
        ("cc-by-nc-sa-4.0", ("non-commercial", "share-alike")),
        ("CC-BY-ND-4.0", ("no-derivatives",)),
        ("ODbL-1.0", ("share-alike",)),
        ("dinov3-license", ("no-military", "no-weapons", "no-nuclear", "no-espionage")),
        ("DINOv3 License", ("no-military", "no-weapons", "no-nuclear", "no-espionage")),
        (
            "OlmoEarth Artifact License",
            ("no-military", "no-surveillance", "no-policing", "no-extraction"),
        ),
        ("sapiens2-license", ("no-surveillance", "no-biometrics", "listed-uses")),
        ("CreativeML-OpenRAIL-M", ("listed-uses",)),
        ("fair-noncommercial-research-license", ("non-commercial", "research-only")),
        ("academic use only, non-commercial", ("non-commercial", "research-only")),
        ("MIT; CC-BY-NC-4.0", ("non-commercial",)),
        ("unknown; the code is CC-BY-NC-4.0", ("non-commercial", "unknown")),
        ("no license published", ("unknown",)),
        ("internal, no-military", ("no-military",)),
        ("our own terms", ("unknown",)),
        ("submit 5 of them", ("unknown",)),  # contains "mit"
        ("", ("unknown",)),
    ],
)
def test_restrictions(text, restrictions):
    assert license_restrictions(text) == restrictions


def test_restrictions_of_the_licenses_in_timm():
    unknown = set()
    for name in list_models(
        ["vit_*", "deit*", "eva*", "convnext*", "swin*", "resnet*"], pretrained=True
    ):
        license_name = get_pretrained_cfg(name).license
        if license_restrictions(license_name or "unknown") == ("unknown",):
            unknown.add(license_name)
    assert unknown <= {None, "unknown", "apple-ascl", "nvidia-open-model-license"}


def test_description_does_not_repeat_restrictions():
    assert describe_license("MIT", ()) == "MIT"
    assert (
        describe_license("CC-BY-NC-4.0", ("non-commercial",))
        == "CC-BY-NC-4.0 (non-commercial)"
    )
    assert describe_license("unknown", ("unknown",)) == "unknown"
    assert (
        describe_license("internal, no-military", ("no-military", "unknown"))
        == "internal, no-military (unknown)"
    )
