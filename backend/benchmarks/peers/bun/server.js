// Hono on Bun, with Bun's own SQL client, which prepares statements and pipelines them.
import { SQL } from "bun";
import { Hono } from "hono";
import { HTTPException } from "hono/http-exception";
import { validator } from "hono/validator";

const url = new URL(process.env.DATABASE_URL.replace("@/", "@localhost/"));
const folder = url.searchParams.get("host");
const sql = new SQL({
  adapter: "postgres",
  hostname: url.hostname,
  port: Number(url.port || 5432),
  ...(folder && { path: `${folder}/.s.PGSQL.5432` }),
  username: url.username,
  database: url.pathname.slice(1),
  max: Number(process.env.POOL_SIZE),
});
const app = new Hono();

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
const text = (minimum, maximum) => (value) =>
  typeof value === "string" && minimum <= value.length && value.length <= maximum;
const orNull = (accepts) => (value) => value === null || accepts(value);
const tag = text(1, 50);
const accepts = {
  title: text(1, 500),
  description: orNull(text(0, 5000)),
  completed: (value) => typeof value === "boolean",
  priority: (value) => ["low", "medium", "high", "urgent"].includes(value),
  due_date: orNull((value) => typeof value === "string" && !Number.isNaN(Date.parse(value))),
  tags: (value) => Array.isArray(value) && value.length <= 20 && value.every(tag),
};

const invalid = (what) => new HTTPException(422, { message: `Invalid ${what}` });
const id = validator("param", ({ task_id }) => {
  if (!UUID.test(task_id)) throw invalid("id");
});
const fields = (...required) =>
  validator("json", (body) => {
    const sent = {};
    for (const name in accepts) {
      const value = body[name];
      if (value === undefined) {
        if (required.includes(name)) throw invalid(name);
      } else if (accepts[name](value)) {
        sent[name] = name === "tags" ? sql.array(value, "TEXT") : value;
      } else throw invalid(name);
    }
    return sent;
  });

const one = (c, [task], status = 200) =>
  task ? c.json(task, status) : c.json({ detail: "Task not found" }, 404);

app.get("/api/:user_id/tasks", async (c) => {
  const { user_id } = c.req.param();
  return c.json(await sql`SELECT * FROM tasks WHERE user_id = ${user_id} ORDER BY created_at, id`);
});
app.post("/api/:user_id/tasks", fields("title"), async (c) => {
  const { user_id } = c.req.param();
  const task = { id: Bun.randomUUIDv7(), user_id, completed: false, ...c.req.valid("json") };
  return one(
    c,
    await sql`INSERT INTO tasks ${sql({ ...task, created_at: sql`now()`, updated_at: sql`now()` })} RETURNING *`,
    201,
  );
});
app.get("/api/:user_id/tasks/:task_id", id, async (c) => {
  const { user_id, task_id } = c.req.param();
  return one(c, await sql`SELECT * FROM tasks WHERE user_id = ${user_id} AND id = ${task_id}`);
});
app.put("/api/:user_id/tasks/:task_id", id, fields(), async (c) => {
  const { user_id, task_id } = c.req.param();
  const changes = { ...c.req.valid("json"), updated_at: sql`now()` };
  return one(
    c,
    await sql`UPDATE tasks SET ${sql(changes)} WHERE user_id = ${user_id} AND id = ${task_id} RETURNING *`,
  );
});
app.delete("/api/:user_id/tasks/:task_id", id, async (c) => {
  const { user_id, task_id } = c.req.param();
  const { count } = await sql`DELETE FROM tasks WHERE user_id = ${user_id} AND id = ${task_id}`;
  return count
    ? c.json({ message: "Task deleted successfully" })
    : c.json({ detail: "Task not found" }, 404);
});
app.patch("/api/:user_id/tasks/:task_id/complete", id, async (c) => {
  const { user_id, task_id } = c.req.param();
  return one(
    c,
    await sql`UPDATE tasks SET completed = NOT completed, updated_at = now() WHERE user_id = ${user_id} AND id = ${task_id} RETURNING *`,
  );
});

Bun.serve({ hostname: "127.0.0.1", port: Number(process.env.PORT), fetch: app.fetch });
