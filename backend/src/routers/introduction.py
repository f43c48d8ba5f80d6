"""What a developer should know before the first request, at the top of the contract and `/docs`."""

OPEN = (
    "`user_id` is any name, such as `ada`: anyone may act for any user, because AUTH_MODE is open.",
)

CLOSED = (
    "Paste a token under Authorize: of the sign-in (Better Auth: `/api/auth/token`), or personal.",
    "`user_id` is the token's own user; other users' paths are 403.",
)

FOR_ALL = (
    "A list without `limit` has all tasks; with it, `Link` leads to the next page.",
    "With an `Idempotency-Key`, a create or a batch can be sent again when its answer was lost.",
    "Times are RFC 3339, and answered in UTC; a due date may be a day, which `time_zone` places.",
    "`/changes` says what changed since an earlier answer: at once, after a wait, or as a stream.",
    "Each error is an RFC 9457 problem; its `detail` is a sentence that a user can be shown.",
    "Unknown names are ignored; with `Prefer: handling=strict`, they are refused.",
)


def introduction(*, with_tokens: bool) -> str:
    return "\n".join(f"- {line}" for line in (*(CLOSED if with_tokens else OPEN), *FOR_ALL))
