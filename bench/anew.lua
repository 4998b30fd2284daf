-- Makes each request another, by a field of its own, so that nothing is answered again from memory.
local head
local count = 0
init = function()
  local whole = wrk.format()
  head = whole:sub(1, #whole - 2) .. "X-Once: "
end
request = function()
  count = count + 1
  return head .. count .. "\r\n\r\n"
end
done = function(summary)
  local e = summary.errors
  io.write(string.format("BENCH %d %d %d %d\n", summary.requests, summary.bytes, summary.duration,
    e.connect + e.read + e.write + e.status + e.timeout))
end
