"""How to recognize the archives of the data sets, and where they are published."""

from rsft.data.datasets.archive_search import PublishedArchive

CIFAR_100_ARCHIVE = PublishedArchive(
    name="CIFAR-100",
    command="cifar100-lt",
    option="SOURCE",
    word="cifar100",
    # pickles, or the folder of a class
    is_member=lambda path: path.name in ("cifar-100-python", "aquarium_fish"),
    content="cifar-100-python/, or train/ and test/ with class folders",
    download=(
        "cifar-100-python.tar.gz, 169 MB, from"
        " https://www.cs.toronto.edu/~kriz/cifar.html"
    ),
)
PLACES_LT_ARCHIVE = PublishedArchive(
    name="Places365",
    command="places-lt",
    option="SOURCE",
    word="places",
    is_member=lambda path: path.name == "Places_LT_train.txt",
    content="the images of Places365 and the list Places_LT_train.txt",
    download=(
        "places365standard_easyformat.tar, 24 GB, from"
        " http://places2.csail.mit.edu/download.html, and the lists from"
        " https://github.com/zhmiao/OpenLongTailRecognition-OLTR"
    ),
    is_unpacked=False,
)
INATURALIST_2018_ARCHIVE = PublishedArchive(
    name="iNaturalist 2018",
    command="inat2018",
    option="SOURCE",
    word="inat",
    is_member=lambda path: path.name == "train_val2018",
    content="train_val2018/",
    download=(
        "train_val2018.tar.gz, 120 GB, from"
        " https://github.com/visipedia/inat_comp/tree/master/2018"
    ),
    is_unpacked=False,
)
