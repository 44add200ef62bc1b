"""What is wrong in the files of image corpora: one table, each kind named by file and line, or tolerated."""

from dataclasses import dataclass, field

import pytest
from image_trees import (
    affectnet_lists,
    affectnet_row,
    by_image,
    expw,
    load,
    rafau,
    rafce,
    rafdb,
    touch,
    write,
)

from extract.corpora.readers import affectnet
from stores.errors import CorpusError


@dataclass
class Format:
    """One file that a tree is written with, and lines that cannot be in it."""

    make: object
    good: list[str]
    bad: dict[str, str]
    options: dict = field(default_factory=dict)
    header: str = ""
    kind: str = ""


def manifest(root):
    touch(root / "crops", ["1.jpg", "2.jpg", "3.jpg"])
    return root / "manifest.csv"


def one_list(root):
    training, validation = affectnet_lists(root, [(f"1/{i}.jpg", 0, 0, 0) for i in range(3)], [])
    validation.unlink()
    return training


def in_rafce(name):
    def make(root):
        rafce(root, [(f"{i}.jpg", 0, 0, "1") for i in range(3)])
        return root / name

    return make


FORMATS = {
    "expw": Format(
        lambda root: expw(root, [(f"{i}.jpg", 0, (0, 0, 9, 9), 9, 0) for i in range(3)]),
        [f"{i}.jpg 0 0 0 9 9 9.5 {i}" for i in range(3)],
        {
            "out of range": "1.jpg 0 0 0 9 9 9.5 7",
            "negative": "1.jpg 0 0 0 9 9 9.5 -1",
            "not a number": "1.jpg 0 0 zero 9 9 9.5 1",
            "not finite": "1.jpg 0 0 0 9 9 nan 1",
            "face that is no number": "1.jpg a 0 0 9 9 9.5 1",
            "extra column": "1.jpg 0 0 0 9 9 9.5 1 1",
            "missing column": "1.jpg 0 0 0 9 9 9.5",
            "shuffled": "1 9.5 9 9 0 0 0 1.jpg",
            "duplicate": "0.jpg 0 0 0 9 9 9.5 5",
            "blank": "",
        },
    ),
    "rafdb": Format(
        lambda root: rafdb(root, [(f"train_{i}.jpg", 1) for i in range(3)]),
        [f"train_{i}.jpg {i + 1}" for i in range(3)],
        {
            "out of range": "train_1.jpg 8",
            "zero": "train_1.jpg 0",
            "not a number": "train_1.jpg happy",
            "fraction": "train_1.jpg 1.5",
            "extra column": "train_1.jpg 1 1",
            "missing column": "train_1.jpg",
            "shuffled": "1 train_1.jpg",
            "no split": "val_1.jpg 1",
            "duplicate": "train_0.jpg 5",
            "blank": "",
        },
    ),
    "rafau": Format(
        lambda root: rafau(root, [(f"{i}.jpg", "1") for i in range(3)]),
        ["0.jpg 1+2", "1.jpg null", "2.jpg L12"],
        {
            "out of range": "1.jpg 1+0",
            "not a number": "1.jpg 1+smile",
            "missing column": "1.jpg",
            "shuffled": "1+2 1.jpg",
            "duplicate": "0.jpg 1",
            "blank": "",
        },
    ),
    "rafce emotions": Format(
        in_rafce("RAFCE_emolabel.txt"),
        ["0.jpg 0", "1.jpg 7", "2.jpg 13"],
        {
            "out of range": "1.jpg 14",
            "not a number": "1.jpg sad",
            "duplicate": "0.jpg 1",
            "blank": "",
            "extra": "1 2 3",
        },
        kind="rafce",
    ),
    "rafce partition": Format(
        in_rafce("RAFCE_partition.txt"),
        ["0.jpg 0", "1.jpg 1", "2.jpg 2"],
        {"out of range": "1.jpg 3", "not a number": "1.jpg test", "duplicate": "0.jpg 1", "blank": ""},
        kind="rafce",
    ),
    "rafce units": Format(
        in_rafce("RAFCE_AUlabel.txt"),
        ["0.jpg 1+2", "1.jpg null", "2.jpg 1,25"],
        {"out of range": "1.jpg 100", "not a number": "1.jpg x", "duplicate": "0.jpg null", "blank": ""},
        kind="rafce",
    ),
    "affectnet": Format(
        one_list,
        [affectnet_row(f"1/{i}.jpg", i, 0.5, -0.5) for i in range(3)],
        {
            "out of range": affectnet_row("1/1.jpg", 11, 0, 0),
            "negative": affectnet_row("1/1.jpg", -1, 0, 0),
            "fraction": affectnet_row("1/1.jpg", 1.5, 0, 0),
            "not a number": affectnet_row("1/1.jpg", 1, "zero", 0),
            "not finite": affectnet_row("1/1.jpg", 1, "inf", 0),
            "too much": affectnet_row("1/1.jpg", 1, 1.01, 0),
            "empty cell": affectnet_row("1/1.jpg", "", 0, 0),
            "no picture": affectnet_row("", 1, 0, 0),
            "extra column": affectnet_row("1/1.jpg", 1, 0, 0) + ",1",
            "missing column": "1/1.jpg,0,0,9,9,1;2,1,0",
            "blank": "",
        },
        header=",".join(affectnet.COLUMNS),
    ),
    "manifest": Format(
        manifest,
        [f"c,{i},crops/{i + 1}.jpg,0.5,sad,{i % 2},train" for i in range(3)],
        {
            "out of range": "c,1,crops/2.jpg,1.5,sad,0,train",
            "not a number": "c,1,crops/2.jpg,high,sad,0,train",
            "not finite": "c,1,crops/2.jpg,inf,sad,0,train",
            "class number": "c,1,crops/2.jpg,0,3,0,train",
            "intensity": "c,1,crops/2.jpg,0,sad,2,train",
            "fraction": "c,1,crops/2.jpg,0,sad,0.5,train",
            "negative frame": "c,-1,crops/2.jpg,0,sad,0,train",
            "frame beyond any end": "c,99999999,crops/2.jpg,0,sad,0,train",
            "duplicate frame": "c,0,crops/2.jpg,0,sad,0,train",
            "no clip": ",1,crops/2.jpg,0,sad,0,train",
            "no frame": "c,,crops/2.jpg,0,sad,0,train",
            "clip that is no name": "a/b,1,crops/2.jpg,0,sad,0,train",
            "another split": "c,1,crops/2.jpg,0,sad,0,test",
            "unknown split": "c,1,crops/2.jpg,0,sad,0,dev",
            "extra column": "c,1,crops/2.jpg,0,sad,0,train,x",
            "missing column": "c,1,crops/2.jpg,0,sad,0",
            "blank": "",
        },
        header="clip,frame,path,valence,expression,AU4,split",
    ),
}


