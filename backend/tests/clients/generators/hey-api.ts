import { client } from "./made/hey-api/client.gen";
import * as api from "./made/hey-api";
import { baseUrl, drive, TOKEN, user as user_id } from "./scenario";

client.setConfig({ baseUrl, auth: () => TOKEN, throwOnError: true });
const path = { user_id };
const throwOnError = true as const;

await drive<api.TaskPublic>({
  create: async (title) => (await api.createTask({ path, body: { title }, throwOnError })).data,
  list: async (q) => (await api.listUserTasks({ path, query: { q, sort: "title" }, throwOnError })).data,
  patch: async (task_id, title) =>
    (await api.patchTask({ path: { ...path, task_id }, body: { title }, throwOnError })).data,
  toggle: async (task_id) =>
    (await api.toggleTaskCompletion({ path: { ...path, task_id }, body: {}, throwOnError })).data,
  complete: async (task_id) =>
    (await api.toggleTaskCompletion({ path: { ...path, task_id }, body: { completed: true }, throwOnError })).data,
  batch: async (id, other) =>
    (
      await api.batchTasks({
        path,
        body: {
          operations: [
            { op: "create", task: { title: "Made" } },
            { op: "update", id, task: { title: "Changed" } },
            { op: "delete", id: other },
          ],
        },
        throwOnError,
      })
    ).data,
});

export async function theseDoNotCompile(): Promise<void> {
  // @ts-expect-error a task has a title, not a name
  await api.createTask({ path, body: { name: "Buy milk" } });
  // @ts-expect-error there is no such order
  await api.listUserTasks({ path, query: { sort: "colour" } });
  // @ts-expect-error there is no such operation
  await api.batchTasks({ path, body: { operations: [{ op: "toggle", id: "1" }] } });
}
