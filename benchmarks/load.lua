-- Load for wrk: distinct rows in turn; with CHECK=1 every answer is compared with ONNX Runtime's.
-- The clock of a checked connection includes the check, so only every sixteenth is one (see load.py).
local pool = dofile(os.getenv("POOL"))
local check = os.getenv("CHECK") == "1"
local by_id = os.getenv("BY_ID") == "1"
local think_ms = tonumber(os.getenv("THINK_MS") or "0")
local at = tonumber(os.getenv("OFFSET") or "0")
local threads = {}
local requests = {}

function setup(thread) table.insert(threads, thread) end

function init()
  wrk.method = "POST"
  wrk.headers["content-type"] = "application/json"
  for i, body in ipairs(pool.bodies) do requests[i] = wrk.format(nil, nil, nil, body) end
  wrong = 0
  checked = 0
  first_wrong = ""
end

function request()
  at = at % #requests + 1
  return requests[at]
end

if think_ms > 0 then
  function delay() return think_ms end
end

local function is_right(status, body)
  if status ~= 200 then return false end
  local row = 1
  if by_id then row = tonumber(body:match('"id"%s*:%s*"(%d+)"') or "") end
  local data = body:match('"name"%s*:%s*"probabilities".-"data"%s*:%s*%[([^%]]+)')
  if not row or not data or not pool.first[row] then return false end
  local a, b = data:match("([%d.eE+-]+)%s*,%s*([%d.eE+-]+)")
  a, b = tonumber(a), tonumber(b)
  return a and b and math.abs(a - pool.first[row]) <= pool.tolerance and math.abs(b - pool.second[row]) <= pool.tolerance
end

if check then
  function response(status, headers, body)
    checked = checked + 1
    if not is_right(status, body) then
      wrong = wrong + 1
      if first_wrong == "" then first_wrong = status .. " " .. body:sub(1, 300) end
    end
  end
end

local function quoted(text) return '"' .. text:gsub('[%c"\\]', "?") .. '"' end

function done(summary, latency, _)
  local wrong, checked, first = 0, 0, ""
  for _, thread in ipairs(threads) do
    wrong = wrong + thread:get("wrong")
    checked = checked + thread:get("checked")
    if first == "" then first = thread:get("first_wrong") end
  end
  local e = summary.errors
  io.write(string.format(
    '\nRESULT {"requests":%d,"seconds":%.6f,"p50_ms":%.4f,"p99_ms":%.4f,"not_2xx":%d,"socket_errors":%d,"checked":%d,"wrong":%d,"first_wrong":%s}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    e.status, e.connect + e.read + e.write + e.timeout, checked, wrong, quoted(first)))
end
