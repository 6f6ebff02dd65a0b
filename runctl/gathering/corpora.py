"""Names of public data sets, and what each holds: enough to see that a config named after one reads another.

A name is known in a path where it stands whole (`data/openvid/*.tar`, `HuggingFaceFW/fineweb-edu`); that a name is not
in this list says nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from runctl.light import pattern

_KINDS = {
    "text": (
        "c4 pile thepile openwebtext webtext fineweb finewebedu redpajama slimpajama dolma dclm refinedweb "
        "bookcorpus wikitext wikitext2 wikitext103 wikipedia tinystories tinyshakespeare cosmopedia smoltalk "
        "ultrachat ultrafeedback sharegpt openhermes alpaca dolly oasst oasst1 slimorca openorca tulu lmsys "
        "wildchat flan natural_instructions hhrlhf squad glue superglue mmlu hellaswag proofpile peS2o lima "
        "capybara orca nectar"
    ),
    "code": "thestack stackv2 starcoder starcoderdata codeparrot codealpaca humaneval mbpp codecontests",
    "math": "gsm8k metamath openwebmath finemath numinamath orcamath openmathinstruct mathinstruct",
    "image": (
        "imagenet imagenet1k cifar10 cifar100 mnist fashionmnist coco laion laion400m laion2b laioncoco cc3m "
        "cc12m datacomp cauldron thecauldron llavainstruct vqav2 textvqa docvqa chartqa gqa okvqa flickr30k "
        "celeba ffhq lsun ade20k places365 openimages sharegpt4v rlaifv visualgenome pascalvoc"
    ),
    "video": (
        "webvid webvid2m webvid10m openvid openvid1m panda70m vript vriptlong kinetics kinetics400 "
        "kinetics600 kinetics700 ucf101 hmdb51 somethingsomething ssv2 howto100m msrvtt activitynet internvid "
        "sharegpt4video llavavideo vidgen hdvila ego4d epickitchens finevideo miradata"
    ),
    "audio": (
        "librispeech librilight commonvoice audioset voxceleb gigaspeech esc50 fsd50k musdb ljspeech vctk "
        "musiccaps peoplesspeech wavcaps"
    ),
}
KINDS = {name.lower().replace("_", ""): kind for kind, names in _KINDS.items() for name in names.split()}
LONGEST_WORDS, LONGEST = 3, 400
_PARTS = pattern(r"[A-Za-z0-9]+")
_COMMON = frozenset(("flan", "orca", "lima", "pile", "glue", "tulu", "places", "capybara", "nectar", "dolly", "coco"))


@lru_cache(maxsize=1024)
def named(text: str) -> frozenset[str]:
    """The data sets whose names stand in a text, as whole words or several together (`fineweb-edu`); the longest
    name wins."""
    words = _PARTS.findall(text[:LONGEST].lower())
    found: set[str] = set()
    at = 0
    while at < len(words):
        for size in range(LONGEST_WORDS, 0, -1):
            name = "".join(words[at : at + size])
            if name in KINDS and at + size <= len(words):
                found.add(name)
                at += size
                break
        else:
            at += 1
    return frozenset(found)


def kinds(items: Iterable[str]) -> frozenset[str] | None:
    """What the data of these paths hold, or None where one of them is not known."""
    found: set[str] = set()
    for item in items:
        names = named(item)
        if not names:
            return None
        found |= {KINDS[name] for name in names}
    return frozenset(found)


def listed(kinds: Iterable[str]) -> str:
    """Kinds of data in words: `images and text`."""
    return " and ".join(f"{kind}s" if kind == "image" else kind for kind in sorted(kinds))


def same(one: str, other: str) -> bool:
    """Whether one name is a form of the other: `openvid` and `openvid1m`."""
    return one.startswith(other) or other.startswith(one)


def distinctive(name: str) -> bool:
    """Whether a name in a file's name can only mean the data set."""
    return name not in _COMMON
