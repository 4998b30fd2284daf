-- Prints what wrk's own summary rounds: the benchmark checks the number of bytes.
done = function(summary)
  local e = summary.errors
  io.write(string.format("BENCH %d %d %d %d\n", summary.requests, summary.bytes, summary.duration,
    e.connect + e.read + e.write + e.status + e.timeout))
end
