// Fastify 5 with node-postgres: prepared statements, serializers compiled from schemas.
import { randomUUID } from "node:crypto";
import Fastify from "fastify";
import pg from "pg";

const pool = new pg.Pool({
  connectionString: process.env.DATABASE_URL,
  max: Number(process.env.POOL_SIZE),
});
const app = Fastify();

const text = (maxLength, minLength = 0) => ({ type: "string", minLength, maxLength });
const nullable = (schema) => ({ ...schema, nullable: true });
const time = { type: "string", format: "date-time" };
const priority = { type: "string", enum: ["low", "medium", "high", "urgent"] };
const task = {
  type: "object",
  properties: {
    id: { type: "string" },
    user_id: { type: "string" },
    title: { type: "string" },
    description: { type: "string", nullable: true },
    completed: { type: "boolean" },
    priority,
    due_date: nullable(time),
    tags: { type: "array", items: { type: "string" } },
    created_at: time,
    updated_at: time,
  },
};
const message = { type: "object", properties: { message: { type: "string" } } };
const params = {
  type: "object",
  properties: { user_id: text(255, 1), task_id: { type: "string", format: "uuid" } },
};
const fields = {
  title: text(500, 1),
  description: nullable(text(5000)),
  completed: { type: "boolean" },
  priority,
  due_date: nullable(time),
  tags: { type: "array", maxItems: 20, items: text(50, 1) },
};
const columns =
  "id, user_id, title, description, completed, priority, due_date, tags, created_at, updated_at";
const mine = "user_id = $1 AND id = $2";

const query = async (name, sql, values) => (await pool.query({ name, text: sql, values })).rows;
const one = async (reply, name, sql, values) => {
  const [row] = await query(name, sql, values);
  if (row) return row;
  reply.code(404);
  return { detail: "Task not found" };
};

app.get(
  "/api/:user_id/tasks",
  { schema: { params, response: { 200: { type: "array", items: task } } } },
  ({ params: { user_id } }) =>
    query("list", `SELECT ${columns} FROM tasks WHERE user_id = $1 ORDER BY created_at, id`, [
      user_id,
    ]),
);
app.post(
  "/api/:user_id/tasks",
  {
    schema: {
      params,
      body: {
        type: "object",
        required: ["title"],
        properties: fields,
      },
      response: { 201: task },
    },
  },
  ({ params: { user_id }, body }, reply) => {
    reply.code(201);
    return one(
      reply,
      "create",
      `INSERT INTO tasks (${columns}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, now(), now()) RETURNING ${columns}`,
      [
        randomUUID(),
        user_id,
        body.title,
        body.description ?? null,
        body.completed ?? false,
        body.priority ?? "medium",
        body.due_date ?? null,
        body.tags ?? [],
      ],
    );
  },
);
app.get(
  "/api/:user_id/tasks/:task_id",
  { schema: { params, response: { 200: task } } },
  ({ params: { user_id, task_id } }, reply) =>
    one(reply, "get", `SELECT ${columns} FROM tasks WHERE ${mine}`, [user_id, task_id]),
);
app.put(
  "/api/:user_id/tasks/:task_id",
  { schema: { params, body: { type: "object", properties: fields }, response: { 200: task } } },
  ({ params: { user_id, task_id }, body }, reply) => {
    const names = Object.keys(fields).filter((name) => name in body);
    const sets = names.map((name, index) => `${name} = $${index + 3}`);
    return one(
      reply,
      `update ${names}`,
      `UPDATE tasks SET ${[...sets, "updated_at = now()"]} WHERE ${mine} RETURNING ${columns}`,
      [user_id, task_id, ...names.map((name) => body[name])],
    );
  },
);
app.delete(
  "/api/:user_id/tasks/:task_id",
  { schema: { params, response: { 200: message } } },
  async ({ params: { user_id, task_id } }, reply) => {
    await one(reply, "delete", `DELETE FROM tasks WHERE ${mine} RETURNING id`, [user_id, task_id]);
    return { message: "Task deleted successfully" };
  },
);
app.patch(
  "/api/:user_id/tasks/:task_id/complete",
  { schema: { params, response: { 200: task } } },
  ({ params: { user_id, task_id } }, reply) =>
    one(
      reply,
      "toggle",
      `UPDATE tasks SET completed = NOT completed, updated_at = now() WHERE ${mine} RETURNING ${columns}`,
      [user_id, task_id],
    ),
);

await app.listen({ host: "127.0.0.1", port: Number(process.env.PORT) });
