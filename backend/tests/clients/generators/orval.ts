import * as api from "./made/orval";
import { baseUrl, drive, headers, user } from "./scenario";

// orval's client calls fetch with a path alone, as a page does.
const { fetch } = globalThis;
globalThis.fetch = (path, options) => fetch(new URL(String(path), baseUrl), options);

function data<Answer extends { status: number; data: unknown }>(answer: Answer) {
  if (answer.status >= 300) throw new Error(JSON.stringify(answer));
  return answer.data as Extract<Answer, { status: 200 | 201 }>["data"];
}

const options = { headers };

await drive<api.TaskPublic>({
  create: async (title) => data(await api.createTask(user, { title }, options)),
  list: async (q) => data(await api.listUserTasks(user, { q, sort: "title" }, options)),
  patch: async (id, title) => data(await api.patchTask(user, id, { title }, options)),
  toggle: async (id) => data(await api.toggleTaskCompletion(user, id, {}, options)),
  complete: async (id) => data(await api.toggleTaskCompletion(user, id, { completed: true }, options)),
  batch: async (id, other) =>
    data(
      await api.batchTasks(
        user,
        {
          operations: [
            { op: "create", task: { title: "Made" } },
            { op: "update", id, task: { title: "Changed" } },
            { op: "delete", id: other },
          ],
        },
        options,
      ),
    ),
});

export async function theseDoNotCompile(): Promise<void> {
  // @ts-expect-error a task has a title, not a name
  await api.createTask(user, { name: "Buy milk" });
  // @ts-expect-error there is no such order
  await api.listUserTasks(user, { sort: "colour" });
  // @ts-expect-error there is no such operation
  await api.batchTasks(user, { operations: [{ op: "toggle", id: "1" }] });
}
