"""Quiz: `?quiz start` asks five questions, `?quiz start 10` ten. The first right answer gets a point.

Each question waits for twenty seconds. Case, accents and articles of an answer do not matter. `?quiz stop` ends a
quiz, and `?quiz scores` shows who has most points. The room remembers them; `?forgetme` removes those of a user.

To enable it in all rooms, as root:

    ln -s /usr/share/rave-orchestrator/plugins/quiz.py /etc/rave/commands.d/
    ravectl refresh
"""

import asyncio
import random
import unicodedata
from collections import Counter

from ravesvc.commands import RaveError, UserError, command, fold

MAX_ROUNDS = 10
ANSWER_S = 20
PAUSE_S = 3
# After so many questions without a right answer in a row a quiz ends: no user is playing any more.
MAX_UNANSWERED = 3
MAX_ANSWER_CHARS = 60
MAX_SHOWN = 10
ARTICLES = ("the ", "a ", "an ")

# Each question with its answers; the first one is shown.
QUESTIONS = [
    ("Which planet is closest to the Sun?", "Mercury"),
    ("Which planet is called the Red Planet?", "Mars"),
    ("What is the chemical symbol of gold?", "Au"),
    ("At how many degrees Celsius does water freeze?", "0", "zero"),
    ("Which gas do plants take from the air for photosynthesis?", "Carbon dioxide", "CO2"),
    ("Which organ pumps the blood through the body?", "The heart"),
    ("How many legs does a spider have?", "8", "eight"),
    ("Which animal is the largest that lives today?", "The blue whale"),
    ("Which ocean is the largest?", "The Pacific", "Pacific Ocean"),
    ("What is the capital of Australia?", "Canberra"),
    ("What is the capital of Colombia?", "Bogotá"),
    ("In which city does the Eiffel Tower stand?", "Paris"),
    ("Which language do most people in Brazil speak?", "Portuguese"),
    ("How many sides does a hexagon have?", "6", "six"),
    ("What is the square root of 144?", "12", "twelve"),
    ("How many minutes does an hour and a half have?", "90", "ninety"),
    ("Who painted the Mona Lisa?", "Leonardo da Vinci", "Leonardo", "da Vinci"),
    ("Who wrote Romeo and Juliet?", "William Shakespeare", "Shakespeare"),
    ("Who was the first human on the Moon?", "Neil Armstrong", "Armstrong"),
    ("How many strings does a violin have?", "4", "four"),
]


class Quiz:
    """A quiz that runs; `host` is the user who has started it."""

    def __init__(self, host):
        """`host` may be None."""
        self.host = host


# The quiz that runs in this room; None while there is none.
current = None


@command("quiz start", "Asks questions.", group="games", usage="[rounds]", example="5", seconds=120)
async def start(context, rounds: int = 5):
    """Ask one question after another."""
    global current
    if not 1 <= rounds <= MAX_ROUNDS:
        raise UserError(f"a quiz has 1 to {MAX_ROUNDS} rounds")
    if current:
        raise UserError("a quiz is running already", hint="answer its question")
    quiz = current = Quiz(context.user_id)
    try:
        await play(context, quiz, rounds)
    finally:
        # After ?quiz stop another one may be running by now.
        if current is quiz:
            current = None


async def play(context, quiz, rounds):
    """Ask, count the points of this quiz, and tell them at the end."""
    points = Counter()
    unanswered = 0
    for number, (question, *answers) in enumerate(random.sample(QUESTIONS, rounds), 1):
        if number > 1:
            await asyncio.sleep(PAUSE_S)
        if current is not quiz:
            return
        winner = await ask(context, quiz, f"Question {number} of {rounds}: {question}", answers)
        if current is not quiz:
            return
        if winner:
            unanswered = 0
            points[winner] += 1
            await context.send(f"{winner.name} is right: {answers[0]}")
            await save_point(context, winner.id)
        else:
            unanswered += 1
            await context.send(f"The answer is: {answers[0]}")
        if unanswered == MAX_UNANSWERED:
            break
    told = ", ".join(f"{member.name}: {count}" for member, count in points.most_common(MAX_SHOWN))
    await context.send(f"The quiz is over. {told or 'There were no right answers'}")


async def ask(context, quiz, question, answers):
    """The user who is first with one of the answers; None if there is none, or if the quiz was stopped."""
    right = {simple(answer) for answer in answers}
    async for answer in context.answers(question, timeout=ANSWER_S):
        if current is not quiz:
            return None
        if simple(answer.value) in right:
            return answer.member
    return None


def simple(text):
    """A text without what does not matter in an answer: case, accents, punctuation, a leading article."""
    letters = unicodedata.normalize("NFD", fold(text[:MAX_ANSWER_CHARS]))
    words = "".join(each if each.isalnum() else " " for each in letters if not unicodedata.combining(each))
    plain = " ".join(words.split())
    for article in ARTICLES:
        plain = plain.removeprefix(article)
    return plain


async def save_point(context, user):
    """Remember a point of a user."""
    try:
        await context.store.of(user).update("points", lambda points: points + 1, 0)
    except RaveError as error:
        # The store may be away for a moment, or full. The quiz goes on.
        await context.send(f"That point is not remembered: {error}")


@command("quiz stop", "Ends the quiz.", group="games")
async def stop(context):
    """End it. The handler that asks finds out when its question ends, and then says nothing more."""
    global current
    if not current:
        raise UserError("no quiz is running")
    started_it = context.user_id is not None and context.user_id == current.host
    if not started_it and context.user_id not in context.permissions.admins:
        raise UserError("only an admin or the user who started the quiz may stop it")
    current = None
    await context.reply("The quiz is stopped")


@command("quiz scores", "Shows who has most points.", group="games")
async def scores(context):
    """Say the users with most points of all quizzes."""
    points = {user: values.get("points", 0) for user, values in (await context.store.users()).items()}
    best = sorted(points.items(), key=lambda pair: -pair[1])[:MAX_SHOWN]
    await context.people.prefetch([user for user, _ in best])
    lines = [f"{place}. {await context.people.name(user)}: {count}" for place, (user, count) in enumerate(best, 1)]
    await context.reply("\n".join(lines) or "There are no points yet")
