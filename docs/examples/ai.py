"""AI: `?ai What is a black hole?` is answered by a language model, at any service that speaks OpenAI's protocol.

The model sees what was asked and answered in the last half an hour, so users may go on with "and why?". It sees no
names. A user may ask ten times in an hour, a room sixty times. `?ai forget` has it begin anew; that is for admins.
What users ask goes to the service that you choose: tell them so.

The operator's key, the URL and the name of the model are secrets of the bots, see rave-mesh(8): files of one line
each, in the editor of `systemctl edit rave-mesh@.service`. Restart the bots after that.

    [Service]
    OpenFile=/etc/rave/ai-key:secret-ai-key:read-only,graceful
    OpenFile=/etc/rave/ai-url:secret-ai-url:read-only,graceful
    OpenFile=/etc/rave/ai-model:secret-ai-model:read-only,graceful

The URL is such as https://ai.example/v1/chat/completions. To enable the plugin in all rooms, as root:

    ln -s /usr/share/rave-orchestrator/plugins/ai.py /etc/rave/commands.d/
    ravectl refresh
"""

import time
from collections import deque

from ravesvc.commands import Permission, UserError, command

INSTRUCTIONS = (
    "You are a bot in the chat of a watch party. Answer in at most three short sentences, without formatting."
)
MAX_QUESTION_CHARS = 500
MAX_ANSWER_CHARS = 700
# Questions and answers that the model sees, and for how long.
MAX_REMEMBERED = 12
REMEMBERED_S = 1800
# Of one user, and of all users of the room.
MAX_QUESTIONS = 10
MAX_QUESTIONS_OF_ROOM = 60
PER_S = 3600
TIMEOUT_S = 30
REASONS = {
    401: "does not accept the operator's key",
    403: "does not accept the operator's key",
    404: "does not know the operator's model or URL",
    429: "is asked too much at the moment",
}

# When each was written, and as the service wants it.
remembered = deque(maxlen=MAX_REMEMBERED)
# Who has asked when in the last hour. The store has it as well, for the next bot; here ?forgetme does not reach it.
asked_at = deque(maxlen=MAX_QUESTIONS_OF_ROOM)


@command("ai", "Asks a language model.", group="Chat", example="What is a black hole?", cooldown=5, seconds=45)
async def ask(context, *, question: str):
    """Ask, and remember what was said."""
    if len(question) > MAX_QUESTION_CHARS:
        raise UserError(f"a question has at most {MAX_QUESTION_CHARS} characters")
    # Before the question is counted: without a key none is asked.
    url, model, key = (context.secret(f"ai-{name}") for name in ("url", "model", "key"))
    await count(context)
    asked = {"role": "user", "content": question}
    while remembered and time.monotonic() - remembered[0][0] > REMEMBERED_S:
        remembered.popleft()
    messages = [{"role": "system", "content": INSTRUCTIONS}, *(each for _, each in remembered), asked]
    response = await context.http.post(
        url,
        json={"model": model, "messages": messages, "max_tokens": 300},
        headers={"Authorization": f"Bearer {key}"},
        timeout=TIMEOUT_S,
    )
    answer = read(response)
    now = time.monotonic()
    remembered.extend([(now, asked), (now, {"role": "assistant", "content": answer})])
    # Another bot in the room might obey a message that begins like a command.
    await context.reply(f"AI: {answer}")


@command("ai forget", "Has the model begin anew.", permission=Permission.ADMIN, group="Chat")
async def forget(context):
    """Remember nothing of what was said."""
    remembered.clear()
    await context.reply("It begins anew")


async def count(context):
    """Count a question of the user. Raises UserError for one too many."""
    if context.user_id is None:
        raise UserError("Rave does not say who you are, so your questions can't be counted")

    now = round(time.time())
    while asked_at and now - asked_at[0][0] >= PER_S:
        asked_at.popleft()
    if len(asked_at) == MAX_QUESTIONS_OF_ROOM:
        raise UserError("this room has asked too much within an hour", hint=wait(asked_at[0][0], now))
    here = [at for at, user in asked_at if user == context.user_id]

    def add(times):
        recent = max([each for each in times if now - each < PER_S], here, key=len)
        if len(recent) >= MAX_QUESTIONS:
            raise UserError(f"you have asked {MAX_QUESTIONS} times within an hour", hint=wait(recent[0], now))
        return [*recent, now]

    await context.store.of(context.user_id).update("asked", add, [])
    asked_at.append((now, context.user_id))


def wait(first, now):
    """What to do when the first of too many was asked at that time."""
    return f"ask again in {max(1, round((first + PER_S - now) / 60))} min"


def read(response):
    """The answer of the model on one line. Raises UserError."""
    if not response.ok:
        raise UserError(f"the AI {REASONS.get(response.status, f'has a problem (HTTP {response.status})')}")
    try:
        text = response.json()["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError):
        text = None
    if not isinstance(text, str) or not text.split():
        raise UserError("the AI has given no answer")
    answer = " ".join(text[: 4 * MAX_ANSWER_CHARS].split())
    return answer if len(answer) <= MAX_ANSWER_CHARS else f"{answer[: MAX_ANSWER_CHARS - 1]}…"
