from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasette_image_search.metadata.cameras import named_once


@pytest.mark.parametrize(
    ("written", "named"),
    [
        ([("Canon", "EOS R6"), ("Canon", "Canon EOS R6")], ("Canon", "EOS R6")),
        (
            [("Nikon", "D70s"), ("NIKON CORPORATION", "NIKON D70s"), ("NIKON", "D70s")],
            ("Nikon", "D70s"),
        ),
        (
            [
                ("OLYMPUS IMAGING CORP.", "E-M1"),
                ("OLYMPUS CORPORATION", "E-M1"),
                ("OLYMPUS OPTICAL CO.,LTD", "E-M1"),
                ("Olympus", "Olympus E-M1"),
            ],
            ("Olympus", "E-M1"),
        ),
        (
            [("KONICA MINOLTA", "DYNAX 5D"), ("Konica Minolta Camera, Inc.", "DYNAX 5D")],
            ("Konica Minolta", "DYNAX 5D"),
        ),
        ([("SAMSUNG TECHWIN CO., LTD.", "S850"), ("samsung", "Samsung S850")], ("Samsung", "S850")),
        ([("SONY", "ILCE-7M3"), ("Sony", "ILCE-7M3")], ("Sony", "ILCE-7M3")),
        ([("Phase One A/S", "P65+"), ("PHASE ONE", "P65+")], ("Phase One", "P65+")),
        ([("RICOH IMAGING COMPANY, LTD.", "PENTAX K-3")], ("Ricoh", "PENTAX K-3")),
        ([("HTC", "HTC Desire")], ("HTC", "Desire")),
        ([("JK Imaging, Ltd.", "KODAK PIXPRO S-1")], ("JK Imaging", "KODAK PIXPRO S-1")),
        ([("GoPro", "HERO7 Black")], ("GoPro", "HERO7 Black")),
        ([("Leica Camera AG", "LEICA")], ("Leica", "LEICA")),
        ([("Camera", None)], ("Camera", None)),
        ([("General Electric", "A735")], ("General Electric", "A735")),
        ([("General Imaging Co.", "A735")], ("General Imaging", "A735")),
        ([("OLYMPUS DIGITAL CAMERA", "C700")], ("Olympus Digital Camera", "C700")),
        ([(None, "Canon EOS R6")], (None, "Canon EOS R6")),
    ],
)
def test_a_camera_has_one_name(
    written: list[tuple[str | None, str | None]], named: tuple[str | None, str | None]
):
    assert {named_once(*each) for each in written} == {named}


LETTERS = st.text(st.characters(max_codepoint=0x17F), min_size=1)


@given(LETTERS | st.sampled_from(["CO., LTD", "a/s a/s", "x inc co", ","]), LETTERS)
def test_what_was_named_once_stays(make: str, model: str):
    named = named_once(make, model)
    assert named_once(*named) == named
    assert None not in named
