-- Charges over HTTP, each of any of so many users and under a key of its own.
-- Arguments: how many users, what all keys begin with.
local users, prefix, sent  -- `thread` is set by `setup`
local features = {"full_distribution", "scenario_extremes", "comparative_analysis"}
local threads = 0

function setup(started)
  started:set("thread", threads)
  threads = threads + 1
end

function init(arguments)
  users, prefix, sent = tonumber(arguments[1]), arguments[2], 0
  math.randomseed(thread + os.time())
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
end

function request()
  sent = sent + 1
  return wrk.format(nil, nil, nil, string.format(
    '{"user_id":"user-%05d","feature":"%s","event_id":"event-%d","idempotency_key":"%s-%02d-%08d"}',
    math.random(0, users - 1), features[math.random(#features)], sent % 1000, prefix, thread, sent))
end

-- A JSON object: seconds, calls, those with another status than 200, and latencies in microseconds
-- with how many calls had each.
function done(summary, latency, requests)
  local latencies = {}
  for number = 1, #latency do
    local value, count = latency(number)
    latencies[number] = string.format("[%d,%d]", value, count)
  end
  local errors = summary.errors
  io.write("\n", string.format(
    '{"seconds":%f,"calls":%d,"failed":%d,"latencies_us":[%s]}', summary.duration / 1e6,
    summary.requests, errors.status + errors.connect + errors.read + errors.write + errors.timeout,
    table.concat(latencies, ",")), "\n")
end
