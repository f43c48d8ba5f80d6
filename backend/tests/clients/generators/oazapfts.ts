import { ok } from "@oazapfts/runtime";
import * as api from "./made/oazapfts";
import { baseUrl, drive, headers, user } from "./scenario";

Object.assign(api.defaults, { baseUrl, headers });

await drive<api.TaskPublic>({
  create: (title) => ok(api.createTask(user, { title })) as Promise<api.TaskPublic>,
  list: (q) => ok(api.listUserTasks(user, { q, sort: "title" })) as Promise<api.TaskPublic[]>,
  patch: (id, title) => ok(api.patchTask(user, id, { title })) as Promise<api.TaskPublic>,
  toggle: (id) => ok(api.toggleTaskCompletion(user, id)) as Promise<api.TaskPublic>,
  complete: (id) =>
    ok(api.toggleTaskCompletion(user, id, { completed: true })) as Promise<api.TaskPublic>,
  batch: (id, other) =>
    ok(
      api.batchTasks(user, {
        operations: [
          { op: "create", task: { title: "Made" } },
          { op: "update", id, task: { title: "Changed" } },
          { op: "delete", id: other },
        ],
      }),
    ) as Promise<api.BatchResults>,
});

export async function theseDoNotCompile(): Promise<void> {
  // @ts-expect-error a task has a title, not a name
  await api.createTask(user, { name: "Buy milk" });
  // @ts-expect-error there is no such order
  await api.listUserTasks(user, { sort: "colour" });
  // @ts-expect-error there is no such operation
  await api.batchTasks(user, { operations: [{ op: "toggle", id: "1" }] });
}
