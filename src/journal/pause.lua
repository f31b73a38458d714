--[[
  A gate pauses lane queues for the eye, and resumes only what it paused itself. Does to a queue what BullMQ's own
  pause and resume do (6.7.0: `paused` in meta, the marker), for all lanes in one step. The flag's value tells a gate's
  pause ('gate') from an operator's ('1', which overwrites it), so that an operator's pause is never undone.

  KEYS  1 pauses, then three per lane: meta, marker, wait
  ARGV  1 'pause' | 'resume', 2 owner, 3 time (ms), 4.. queue names
  Returns the number of queues whose state changed, and whether an operator holds one of those that were to be paused (1):
  then none is.
]]
if ARGV[1] == 'pause' then
  for i = 0, #ARGV - 4 do
    local flag = redis.call('HGET', KEYS[2 + i * 3], 'paused')
    if flag and flag ~= 'gate' then return {0, 1} end
  end
end
local changed = 0
for i = 0, #ARGV - 4 do
  local queue = ARGV[4 + i]
  local meta, marker, wait = KEYS[2 + i * 3], KEYS[3 + i * 3], KEYS[4 + i * 3]
  local field = queue .. '|' .. ARGV[2]
  if ARGV[1] == 'pause' then
    if redis.call('HSETNX', meta, 'paused', 'gate') == 1 then
      redis.call('HSET', KEYS[1], field, ARGV[3])
      redis.call('DEL', marker)
      changed = changed + 1
    end
  elseif redis.call('HDEL', KEYS[1], field) == 1 then
    if redis.call('HGET', meta, 'paused') == 'gate' then
      redis.call('HDEL', meta, 'paused')
      if redis.call('LLEN', wait) > 0 then redis.call('ZADD', marker, 0, '0') end
      changed = changed + 1
    end
  end
end
return {changed, 0}