def lines_of(form, lines):
    return ([form.header] if form.header else []) + lines


def read(name, root):
    return load(FORMATS[name].kind or name, root)


@pytest.mark.parametrize(
    ("name", "wart"), [(name, wart) for name, form in FORMATS.items() for wart in form.bad]
)
def test_a_bad_line_is_refused_by_file_and_line(tmp_path, name, wart):
    form = FORMATS[name]
    path = form.make(tmp_path)
    lines = lines_of(form, [form.good[0], form.bad[wart], *form.good[2:]])
    write(path, lines)
    with pytest.raises(CorpusError) as caught:
        read(name, tmp_path)
    message = str(caught.value)
    assert f"{path}, line {len(lines) - 1}: " in message
    assert "expected" in message
    assert "\n" not in message


@pytest.mark.parametrize("name", FORMATS)
def test_crlf_byte_order_mark_and_blank_lines_at_the_end_change_nothing(tmp_path, name):
    form = FORMATS[name]
    path = form.make(tmp_path)
    lines = lines_of(form, form.good)
    write(path, lines)
    plain = read(name, tmp_path)
    for data in (
        "\n".join(lines).encode(),
        "".join(f"{line}\r\n" for line in lines).encode(),
        b"\xef\xbb\xbf" + "\n".join(lines).encode(),
        ("\n".join(lines) + "\n\n\r\n").encode(),
    ):
        write(path, data)
        again = read(name, tmp_path)
        assert str(by_image(again)) == str(by_image(plain))
        assert again.notes == plain.notes


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_that_is_empty_missing_or_no_text_is_refused_by_name(tmp_path, name):
    form = FORMATS[name]
    path = form.make(tmp_path)
    for data in (b"", b"\xff\xfe\x00\x01\n\xff", form.header.encode() + b"\n"):
        write(path, data)
        with pytest.raises(CorpusError) as caught:
            read(name, tmp_path)
        assert str(path) in str(caught.value)
    path.unlink()
    if name != "rafce units":  # its action units may be left away, which is noted
        with pytest.raises(CorpusError) as caught:
            read(name, tmp_path)
        assert path.stem in str(caught.value)
