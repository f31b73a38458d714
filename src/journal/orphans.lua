--[[
  Puts right what is left of a queue when part of its keys were removed by hand: a gate's pause flag without the record
  that names its owner, and an id that keeps a job from being added although that job is nowhere.

  KEYS  1 pauses, 2 meta, 3 marker, 4 wait, 5 active, 6 key that blocks (a deduplication id, or the job with a fixed id),
        7.. keys that go with it
  ARGV  1 queue name, 2 job id; '' = the value of KEYS[6]
  Returns the number of things put right.
]]
local changed = 0
if redis.call('HGET', KEYS[2], 'paused') == 'gate' then
  local owned = false
  for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
    if string.sub(field, 1, #ARGV[1] + 6) == ARGV[1] .. '|gate:' then owned = true end
  end
  if not owned then
    redis.call('HDEL', KEYS[2], 'paused')
    if redis.call('LLEN', KEYS[4]) > 0 then redis.call('ZADD', KEYS[3], 0, '0') end
    changed = changed + 1
  end
end
if redis.call('EXISTS', KEYS[6]) == 1 then
  local job = ARGV[2]
  if job == '' then job = redis.call('GET', KEYS[6]) end
  if not redis.call('LPOS', KEYS[4], job) and not redis.call('LPOS', KEYS[5], job) then
    for i = 6, #KEYS do redis.call('DEL', KEYS[i]) end
    changed = changed + 1
  end
end
return changed
