import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

type Task = components["schemas"]["TaskPublic"];

const { BASE_URL: baseUrl, TOKEN, USER_ID: user_id = "" } = process.env;
const api = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${TOKEN}` } });
const stranger = createClient<paths>({ baseUrl });

const collection = { path: { user_id } };
const item = (task: Task) => ({ path: { user_id, task_id: task.id } });

function given<T>(answer: { data?: T; error?: unknown; response: Response }, status = 200): T {
  assert.equal(answer.response.status, status, JSON.stringify(answer.error));
  assert(answer.data !== undefined);
  return answer.data;
}

async function create(title: string): Promise<Task> {
  return given(await api.POST("/api/{user_id}/tasks", { params: collection, body: { title } }), 201);
}

async function theServiceIsUp() {
  assert.equal(given(await stranger.GET("/health/live")).message, "alive");
  assert.equal(given(await stranger.GET("/health/ready")).message, "ready");
}

async function nothingThatChangesIsMissed() {
  const path = "/api/{user_id}/tasks/changes";
  const changes = async (since?: string) =>
    given(await api.GET(path, { params: { ...collection, query: { since } } }));
  const before = await changes();
  const task = await create("Hear of it");
  const created = await changes(before.next);
  await api.DELETE("/api/{user_id}/tasks/{task_id}", { params: item(task) });
  const deleted = await changes(created.next);

  assert.deepEqual(before.changes, []);
  assert.deepEqual(created.changes, [task]);
  assert.deepEqual(deleted.changes, [{ id: task.id, deleted: true }]);
  assert.equal(deleted.more, false);
  const wrong = await api.GET(path, { params: { ...collection, query: { since: "x" } } });
  assert.equal(wrong.error?.status, 422);
}

async function aKeyMakesOneTask() {
  const request = {
    params: { ...collection, header: { "Idempotency-Key": randomUUID() } },
    body: { title: "Buy milk", description: null },
  };
  const first = await api.POST("/api/{user_id}/tasks", request);
  const second = await api.POST("/api/{user_id}/tasks", request);

  const task: Task = given(first, 201);
  assert.deepEqual(given(second, 201), task);
  assert.equal(task.user_id, user_id);
  assert.equal(task.description, null);
  assert.equal(first.response.headers.get("Location")?.split("/").at(-1), task.id);
}

async function anETagSavesAnAnswer() {
  const task = await create("Read it");
  const got = await api.GET("/api/{user_id}/tasks/{task_id}", { params: item(task) });
  const header = { "If-None-Match": got.response.headers.get("ETag") ?? "" };
  const again = await api.GET("/api/{user_id}/tasks/{task_id}", {
    params: { ...item(task), header },
  });

  assert.deepEqual(given(got), task);
  assert.equal(again.response.status, 304);
  assert.equal(again.data, undefined);
}

async function anETagKeepsAChange() {
  const task = await create("Change it");
  const path = "/api/{user_id}/tasks/{task_id}";
  const etag = (await api.GET(path, { params: item(task) })).response.headers.get("ETag") ?? "";
  const params = { ...item(task), header: { "If-Match": etag } };
  const patched = await api.PATCH(path, {
    params,
    body: { description: "Two litres" },
    headers: { "Content-Type": "application/merge-patch+json" },
  });
  const lost = await api.PUT(path, { params, body: { title: "Another" } });
  const put = await api.PUT(path, { params: item(task), body: { description: null } });

  assert.equal(given(patched).description, "Two litres");
  assert.equal(lost.response.status, 412);
  assert.equal(lost.error?.detail, "The task has changed since you read it; get it again");
  assert.deepEqual([given(put).title, given(put).description], ["Change it", null]);
}

async function aTaskIsCompletedAndDeleted() {
  const params = item(await create("Complete it"));
  const path = "/api/{user_id}/tasks/{task_id}/complete";
  const toggled = given(await api.PATCH(path, { params }));
  const opened = given(await api.PATCH(path, { params, body: {} }));
  const completed = given(await api.PATCH(path, { params }));
  const set = given(await api.PATCH(path, { params, body: { completed: true } }));
  const deleted = given(await api.DELETE("/api/{user_id}/tasks/{task_id}", { params }));
  const gone = await api.GET("/api/{user_id}/tasks/{task_id}", { params });

  assert.deepEqual([toggled, opened, completed, set].map((each) => each.completed), [true, false, true, true]);
  assert.equal(deleted.message, "Task deleted successfully");
  assert.equal(gone.response.status, 404);
  assert.equal(gone.error?.title, "Not Found");
}

async function aBatchIsAppliedWhole() {
  const [first, second] = [await create("Change it"), await create("Delete it")];
  const path = "/api/{user_id}/tasks/batch";
  const body: components["schemas"]["Batch"] = {
    operations: [
      { op: "create", task: { title: "Buy milk" } },
      { op: "update", id: first.id, if_match: "*", task: { completed: true } },
      { op: "delete", id: second.id },
    ],
  };
  const { results } = given(await api.POST(path, { params: collection, body }));
  const again = await api.POST(path, { params: collection, body });
  const [made, changed, deleted] = results;

  assert(made && "task" in made && changed && "task" in changed && deleted && "message" in deleted);
  assert.deepEqual([made.status, made.task.title], [201, "Buy milk"]);
  assert.equal(changed.task.completed, true);
  assert.equal(deleted.message, "Task deleted successfully");
  const once = { op: "delete" as const, id: changed.task.id, if_match: made.etag };
  const lost = await api.POST(path, { params: collection, body: { operations: [once] } });
  assert.equal(again.response.status, 404);
  assert.deepEqual(again.error?.errors?.[0]?.loc, ["body", "operations", 2]);
  assert.equal(lost.response.status, 412);
}

async function furtherMembersAreKept() {
  const body = { title: "Water plants", recurrence: { every: "week" } };
  const task: Task = given(await api.POST("/api/{user_id}/tasks", { params: collection, body }), 201);
  const patch = { completed: true, recurrence: { on: ["monday"] } };
  const path = "/api/{user_id}/tasks/{task_id}";
  const patched = given(await api.PATCH(path, { params: item(task), body: patch }));
  const cleared = given(await api.PUT(path, { params: item(task), body: { recurrence: null } }));

  assert.deepEqual(task["recurrence"], { every: "week" });
  assert.deepEqual(patched["recurrence"], { every: "week", on: ["monday"] });
  assert(!("recurrence" in cleared));
}

async function linksLeadThroughAllPages() {
  for (const title of ["page 3", "page 1", "page 2"]) await create(title);
  const titles: string[] = [];
  let cursor: string | undefined;
  do {
    const query = { q: "PAGE", sort: "title", limit: 2, cursor } as const;
    const page = await api.GET("/api/{user_id}/tasks", { params: { ...collection, query } });
    titles.push(...given(page).map((task) => task.title));
    const link = /<([^>]*)>; rel="next"/.exec(page.response.headers.get("Link") ?? "");
    cursor = new URL(link?.[1] ?? "/", baseUrl).searchParams.get("cursor") ?? undefined;
  } while (cursor !== undefined);

  assert.deepEqual(titles, ["page 1", "page 2", "page 3"]);
}

async function errorsSayWhatIsWrong() {
  const path = "/api/{user_id}/tasks";
  const empty = await api.POST(path, { params: collection, body: { title: "" } });
  const unknown = await stranger.GET(path, { params: collection });
  const another = await api.GET(path, { params: { path: { user_id: "another" } } });

  assert.equal(empty.response.status, 422);
  assert.deepEqual(empty.error?.errors?.[0]?.loc, ["body", "title"]);
  assert.equal(unknown.response.status, 401);
  assert.equal(unknown.response.headers.get("WWW-Authenticate"), "Bearer");
  assert.equal(another.response.status, 403);
}

async function aScriptGetsATokenThatCanBeEnded() {
  const path = "/api/{user_id}/tokens";
  const body = { name: "Nightly export", scope: "read" as const };
  const made = given(await api.POST(path, { params: collection, body }), 201);
  const one = { path: { user_id, token_id: made.id } };
  const script = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${made.token}` } });
  const tasks = "/api/{user_id}/tasks";
  const listed = given(await api.GET(path, { params: collection }));
  const got = given(await api.GET(`${path}/{token_id}`, { params: one }));
  const read = await script.GET(tasks, { params: collection });
  const written = await script.POST(tasks, { params: collection, body: { title: "Buy milk" } });
  const ended = given(await api.DELETE(`${path}/{token_id}`, { params: one }));
  const late = await script.GET(tasks, { params: collection });

  assert.deepEqual(listed, [got]);
  assert.equal(got.name, "Nightly export");
  assert.equal(read.response.status, 200);
  assert.equal(written.response.status, 403);
  assert.equal(ended.message, "Token deleted successfully");
  assert.equal(late.response.status, 401);
}

