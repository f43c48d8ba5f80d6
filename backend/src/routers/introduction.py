"""What a developer should know before the first request, at the top of the contract and `/docs`."""

OPEN = (
    "`user_id` is any name, such as `ada`: anyone may act for any user, because AUTH_MODE is open.",
)

CLOSED = (
    "Under Authorize, paste a token of the sign-in (Better Auth: `/api/auth/token`), or a personal "
    "token.",
    "`user_id` is the user of that token. The paths of other users answer 403.",
)

FOR_ALL = (
    "Without `limit`, a list has all tasks. With `limit`, `Link` leads to the next page.",
    "With the same `Idempotency-Key`, a create or a batch can be sent again and is applied once.",
    "Times are RFC 3339, in answers always in UTC. A due date may be a day, in any `time_zone`.",
    "`/changes` lists what changed since an earlier answer: at once, after a wait, or as a stream.",
    "Each error is an RFC 9457 problem, whose `detail` is a sentence that you can show to a user.",
    "A task keeps unknown members. With `Prefer: handling=strict`, the service refuses them.",
)


def introduction(*, with_tokens: bool) -> str:
    return "\n".join(f"- {line}" for line in (*(CLOSED if with_tokens else OPEN), *FOR_ALL))
