// Better Auth as a frontend runs it, with its data in memory and the options of its JWT plugin
// from the environment.

import { webcrypto } from "node:crypto";
import { createServer } from "node:http";
import { betterAuth } from "better-auth";
import { memoryAdapter } from "better-auth/adapters/memory";
import { toNodeHandler } from "better-auth/node";
import { jwt } from "better-auth/plugins";

globalThis.crypto ??= webcrypto; // Node 18 does not name it

const auth = betterAuth({
  database: memoryAdapter({ user: [], session: [], account: [], verification: [], jwks: [] }),
  emailAndPassword: { enabled: true },
  session: { cookieCache: { enabled: true, strategy: "jwt" } },
  plugins: [jwt(JSON.parse(process.env.JWT_OPTIONS))],
});

createServer(toNodeHandler(auth)).listen(Number(process.env.PORT), "127.0.0.1");