export async function theseDoNotCompile(task: Task) {
  const path = "/api/{user_id}/tasks";
  // @ts-expect-error a task has a title, not a name
  await api.POST(path, { params: collection, body: { name: "Buy milk" } });
  // @ts-expect-error a task is completed or not
  await api.PATCH(`${path}/{task_id}/complete`, { params: item(task), body: { completed: "yes" } });
  // @ts-expect-error there is no such operation
  await api.POST(`${path}/batch`, { params: collection, body: { operations: [{ op: "toggle", id: task.id }] } });
  // @ts-expect-error there is no such order
  await api.GET(path, { params: { ...collection, query: { sort: "colour" } } });
  // @ts-expect-error a list is of a user
  await api.GET(path, { params: {} });
  // @ts-expect-error there is no such path
  await api.GET("/api/{user_id}/task");
  // @ts-expect-error an id is text
  await api.GET("/health/live", { params: { header: { "X-Request-ID": 7 } } });
  // @ts-expect-error the title is text, also where others may be anything
  await api.PATCH(`${path}/{task_id}`, { params: item(task), body: { title: 7, recurrence: 7 } });
  // @ts-expect-error the answer has no such field; what a task may have beside is task["name"]
  return task.name;
}

await theServiceIsUp();
await nothingThatChangesIsMissed();
await aKeyMakesOneTask();
await anETagSavesAnAnswer();
await anETagKeepsAChange();
await aTaskIsCompletedAndDeleted();
await aBatchIsAppliedWhole();
await furtherMembersAreKept();
await linksLeadThroughAllPages();
await errorsSayWhatIsWrong();
await aScriptGetsATokenThatCanBeEnded();
