"""Every reply in every situation: one JSON case per oddity, and what holds for any of them."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from talk import ALL, LANGUAGES, LINKS, NOW, WORDS, bubble, question, replies, reply, situation, told, visit

from bridge.inbound.effects import Ask, Block, Close, Command, Effect, ForPerson, Ignore, Say
from bridge.inbound.replies import FIELDS, fill, title
from bridge.inbound.reply import Answer, Kind, Reply, Tap
from bridge.inbound.respond import respond
from bridge.inbound.situation import Situation

CASES = sorted((Path(__file__).parent / "testdata/respond").glob("*.json"))
REPLIES = replies()


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_respond(path: Path) -> None:
    case = json.loads(path.read_text("utf-8"))
    assert [told(effect) for effect in respond(situation(case["situation"]), reply(case["reply"]))] == case["expect"]


def test_there_are_cases() -> None:
    assert len(CASES) > 100


DOES = [
    *["appointment.confirm", "appointment.cancel", "appointment.reschedule", "appointment.book"],
    *["results.show", "handoff.nurse", "consent.grant", "consent.revoke", "url.open", None],
]
SAID = sorted(
    {word for words in WORDS.languages.values() for word in words.stop | words.start | words.ask}
    | {word for words in WORDS.languages.values() for answers in words.answers.values() for word in answers}
    | {"me duele", "", "confirmo", "👍", "necesito la baja"}
)
VISITS = st.sampled_from(
    [
        None,
        {},
        {"revision": 2},
        {"status": "cancelled"},
        {"status": "pending"},
        {"start": "2026-11-22T09:00:00+00:00"},
        {"patient": "Patient/mateo"},
    ]
)
BUBBLES = st.fixed_dictionaries(
    {
        "do": st.sampled_from(DOES),
        "confirm": st.booleans(),
        "same_identity": st.booleans(),
        "expires": st.sampled_from([None, "2026-11-22T09:00:00+00:00", "2026-11-23T09:00:00+00:00"]),
        "visit": VISITS,
        "person_id": st.sampled_from([1, 3, 9]),
    }
)
QUESTIONS = st.fixed_dictionaries(
    {
        "id": st.sampled_from([50, 51]),
        "kind": st.sampled_from(["cancel", "which"]),
        "visit": VISITS,
        "minutes": st.integers(0, 3000),
        "last_said": st.booleans(),
        "answered": st.booleans(),
        "choice": st.sampled_from([None, "cancel_yes", "cancel_no", "cancel_appointment", "stop_messages", "replaced"]),
        "revision": st.sampled_from([None, 1, 2]),
        "person_id": st.sampled_from([None, 1, 3]),
    }
)
SITUATIONS = st.builds(
    Situation,
    now=st.just(NOW),
    language=st.sampled_from([*LANGUAGES, "pt_BR", "ja"]),
    languages=st.just(LANGUAGES),
    words=st.just(WORDS),
    linked=st.lists(st.sampled_from(sorted(LINKS.values(), key=lambda link: link.person_id)), unique=True).map(tuple),
    blocked=st.booleans(),
    bubble=st.none() | BUBBLES.map(bubble),
    question=st.none() | QUESTIONS.map(question),
    visits=st.lists(VISITS.filter(bool).map(visit), max_size=2).map(tuple),
    owner=st.sampled_from(["bot", "person"]),
    waiting_for_staff=st.booleans(),
    available=st.sets(st.sampled_from(sorted(ALL))).map(frozenset),
    emergency=st.just("112"),
)
MOMENTS = st.integers(-700, 700).map(lambda seconds: NOW + timedelta(seconds=seconds))
TEXTS = st.none() | st.sampled_from(SAID) | st.text(max_size=20)
OTHERS = [kind for kind in get_args(Kind) if kind not in ("tap", "answer")]
REPLY = st.one_of(
    st.builds(Reply, st.just("wamid.1"), st.sampled_from(OTHERS), TEXTS, st.none(), st.none(), MOMENTS, st.none()),
    st.builds(
        Reply,
        st.just("wamid.1"),
        st.just("tap"),
        TEXTS,
        st.none() | st.builds(Tap, st.just(7), st.sampled_from([1, 2]), st.just("confirm")),
        st.none(),
        MOMENTS,
        st.just(7),
    ),
    st.builds(
        Reply,
        st.just("wamid.1"),
        st.just("answer"),
        TEXTS,
        st.none(),
        st.builds(
            Answer,
            st.sampled_from([50, 51]),
            st.sampled_from(["cancel_yes", "cancel_no", "cancel_appointment", "stop_messages"]),
        ),
        MOMENTS,
        st.none(),
    ),
)


def kinds(effects: tuple[Effect, ...]) -> set[type]:
    return {type(effect) for effect in effects}


@given(SITUATIONS, REPLY)
def test_never_silence_and_never_both(here: Situation, said: Reply) -> None:
    effects = respond(here, said)
    assert kinds(effects) & {Say, Ask, Command, ForPerson, Ignore}
    assert not {Block, Command} <= kinds(effects)
    assert sum(isinstance(effect, Command) for effect in effects) <= 1
    assert sum(isinstance(effect, Say | Ask) for effect in effects) <= 1, "one question, one sentence per reply"
    for effect in effects:
        if isinstance(effect, ForPerson | Ignore):
            assert effect.reason
            assert said.text is None or len(said.text) < 9 or said.text not in effect.reason


@given(SITUATIONS, REPLY)
def test_a_command_needs_everything(here: Situation, said: Reply) -> None:
    """Whatever else holds: the right phone, the current revision, a promised visit still ahead, a link, an open question."""
    for effect in respond(here, said):
        if not isinstance(effect, Command):
            continue
        assert effect.visit.status in {"booked", "pending"}
        assert effect.visit.start > max(here.now, said.at)
        assert f"appointment.{effect.verb}" in here.available
        linked = [link for link in here.linked if link.person_id == effect.person_id]
        assert linked and linked[0].patient == effect.visit.patient
        if said.tap is not None:
            assert here.bubble is not None and here.bubble.same_identity
            assert said.tap.revision == effect.visit.revision
        else:
            asked = here.question
            assert asked is not None and not asked.answered and asked.kind == "cancel"
            assert asked.revision in (None, effect.visit.revision)
            if said.answer is not None:
                assert said.answer == Answer(asked.id, "cancel_yes")
            else:
                assert asked.last_said and max(here.now, said.at) - asked.asked_at <= timedelta(minutes=10)


@given(SITUATIONS, st.sampled_from(LANGUAGES), MOMENTS, st.data())
def test_stop_words_always_block(here: Situation, language: str, at: object, data: st.DataObject) -> None:
    word = data.draw(st.sampled_from(sorted(WORDS.of(language).stop | WORDS.everywhere)))
    dressed = data.draw(st.sampled_from(["{}", " {}. ", "¡{}!", "{} 🙏", "«{}»\n"])).format(
        data.draw(st.sampled_from([word, word.upper(), word.title()]))
    )
    spoken = Situation(**{name: getattr(here, name) for name in Situation.__slots__} | {"language": language})
    effects = respond(spoken, Reply("wamid.1", "text", dressed, None, None, at, None))  # type: ignore[arg-type]
    assert effects[0] == Block()
    assert Say("stopped") in effects


@given(
    SITUATIONS,
    st.sampled_from(["CANCEL", "Cancelar", "cancelar.", "cancela", "END", "QUIT", "no", "sí", "yes"]),
    MOMENTS,
)
def test_cancel_words_never_block(here: Situation, text: str, at: object) -> None:
    assert Block not in kinds(respond(here, Reply("wamid.1", "text", text, None, None, at, None)))  # type: ignore[arg-type]


@given(SITUATIONS, REPLY)
def test_what_is_said_can_be_said(here: Situation, said: Reply) -> None:
    """Every sentence and button exists in every language, with exactly the fields it is given."""
    for effect in respond(here, said):
        if isinstance(effect, Say | Ask):
            assert set(effect.fields) == FIELDS[effect.reply_id]
            for language in LANGUAGES:
                assert "{" not in fill(REPLIES, effect.reply_id, language, effect.fields)
                assert all(title(REPLIES, button, language) for button, _ in effect.buttons)


@given(SITUATIONS, REPLY)
def test_a_new_question_closes_the_open_one(here: Situation, said: Reply) -> None:
    effects = respond(here, said)
    if Ask in kinds(effects) and here.question is not None and not here.question.answered:
        assert [effect.question_id for effect in effects if isinstance(effect, Close)] == [here.question.id]
