-- wrk's requests: `wrk -s load.lua URL -- OPERATION USERS [TOKEN]`
local operation, users
local next_row = 0
local json = { ["Content-Type"] = "application/json" }

function init(args)
  operation, users = args[1], tonumber(args[2])
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

function request()
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
  if operation == "update" then
    return wrk.format("PUT", some_task(), json, '{"title": "Buy bread", "completed": true}')
  end
  if operation == "toggle" then return wrk.format("PATCH", some_task() .. "/complete") end
  next_row = next_row + 1
  return wrk.format("DELETE", string.format("/api/d%d/tasks/%s", next_row % 1000, id(next_row)))
end
