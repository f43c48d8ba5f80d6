import assert from "node:assert/strict";

export const { BASE_URL: baseUrl = "", TOKEN = "", USER_ID: user = "" } = process.env;
export const headers = { Authorization: `Bearer ${TOKEN}` };

/** What a client's own calls have to be fitted to; each answers the body. */
export interface Calls<Task extends { id: string; title: string; completed: boolean }> {
  create(title: string): Promise<Task>;
  list(q: string): Promise<Task[]>;
  patch(id: string, title: string): Promise<Task>;
  toggle(id: string): Promise<Task>;
  complete(id: string): Promise<Task>;
  batch(id: string, other: string): Promise<{ results: unknown[] }>;
}

export async function drive<Task extends { id: string; title: string; completed: boolean }>(
  calls: Calls<Task>,
): Promise<void> {
  const [first, second] = [await calls.create("Buy milk"), await calls.create("Buy bread")];
  assert.deepEqual(await calls.list("milk"), [first]);
  assert.equal((await calls.patch(first.id, "Buy oat milk")).title, "Buy oat milk");
  assert.equal((await calls.toggle(first.id)).completed, true);
  assert.equal((await calls.toggle(first.id)).completed, false);
  assert.equal((await calls.complete(first.id)).completed, true);
  assert.equal((await calls.complete(first.id)).completed, true);
  const { results } = await calls.batch(first.id, second.id);
  assert.deepEqual(results.map((each) => (each as { status: number }).status), [201, 200, 200]);
  assert.deepEqual((await calls.list("")).map((task) => task.title), ["Changed", "Made"]);
  console.log("driven");
}
