--[[
  Puts right what is left of queues when part of their keys were removed by hand: a gate's pause flag without the record
  that names its owner, and an id that keeps a job from being added although that job is nowhere.

  KEYS  1 pauses, then as many for each queue, those of the first queue first: meta, marker, wait, active,
        key that blocks (a deduplication id, or the job with a fixed id), keys that go with it
  ARGV  per queue its name, and a job id; '' = the value of the key that blocks
  Returns the number of things put right.
]]
local owned = {}
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  local queue = string.match(field, '^(.-)|gate:')
  if queue then owned[queue] = true end
end
local changed = 0
local queues = #ARGV / 2
local width = (#KEYS - 1) / queues
for i = 0, queues - 1 do
  local queue, job = ARGV[2 * i + 1], ARGV[2 * i + 2]
  local meta, marker, wait, active, blocking = unpack(KEYS, 2 + width * i, 6 + width * i)
  if redis.call('HGET', meta, 'paused') == 'gate' and not owned[queue] then
    redis.call('HDEL', meta, 'paused')
    if redis.call('LLEN', wait) > 0 then redis.call('ZADD', marker, 0, '0') end
    changed = changed + 1
  end
  if redis.call('EXISTS', blocking) == 1 then
    if job == '' then job = redis.call('GET', blocking) end
    if not redis.call('LPOS', wait, job) and not redis.call('LPOS', active, job) then
      for key = 6 + width * i, 1 + width * (i + 1) do redis.call('DEL', KEYS[key]) end
      changed = changed + 1
    end
  end
end
return changed
