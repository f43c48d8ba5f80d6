import { Api, type TaskPublic } from "./made/swagger";
import { baseUrl, drive, headers, user } from "./scenario";

const { api } = new Api({ baseUrl, baseApiParams: { headers } });

await drive<TaskPublic>({
  create: async (title) => (await api.createTask(user, { title })).data,
  list: async (q) => (await api.listUserTasks(user, { q, sort: "title" })).data,
  patch: async (id, title) => (await api.patchTask(user, id, { title })).data,
  toggle: async (id) => (await api.toggleTaskCompletion(user, id, {})).data,
  complete: async (id) => (await api.toggleTaskCompletion(user, id, { completed: true })).data,
  batch: async (id, other) =>
    (
      await api.batchTasks(user, {
        operations: [
          { op: "create", task: { title: "Made" } },
          { op: "update", id, task: { title: "Changed" } },
          { op: "delete", id: other },
        ],
      })
    ).data,
});

export async function theseDoNotCompile(): Promise<void> {
  // @ts-expect-error a task has a title, not a name
  await api.createTask(user, { name: "Buy milk" });
  // @ts-expect-error there is no such order
  await api.listUserTasks(user, { sort: "colour" });
  // @ts-expect-error there is no such operation
  await api.batchTasks(user, { operations: [{ op: "toggle", id: "1" }] });
}
