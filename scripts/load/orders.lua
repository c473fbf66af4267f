-- wrk script for the order routes. Environment: BENCH_OP is create, get or list; BENCH_TOKENS is a file with one bearer
-- token per line; BENCH_IDS (for get) is a file with one order id per line.
local tokens, ids = {}, {}
local op = os.getenv("BENCH_OP") or "create"

local function lines(name, into)
  local path = os.getenv(name)
  if path then for line in io.lines(path) do into[#into + 1] = line end end
end

function init()
  math.randomseed(os.time())
  lines("BENCH_TOKENS", tokens)
  lines("BENCH_IDS", ids)
end

function request()
  local headers = { ["Content-Type"] = "application/json", ["Authorization"] = "Bearer " .. tokens[math.random(#tokens)] }
  if op == "get" then return wrk.format("GET", "/api/orders/" .. ids[math.random(#ids)], headers) end
  if op == "list" then return wrk.format("GET", "/api/orders/", headers) end
  local items = {}
  for place = 1, math.random(1, 3) do
    items[place] = string.format('{"product_id":%d,"quantity":%d}', math.random(1, 100), math.random(1, 4))
  end
  return wrk.format("POST", "/api/orders/", headers, '{"items":[' .. table.concat(items, ",") .. "]}")
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format("RESULT %.1f %.2f %.2f %d\n", summary.requests / (summary.duration / 1e6),
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.status + errors.connect + errors.read + errors.write + errors.timeout))
end
