from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravesvc.errors import Code, RaveError
from ravesvc.media import links

ID = "dQw4w9WgXcQ"


@pytest.mark.parametrize(
    "link",
    [
        f"https://www.youtube.com/watch?v={ID}",
        f"http://youtube.com/watch?list=PL1&v={ID}&t=42s",
        f"https://m.youtube.com/watch/?v={ID}#comments",
        f"https://music.youtube.com/watch?v={ID}&si=x",
        f"HTTPS://WWW.YOUTUBE.COM/watch?v={ID}",
        f"https://youtu.be/{ID}?si=abc",
        f"youtu.be/{ID}",
        f"www.youtube.com/watch?v={ID}",
        f"https://www.youtube.com/shorts/{ID}",
        f"https://www.youtube.com/live/{ID}?feature=share",
        f"https://www.youtube-nocookie.com/embed/{ID}/",
        f"  https://youtu.be/{ID} ",
        f"https://youtu.be/{ID} please",
        f"this one: https://youtu.be/{ID}.",
        f"<https://youtu.be/{ID}>",
        f"(youtu.be/{ID})",
        f"“https://www.youtube.com/watch?v={ID}&t=10”!",
    ],
)
def test_a_link_leads_to_its_video(link: str) -> None:
    assert links.video_of(link) == ("youtube", ID)


@pytest.mark.parametrize(
    "link",
    [
        "",
        "never gonna give you up",
        f"https://youtube.com.example.org/watch?v={ID}",
        f"https://example.org/?u=https://youtu.be/{ID}",
        f"https://youtu.be@example.org/{ID}",
        f"https://evil-youtu.be/{ID}",
        f"javascript://youtu.be/{ID}",
        f"file://youtu.be/{ID}",
        "https://youtu.be/",
        f"https://youtu.be/{ID}x",
        "https://www.youtube.com/watch?v=../../etc/x",
        "https://www.youtube.com/watch",
        f"https://www.youtube.com/playlist?v={ID}",
        "https://www.youtube.com/@channel",
        "https://[youtu.be/x",
        f"https://youtu.be/{ID}\N{ARABIC-INDIC DIGIT THREE}",
        f"https://youtu.be/{ID}" + "&" * 3000,
        f"https://www.youtube.com/watch?{'&'.join(['a=b'] * 60)}&v={ID}",
    ],
)
def test_what_is_no_link_to_a_video_is_refused_in_words(link: str) -> None:
    with pytest.raises(RaveError, match="no link to a video") as e:
        links.video_of(link)
    assert e.value.code is Code.INVALID_ARGUMENT
    assert "youtu.be" in e.value.hint


@pytest.mark.slow
@given(st.text(max_size=60) | st.from_regex(r"https?://[a-z.]*youtu[./@:a-z0-9?=&%\[\]-]{0,40}", fullmatch=True))
def test_no_text_leads_to_anything_but_an_id(text: str) -> None:
    with contextlib.suppress(RaveError):
        provider, video_id = links.video_of(text)
        assert links.is_video(provider, video_id)
        assert video_id in text


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("https://example.org/x", True),
        ("HTTP://example.org", True),
        ("youtu.be/x", True),
        ("www.youtube.com/watch?v=x", True),
        ("youtube.com", True),
        ("never gonna", False),
        ("what is youtu.be", False),
        ("<https://youtu.be/x>", True),
        ("this one https://youtu.be/x", True),
        ("<>", False),
        ("", False),
    ],
)
def test_a_link_is_told_from_words(text: str, is_one: bool) -> None:
    assert links.is_link(text) is is_one
