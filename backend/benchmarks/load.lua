-- wrk's requests: `wrk -s load.lua URL -- OPERATION USERS TOKEN LOADS NUMBER`
-- Of LOADS at the same time, this one has a NUMBER from 0, and deletes rows of its own.
local operation, users, next_row, step
local json = { ["Content-Type"] = "application/json" }

function init(args)
  operation, users = args[1], tonumber(args[2])
  step = tonumber(args[4])
  next_row = tonumber(args[5]) + 1 - step
  if args[3] ~= "" then wrk.headers["Authorization"] = "Bearer " .. args[3] end
  math.randomseed(os.time())
end

local function id(row)
  return string.format("019aa000-0000-7000-8000-%012x", row)
end

local function some_task()
  local row = math.random(0, users * 20 - 1)
  return string.format("/api/u%d/tasks/%s", math.floor(row / 20), id(row))
end

-- Of one user: tasks 1 to 100 are changed, and those from 101 deleted.
local function of_one_user(what)
  if what == "mix" then
    what = ({ "create", "update", "toggle", "delete" })[math.random(4)]
  end
  if what == "create" then
    return wrk.format("POST", "/api/d0/tasks", json, '{"title": "Buy milk"}')
  end
  if what == "delete" then
    next_row = next_row + step
    return wrk.format("DELETE", "/api/d0/tasks/" .. id(100 + next_row))
  end
  local path = "/api/d0/tasks/" .. id(what == "toggle one" and 1 or math.random(100))
  if what == "update" then return wrk.format("PUT", path, json, '{"title": "Buy bread"}') end
  return wrk.format("PATCH", path .. "/complete")
end

function request()
  local what = operation:match("^one user: (.*)$")
  if what then return of_one_user(what) end
  if operation == "get one" then return wrk.format("GET", some_task()) end
  if operation == "list 20" then
    return wrk.format("GET", string.format("/api/u%d/tasks", math.random(0, users - 1)))
  end
  if operation == "list 100" then
    return wrk.format("GET", string.format("/api/h%d/tasks", math.random(0, 19)))
  end
  if operation == "list 1,000" then
    return wrk.format("GET", string.format("/api/k%d/tasks", math.random(0, 4)))
  end
  if operation == "create" then
    local path = string.format("/api/c%d/tasks", math.random(0, 999))
    return wrk.format("POST", path, json, '{"title": "Buy milk", "description": "Two litres"}')
  end
  if operation == "create, new users" then
    next_row = next_row + step
    local path = string.format("/api/c%d-%d/tasks", os.time(), next_row)
    return wrk.format("POST", path, json, '{"title": "Buy milk"}')
  end
  if operation == "update" then
    return wrk.format("PUT", some_task(), json, '{"title": "Buy bread", "completed": true}')
  end
  if operation == "toggle" then return wrk.format("PATCH", some_task() .. "/complete") end
  next_row = next_row + step
  return wrk.format("DELETE", string.format("/api/d%d/tasks/%s", next_row % 1000, id(next_row)))
end
